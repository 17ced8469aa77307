"""Few enough points to draw, chosen so that no peak is lost.

Series are thinned by row: MinMaxLTTB (Van Der Donckt et al. 2023) picks the rows that
keep the shape and the extremes of one column, and every other column follows. The same
input always gives the same rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from tsdownsample import MinMaxLTTBDownsampler

from effcore.figures.snapshot_rows import (
    AXES,
    ColumnArrays,
    RowIndex,
    eval_rows,
    joules_at,
    power_rows,
    step_rows,
)
from effcore.records import POWER_COLUMNS, STEP_COLUMNS, FloatArray, Snapshot

#: Points per series in a snapshot or a zoomed window.
LIMIT = 1000
#: Points per series in one tick.
TICK_LIMIT = 50
_LOSS = STEP_COLUMNS.index("loss")
_WATTS, _WATTS_HI = POWER_COLUMNS.index("power_w"), POWER_COLUMNS.index("power_hi_w")

_SHAPE = MinMaxLTTBDownsampler()  # type: ignore[no-untyped-call]

Tables = dict[str, ColumnArrays]


class Cursor(NamedTuple):
    """How many rows of each table a viewer has, those included that are kept no more."""

    steps: int = 0
    evals: int = 0
    power: int = 0


def cursor_of(snapshot: Snapshot) -> Cursor:
    """Return the cursor of a viewer who has everything in ``snapshot``."""
    power = snapshot.power_left_out + snapshot.power.shape[1]
    return Cursor(snapshot.steps.shape[1], snapshot.evals.shape[1], power)


def pick(values: FloatArray, limit: int) -> RowIndex:
    """Return at most ``limit`` increasing row numbers, the first and last among them.

    Args:
        values: The column whose shape is kept; NaN is taken as its highest peak, so that
            a break in the line survives.
        limit: At least 4.
    """
    if values.size <= limit:
        return np.arange(values.size)
    finite = np.isfinite(values)
    if not finite.all():
        top = float(values[finite].max()) if finite.any() else 0.0
        values = np.where(finite, values, top + 1.0)
    chosen = _SHAPE.downsample(np.ascontiguousarray(values), n_out=limit)
    return np.unique(chosen).astype(np.intp)


def pick_new(values: FloatArray, since: int, limit: int = TICK_LIMIT) -> RowIndex:
    """Return the rows from ``since`` on to add to a series already drawn.

    They are as dense as :data:`LIMIT` points over the whole series would be, at most
    ``limit``, and always include the newest.
    """
    new = values[since:]
    share = round(LIMIT * new.size / max(values.size, 1))
    bins = min(max(share, 2), limit - 1) // 2  # each gives its lowest and its highest
    if new.size <= 2 * bins + 1:
        return np.arange(since, values.size)
    width = -(-new.size // bins)
    padded = np.full(bins * width, new[-1])
    padded[: new.size] = new
    blocks = np.nan_to_num(padded, nan=np.inf).reshape(bins, width)
    starts = np.arange(0, bins * width, width)
    extremes = [starts + blocks.argmin(axis=1), starts + blocks.argmax(axis=1), [new.size - 1]]
    chosen = np.minimum(np.concatenate(extremes), new.size - 1)
    return since + np.unique(chosen).astype(np.intp)


def tables(snapshot: Snapshot, limit: int = LIMIT) -> Tables:
    """Return the run's series, at most ``limit`` points each."""
    return {
        "steps": step_rows(snapshot, pick(snapshot.steps[_LOSS], limit)),
        "evals": eval_rows(snapshot),
        "power": power_rows(snapshot, pick(_watts(snapshot), limit)),
    }


def new_rows(snapshot: Snapshot, cursor: Cursor) -> Tables:
    """Return the tables of which a viewer at ``cursor`` lacks rows, with those rows.

    At most :data:`TICK_LIMIT` points of each.
    """
    arrived, new = cursor_of(snapshot), Tables()
    if arrived.steps > cursor.steps:
        steps = pick_new(snapshot.steps[_LOSS], cursor.steps)
        new["steps"] = step_rows(snapshot, steps, since=cursor.steps)
    if arrived.evals > cursor.evals:
        new["evals"] = eval_rows(snapshot, since=cursor.evals)
    if arrived.power > cursor.power:
        since = max(cursor.power - snapshot.power_left_out, 0)
        new["power"] = power_rows(snapshot, pick_new(_watts(snapshot), since))
    return new


def window(snapshot: Snapshot, axis: str, x0: float, x1: float, limit: int = LIMIT) -> Tables:
    """Return the training and power series between two positions on an axis, finely.

    Args:
        snapshot: The run.
        axis: One of :data:`effcore.figures.snapshot_rows.AXES`.
        x0: Left end, in units of the axis.
        x1: Right end.
        limit: Most points per series.

    Raises:
        ValueError: No such axis.
    """
    steps = _between(_step_axis(snapshot, axis), x0, x1)
    power = _between(power_rows(snapshot)[axis], x0, x1)
    return {
        "steps": step_rows(
            snapshot,
            steps.start + pick(snapshot.steps[_LOSS][steps], limit),
            since=steps.start,
        ),
        "power": power_rows(snapshot, power.start + pick(_watts(snapshot)[power], limit)),
    }


def _watts(snapshot: Snapshot) -> FloatArray:
    watts: FloatArray = snapshot.power[_WATTS]
    if watts.size and not np.isfinite(watts[-1]):
        watts = snapshot.power[_WATTS_HI]
    return watts


def _step_axis(snapshot: Snapshot, axis: str) -> FloatArray:
    if axis not in AXES:
        raise ValueError(f"axis={axis!r} is not one of {', '.join(AXES)}; choose one of them")
    if axis == "joules":
        return joules_at(snapshot.power, snapshot.column("seconds"))
    if axis == "epochs":
        return snapshot.column("considered") / (snapshot.start.n_train if snapshot.start else 1)
    return snapshot.column(axis)


def _between(x: FloatArray, x0: float, x1: float) -> slice:
    """Return the rows of an increasing ``x`` from ``x0`` to ``x1`` and one beyond each."""
    first, last = np.searchsorted(x, x0), np.searchsorted(x, x1, side="right")
    return slice(max(int(first) - 1, 0), min(int(last) + 1, x.size))
