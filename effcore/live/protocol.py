"""Binary messages of the live stream: rows of a run, picked and encoded.

A message is a JSON header, then raw arrays. Layout: the length of the header as little-endian
uint32; the header in UTF-8, padded with spaces to a multiple of eight; then the arrays, each
padded likewise, so that a browser can read them in place. Tables are float32 of shape
(columns, rows).

Long series are downsampled with their peaks preserved: MinMaxLTTB (Van Der Donckt et al. 2023)
picks the rows that preserve the shape and the extremes of one column; all other columns use the
same rows. The same input always gives the same rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tsdownsample import MinMaxLTTBDownsampler

from effcore.figures.snapshot_rows import (
    AXES,
    EVAL_ROWS,
    POWER_ROWS,
    STEP_ROWS,
    ColumnArrays,
    RowIndex,
    change_marks,
    eval_rows,
    histogram_rows,
    joules_at,
    power_rows,
    step_rows,
)
from effcore.records import (
    POWER_COLUMNS,
    STEP_COLUMNS,
    FloatArray,
    KnobChange,
    LossHistogram,
    Snapshot,
    ViewEvent,
)
from effcore.records.views import view_arrays, view_header

Array = NDArray[Any]
Tables = dict[str, ColumnArrays]
#: Columns of the tables in a frame, by table; those of ``ref_`` tables are the same.
FRAME_COLUMNS: Final = {"steps": STEP_ROWS, "evals": EVAL_ROWS, "power": POWER_ROWS}
#: Points per series in a snapshot or a zoomed window.
MAX_POINTS = 1000
#: New points per series in one frame.
MAX_POINTS_PER_FRAME = 50
_LOSS_COLUMN = STEP_COLUMNS.index("loss")
_POWER_COLUMN, _POWER_HI_COLUMN = POWER_COLUMNS.index("power_w"), POWER_COLUMNS.index("power_hi_w")

_MIN_MAX_LTTB = MinMaxLTTBDownsampler()  # type: ignore[no-untyped-call]


def encode_frame(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """Return one message; ``arrays`` in the header lists name, type and shape of each array."""
    described = [[name, a.dtype.str, a.shape] for name, a in arrays.items()]
    text = json.dumps({**header, "arrays": described}, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 4) % 8)
    parts = [len(text).to_bytes(4, "little"), text]
    for array in arrays.values():
        raw = np.ascontiguousarray(array).tobytes()
        parts += [raw, bytes(-len(raw) % 8)]
    return b"".join(parts)


def decode_frame(frame: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the header and the arrays of a message from :func:`encode_frame`."""
    offset = 4 + int.from_bytes(frame[:4], "little")
    header: dict[str, Any] = json.loads(frame[4:offset])
    arrays: dict[str, Array] = {}
    for name, dtype, shape in header["arrays"]:
        count = math.prod(shape)
        arrays[name] = np.frombuffer(frame, dtype, count, offset).reshape(shape)
        offset += arrays[name].nbytes + -arrays[name].nbytes % 8
    return header, arrays


# Rows of the tables ----------------------------------------------------------------------


class RowCursor(NamedTuple):
    """Rows of each table that a viewer has, including rows that the run has dropped."""

    steps: int = 0
    evals: int = 0
    power: int = 0


def cursor_at_end(snapshot: Snapshot) -> RowCursor:
    """Return the cursor of a viewer that has all rows of ``snapshot``."""
    power = snapshot.power_left_out + snapshot.power.shape[1]
    return RowCursor(snapshot.steps.shape[1], snapshot.evals.shape[1], power)


def pick_rows(values: FloatArray, limit: int) -> RowIndex:
    """Return at most ``limit`` increasing row numbers, the first and last among them.

    Args:
        values: The column whose shape is preserved; NaN counts as its highest peak, so that
            gaps in the line are preserved.
        limit: At least 4.
    """
    if values.size <= limit:
        return np.arange(values.size)
    finite = np.isfinite(values)
    if not finite.all():
        maximum = float(values[finite].max()) if finite.any() else 0.0
        values = np.where(finite, values, maximum + 1.0)
    chosen = _MIN_MAX_LTTB.downsample(np.ascontiguousarray(values), n_out=limit)
    return np.unique(chosen).astype(np.intp)


def pick_new_rows(
    values: FloatArray, first_row: int, limit: int = MAX_POINTS_PER_FRAME
) -> RowIndex:
    """Return the rows from ``first_row`` on to append to a series that is already drawn.

    They are as dense as :data:`MAX_POINTS` points over the whole series, at most ``limit``, and
    always include the newest row.
    """
    new = values[first_row:]
    share = round(MAX_POINTS * new.size / max(values.size, 1))
    bins = min(max(share, 2), limit - 1) // 2  # each bin gives its minimum and maximum
    if new.size <= 2 * bins + 1:
        return np.arange(first_row, values.size)
    width = -(-new.size // bins)
    padded = np.full(bins * width, new[-1])
    padded[: new.size] = new
    blocks = np.nan_to_num(padded, nan=np.inf).reshape(bins, width)
    starts = np.arange(0, bins * width, width)
    extremes = [starts + blocks.argmin(axis=1), starts + blocks.argmax(axis=1), [new.size - 1]]
    chosen = np.minimum(np.concatenate(extremes), new.size - 1)
    return first_row + np.unique(chosen).astype(np.intp)


def downsampled_tables(snapshot: Snapshot, limit: int = MAX_POINTS) -> Tables:
    """Return the run's series, at most ``limit`` points each."""
    return {
        "steps": step_rows(snapshot, pick_rows(snapshot.steps[_LOSS_COLUMN], limit)),
        "evals": eval_rows(snapshot),
        "power": power_rows(snapshot, pick_rows(_power_values(snapshot), limit)),
    }


def new_row_tables(snapshot: Snapshot, cursor: RowCursor) -> Tables:
    """Return the rows that a viewer at ``cursor`` lacks, by table, without complete tables.

    Each table has at most :data:`MAX_POINTS_PER_FRAME` rows, except the evaluations.
    """
    end, new = cursor_at_end(snapshot), Tables()
    if end.steps > cursor.steps:
        steps = pick_new_rows(snapshot.steps[_LOSS_COLUMN], cursor.steps)
        new["steps"] = step_rows(snapshot, steps, since=cursor.steps)
    if end.evals > cursor.evals:
        new["evals"] = eval_rows(snapshot, since=cursor.evals)
    if end.power > cursor.power:
        since = max(cursor.power - snapshot.power_left_out, 0)
        new["power"] = power_rows(snapshot, pick_new_rows(_power_values(snapshot), since))
    return new


def window_tables(
    snapshot: Snapshot, axis: str, x0: float, x1: float, limit: int = MAX_POINTS
) -> Tables:
    """Return the training and power series between two positions on an axis, for zooming.

    Args:
        snapshot: The run.
        axis: One of :data:`effcore.figures.snapshot_rows.AXES`.
        x0: Left end, in units of the axis.
        x1: Right end.
        limit: Maximum number of points per series.

    Raises:
        ValueError: There is no such axis.
    """
    steps = _rows_between(_step_axis_values(snapshot, axis), x0, x1)
    power = _rows_between(power_rows(snapshot)[axis], x0, x1)
    return {
        "steps": step_rows(
            snapshot,
            steps.start + pick_rows(snapshot.steps[_LOSS_COLUMN][steps], limit),
            since=steps.start,
        ),
        "power": power_rows(
            snapshot, power.start + pick_rows(_power_values(snapshot)[power], limit)
        ),
    }


def _power_values(snapshot: Snapshot) -> FloatArray:
    watts: FloatArray = snapshot.power[_POWER_COLUMN]
    if watts.size and not np.isfinite(watts[-1]):
        watts = snapshot.power[_POWER_HI_COLUMN]
    return watts


def _step_axis_values(snapshot: Snapshot, axis: str) -> FloatArray:
    if axis not in AXES:
        raise ValueError(f"axis={axis!r} is not one of {', '.join(AXES)}; choose one of them")
    if axis == "joules":
        return joules_at(snapshot.power, snapshot.column("seconds"))
    if axis == "epochs":
        return snapshot.column("considered") / (snapshot.start.n_train if snapshot.start else 1)
    return snapshot.column(axis)


def _rows_between(x: FloatArray, x0: float, x1: float) -> slice:
    """Return the rows of an increasing ``x`` from ``x0`` to ``x1``, and one more on each side."""
    first, last = np.searchsorted(x, x0), np.searchsorted(x, x1, side="right")
    return slice(max(int(first) - 1, 0), min(int(last) + 1, x.size))


def table_arrays(tables: Tables, prefix: str = "") -> dict[str, Array]:
    """Return tables as float32 arrays of shape (columns, rows), without the empty ones."""
    arrays: dict[str, Array] = {}
    for name, rows in tables.items():
        if rows["step"].size:
            matrix = np.stack([rows[column] for column in FRAME_COLUMNS[name]])
            arrays[prefix + name] = matrix.astype(np.float32)
    return arrays


# Other parts -----------------------------------------------------------------------------


def histogram_part(histogram: LossHistogram | None) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the header entry and the array of a loss histogram."""
    if histogram is None:
        return {}, {}
    bars = histogram_rows(histogram)
    threshold = float(histogram.threshold)
    header = {
        "step": histogram.step,
        "threshold": threshold if math.isfinite(threshold) and threshold > 0 else None,
        "unseen": int(histogram.n_unseen),
    }
    return {"histogram": header}, {"histogram": np.stack(bars).astype(np.float32)}


def view_part(
    view: ViewEvent | None, sent_view: ViewEvent | None = None
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the header entry and the arrays of a task's view, named ``view/item/array``.

    Arrays that are the same objects as in ``sent_view``, such as a constant target, are left out,
    and so are items without a new array.
    """
    if view is None:
        return {}, {}
    sent_arrays = {} if sent_view is None else _view_arrays(sent_view)
    arrays = {n: a for n, a in _view_arrays(view).items() if sent_arrays.get(n) is not a}
    new_items = {key.removeprefix("view/").rpartition("/")[0] for key in arrays}
    items = {name: view_header(item) for name, item in view.items.items() if name in new_items}
    header = {"step": view.step, "captions": dict(view.captions), "items": items}
    return {"view": header}, arrays


def _view_arrays(view: ViewEvent) -> dict[str, Array]:
    return {
        f"view/{name}/{part}": array
        for name, item in view.items.items()
        for part, array in view_arrays(item).items()
    }


def marks_part(snapshot: Snapshot, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the header entries of the knob changes.

    ``marks`` holds positions and texts; ``applied`` holds the step at which each knob last changed.
    """
    marks = [
        {
            # JSON has no NaN.
            "x": {k: v if math.isfinite(v) else None for k, v in mark.x.items()},
            "text": _change_mark_text(mark.step, mark.name, mark.value_before, mark.value, labels),
        }
        for mark in change_marks(snapshot)
    ]
    latest: dict[str, KnobChange] = {change.name: change for change in snapshot.changes}
    return {"marks": marks, "applied": {name: c.step for name, c in latest.items()}}


def _change_mark_text(
    step: int, name: str, value_before: float | None, value: float, labels: Mapping[str, str]
) -> str:
    old = "" if value_before is None else f"{value_before:g} → "
    return f"{labels.get(name, name)} {old}{value:g}, from step {step:,}"
