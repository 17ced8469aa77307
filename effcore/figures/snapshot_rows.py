"""Rows of charts and exports from a snapshot, with all derived columns.

Every function of a table returns a mapping of column name to float64 array, all of the same
length; the live stream, the figures and the exports use the same columns. Each time series
contains the five horizontal axes (:data:`AXES`) besides its own values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effcore.records import (
    EVAL_COLUMNS,
    POWER_COLUMNS,
    STEP_COLUMNS,
    FloatArray,
    KnobChange,
    LossHistogram,
    Snapshot,
)

ColumnArrays = dict[str, FloatArray]
RowIndex = NDArray[np.intp]

#: Horizontal axes with their titles, in display order.
AXES: Final = {
    "step": "Steps",
    "epochs": "Epochs",
    "seconds": "Seconds",
    "flops": "FLOPs",
    "joules": "Joules",
}
#: Columns of each table as streamed and drawn.
STEP_ROWS: Final = (*AXES, "loss", "loss_mean", "skipped_now", "skipped", "skipped_gross")
EVAL_ROWS: Final = (*AXES, "loss", "metric")
POWER_ROWS: Final = (*AXES, *POWER_COLUMNS[1:])

_STEP, _CONSIDERED, _SECONDS, _FLOPS, _SELECTION, _LOSS = (
    STEP_COLUMNS.index(name)
    for name in ("step", "considered", "seconds", "flops", "selection_flops", "loss")
)
_POWER_SECONDS, _ENERGY, _ENERGY_LO, _ENERGY_HI = (
    POWER_COLUMNS.index(name) for name in ("seconds", "energy_j", "energy_lo_j", "energy_hi_j")
)
#: Part of an epoch over which "now" is averaged: long enough to even out the draws.
RECENT_EPOCHS: Final = 0.5
#: Shortest time between power samples from which the last power is computed, s.
MIN_RATE_WINDOW_S: Final = 0.2
#: Changes of one knob less than this many seconds apart are shown as one.
DRAG_MERGE_S: Final = 1.0


class KnobChangeMark(NamedTuple):
    """A knob change on a chart; a drag of many changes is one mark, at its end."""

    step: int
    name: str
    value_before: float | None  # value before the drag, where known
    value: float
    change_count: int
    x: dict[str, float]  # position on each axis


class HistogramBars(NamedTuple):
    """Histogram bars over log10 of the loss; a bin that contains the threshold has two bars."""

    centre: FloatArray  # log10 of the loss
    width: FloatArray  # decades
    examples: FloatArray  # of the whole bin, also if it has two bars
    lo: FloatArray  # range of the whole bin, also if it has two bars, in units of the loss
    hi: FloatArray
    cut: NDArray[np.bool_]  # below the threshold


def skipped_rows(
    steps: FloatArray,
    flops_per_example: float,
    n_train: int,
    row_indices: RowIndex | None = None,
) -> ColumnArrays:
    """Return the skipped fraction of computation at rows of the step table.

    A fraction is 1 − FLOPs spent ÷ FLOPs of dense training over the same examples.

    Args:
        steps: Step table, shape (columns, rows), columns as in ``STEP_COLUMNS``.
        flops_per_example: FLOPs of one dense step, per example.
        n_train: Examples in an epoch.
        row_indices: Indices of the rows to return; by default all.

    Returns:
        ``skipped_now`` over the last half epoch and ``skipped`` since the start, both including
        the cost of selection; ``skipped_gross``, since the start without that cost; and
        ``selection``, the difference of the last two.
    """
    considered, spent = steps[_CONSIDERED], steps[_FLOPS]
    rows = np.arange(considered.size) if row_indices is None else row_indices
    considered_now, flops = considered[rows], spent[rows]
    window_start = (
        np.searchsorted(considered, considered_now - RECENT_EPOCHS * n_train, side="right") - 1
    )
    starts_at_zero = window_start < 0  # the window begins before the first step
    considered_before = np.where(starts_at_zero, 0.0, considered[window_start])
    flops_before = np.where(starts_at_zero, 0.0, spent[window_start])
    dense = considered_now * flops_per_example
    with np.errstate(divide="ignore", invalid="ignore"):
        skipped_now = 1.0 - (flops - flops_before) / (
            (considered_now - considered_before) * flops_per_example
        )
        skipped_total = 1.0 - flops / dense
        selection = steps[_SELECTION][rows] / dense
    return {
        "skipped_now": skipped_now,
        "skipped": skipped_total,
        "skipped_gross": skipped_total + selection,
        "selection": selection,
    }


def joules_at(power_table: FloatArray, seconds: FloatArray) -> FloatArray:
    """Return the energy used up to each time, J, for use as a horizontal axis.

    Where only an interval is known, its geometric mean is used; the axis title says so. After
    the last sample the mean power of the last second is extrapolated. NaN without any sample.
    """
    if power_table.size == 0 or seconds.size == 0:
        return np.full(seconds.shape, np.nan)
    t, e = _recent_energy_samples(power_table, float(seconds.min()))
    if t.size == 0:
        return np.full(seconds.shape, np.nan)
    second_ago = min(int(np.searchsorted(t, t[-1] - 1.0)), t.size - 2)  # about a second ago
    elapsed = t[-1] - t[second_ago]
    power_w = (e[-1] - e[second_ago]) / elapsed if elapsed > MIN_RATE_WINDOW_S else 0.0
    after_last_s: FloatArray = np.maximum(seconds - t[-1], 0.0)
    result: FloatArray = np.interp(seconds, t, e) + power_w * after_last_s
    return result


def _recent_energy_samples(power: FloatArray, since: float) -> tuple[FloatArray, FloatArray]:
    """Return times and energies from ``since`` on, and at least those of the last second.

    Only the end of a long table is read, because this runs ten times a second.
    """
    times = power[_POWER_SECONDS]
    first = int(np.searchsorted(times, min(since, times[-1] - 1.0)))
    part = power[:, max(first - 1, 0) :]
    energy = part[_ENERGY]
    if not np.isfinite(energy).any():
        energy = np.sqrt(part[_ENERGY_LO] * part[_ENERGY_HI])
    known = np.isfinite(energy)
    t, e = part[_POWER_SECONDS][known], energy[known]
    if t.size and t[0] == times[0]:  # nothing was used before the run began
        t, e = np.concatenate([[0.0], t]), np.concatenate([[0.0], e])
    return t, e


def step_rows(
    snapshot: Snapshot, row_indices: RowIndex | None = None, since: int = 0
) -> ColumnArrays:
    """Return the training series at rows ``row_indices`` of the step table (all by default).

    ``loss_mean`` is the mean loss since the previous row in ``row_indices`` (since row ``since``
    for the first), so that smoothing a thinned series does not favour its extremes.
    """
    steps, start = snapshot.steps, snapshot.start
    rows = np.arange(since, steps.shape[1]) if row_indices is None else row_indices
    if start is None or rows.size == 0:
        return {name: np.empty(0) for name in STEP_ROWS}
    loss = steps[_LOSS]
    starts = np.concatenate([[min(since, rows[0])], rows[:-1] + 1]).astype(np.intp)
    sums = np.add.reduceat(loss[: rows[-1] + 1], starts)
    skipped = skipped_rows(steps, start.flops_per_example, start.n_train, rows)
    result = _axis_columns(snapshot, steps[_SECONDS][rows], rows)
    result |= {"loss": loss[rows], "loss_mean": sums / (rows - starts + 1)}
    return result | {name: skipped[name] for name in STEP_ROWS[-3:]}


def eval_rows(snapshot: Snapshot, since: int = 0) -> ColumnArrays:
    """Return the evaluations from row ``since`` on."""
    evals = dict(zip(EVAL_COLUMNS, snapshot.evals[:, since:], strict=True))
    n_train = snapshot.start.n_train if snapshot.start else 1
    result = {
        "step": evals["step"],
        "epochs": evals["considered"] / n_train,
        "seconds": evals["seconds"],
        "flops": evals["flops"],
        "joules": joules_at(snapshot.power, evals["seconds"]),
    }
    return result | {"loss": evals["loss"], "metric": evals["metric"]}


def power_rows(
    snapshot: Snapshot, row_indices: RowIndex | None = None, since: int = 0
) -> ColumnArrays:
    """Return the power samples, with their position on every axis by time."""
    rows = np.arange(since, snapshot.power.shape[1]) if row_indices is None else row_indices
    power = snapshot.power[:, rows]
    result = _axis_columns(snapshot, power[_POWER_SECONDS])
    return result | dict(zip(POWER_COLUMNS[1:], power[1:], strict=True))


def _axis_columns(
    snapshot: Snapshot, seconds: FloatArray, rows: RowIndex | None = None
) -> ColumnArrays:
    """Return the five axes at given times: exact at rows of the step table, else interpolated."""
    n_train = snapshot.start.n_train if snapshot.start else 1

    def column(index: int) -> FloatArray:
        if rows is not None:
            exact: FloatArray = snapshot.steps[index][rows]
            return exact
        t, values = snapshot.steps[_SECONDS], snapshot.steps[index]
        if not t.size:
            return np.zeros(seconds.shape)
        interpolated: FloatArray = np.interp(seconds, t, values, left=0.0)
        return interpolated

    return {
        "step": column(_STEP),
        "epochs": column(_CONSIDERED) / n_train,
        "seconds": seconds,
        "flops": column(_FLOPS),
        "joules": joules_at(snapshot.power, seconds),
    }


def change_marks(snapshot: Snapshot) -> tuple[KnobChangeMark, ...]:
    """Return the knob changes to mark on the charts, oldest first; drags are merged."""
    values: dict[str, float | None] = dict(snapshot.config.knobs)
    marks: list[KnobChangeMark] = []
    for change, x in zip(snapshot.changes, _change_positions(snapshot), strict=True):
        last = marks[-1] if marks else None
        before, change_count = values.get(change.name), 1
        if last and last.name == change.name and x["seconds"] - last.x["seconds"] < DRAG_MERGE_S:
            marks.pop()
            before, change_count = last.value_before, last.change_count + 1
        values[change.name] = change.value
        marks.append(
            KnobChangeMark(change.step, change.name, before, float(change.value), change_count, x)
        )
    return tuple(marks)


def _change_positions(snapshot: Snapshot) -> list[dict[str, float]]:
    changes: Sequence[KnobChange] = snapshot.changes
    if not changes:
        return []
    if not snapshot.steps.shape[1]:
        return [dict.fromkeys(AXES, 0.0) for _ in changes]
    row_before = np.searchsorted(snapshot.steps[_STEP], [c.step for c in changes], side="right") - 1
    rows = np.maximum(row_before, 0)
    axes = _axis_columns(snapshot, snapshot.steps[_SECONDS][rows], rows)
    # A change before the first batch: nothing was spent by then.
    return [
        {name: float(axes[name][i]) if row_before[i] >= 0 else 0.0 for name in AXES}
        for i in range(len(changes))
    ]


def histogram_rows(histogram: LossHistogram | None) -> HistogramBars:
    """Return the bars of a loss histogram, with the bin at the threshold split in two."""
    if histogram is None or histogram.counts.size == 0:
        empty = np.empty(0)
        return HistogramBars(empty, empty, empty, empty, empty, np.empty(0, dtype=np.bool_))
    positive = histogram.edges[histogram.edges > 0]
    edges = np.maximum(histogram.edges, positive.min() if positive.size else 1e-12)
    lo, hi, count = edges[:-1], edges[1:], histogram.counts.astype(np.float64)
    threshold = float(histogram.threshold)
    # No bin contains a threshold that is NaN.
    cut_bins = np.flatnonzero((lo < threshold) & (threshold < hi))
    bins, lower_edges, upper_edges = np.arange(count.size), lo, hi
    if cut_bins.size:
        i = int(cut_bins[0])
        bins = np.insert(bins, i, i)
        lower_edges, upper_edges = np.insert(lo, i + 1, threshold), np.insert(hi, i, threshold)
    left, right = np.log10(lower_edges), np.log10(upper_edges)
    bin_columns = (count[bins], lo[bins], hi[bins])
    cut = upper_edges <= threshold
    cut[-1:] = False  # the last bin also counts all losses above its range
    return HistogramBars((left + right) / 2, right - left, *bin_columns, cut)
