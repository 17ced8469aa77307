"""What a run says about itself in words and numbers: status, tiles, time left.

Plain JSON types, ready to show: the live panel's header and tiles show these texts as they
are. What a finished run came to is written for lists and terminals in ``effcore.runs.summary``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from effcore.figures.snapshot_rows import ColumnArrays, joules_at, skipped_rows
from effcore.impact.reference_comparison import (
    RunSaving,
    compare_with_reference,
    computation_not_spent,
)
from effcore.impact.saving import SavingBasis
from effcore.impact.saving_text import (
    REFERENCE_HINT,
    change_text,
    computation_change_text,
    not_spent_text,
    quality_change_text,
    seeds_text,
    time_change_text,
)
from effcore.records import (
    EVAL_COLUMNS,
    STEP_COLUMNS,
    EnergyQuality,
    FloatArray,
    RunStatus,
    Snapshot,
)
from effcore.records.run_description import RunDescription
from effcore.records.units import clock_text, si_number_and_prefix

_STEP_CONSIDERED, _STEP_SECONDS, _STEP_FLOPS = (
    STEP_COLUMNS.index(name) for name in ("considered", "seconds", "flops")
)
_EVAL_CONSIDERED, _EVAL_METRIC = EVAL_COLUMNS.index("considered"), EVAL_COLUMNS.index("metric")
_NO_VALUE = "–"
_CUT_SHORT_STATUSES = (RunStatus.STOPPED, RunStatus.FAILED, RunStatus.INTERRUPTED)
#: A tile: what it is called, its number, and lines of detail beneath.
Tile = dict[str, Any]


def status_with_tiles(
    snapshot: Snapshot, description: RunDescription, reference: Snapshot | None = None
) -> dict[str, Any]:
    """Return the state of a run and its five tiles.

    Args:
        snapshot: The run.
        description: Titles and labels of the run.
        reference: The dense run to compare with.
    """
    last = snapshot.steps[:, -1] if snapshot.steps.shape[1] else np.zeros(len(STEP_COLUMNS))
    finished = snapshot.status is RunStatus.FINISHED
    return {
        "status": snapshot.status.value,
        "reason": snapshot.reason,
        # One more step would have gone beyond the end of a run that has finished.
        "progress": 1.0 if finished else snapshot.progress,
        "step": int(last[0]),
        "passes": _epoch_progress_text(snapshot, float(last[_STEP_CONSIDERED])),
        "eta": _time_left_text(snapshot, float(last[_STEP_SECONDS])),
        "exploratory": snapshot.exploratory,
        "knobs": dict(snapshot.knobs),
        "version": len(snapshot.changes),
        "tiles": run_tiles(snapshot, description, reference),
    }


def _epoch_progress_text(snapshot: Snapshot, considered: float) -> str:
    """Return how many passes over the data there were, and what ends them.

    What does not fill a last batch is considered and not trained on: a run that has finished
    counts it, the steps do not.
    """
    if snapshot.end is not None:
        considered = float(snapshot.end.examples_considered)
    passes = considered / snapshot.start.n_train if snapshot.start else 0.0
    finished, budget = snapshot.status is RunStatus.FINISHED, snapshot.config.budget
    if budget is None:
        return f"Pass {passes:.{0 if finished else 1}f} of {snapshot.config.epochs}"
    if finished:
        return f"{passes:.1f} passes, as far as {budget:.0%} of dense compute goes"
    return f"Pass {passes:.1f}, until {budget:.0%} of dense compute is spent"


def run_tiles(
    snapshot: Snapshot, description: RunDescription, reference: Snapshot | None = None
) -> list[Tile]:
    """Return the tiles: metric, skip, energy, time, saving."""
    if snapshot.start is None or snapshot.steps.shape[1] == 0:
        names = (evaluated_metric_label(description), *_TILE_LABELS)
        ids = ("metric", "skip", "energy", "time", "saving")
        return [_make_tile(i, label, _NO_VALUE) for i, label in zip(ids, names, strict=True)]
    newest = np.array([snapshot.steps.shape[1] - 1])
    start = snapshot.start
    skipped = skipped_rows(snapshot.steps, start.flops_per_example, start.n_train, newest)
    if snapshot.end is not None:  # which also knows what was passed over after the last step
        skipped |= {"skipped": np.array([snapshot.end.skipped_compute_frac])}
    return [
        _metric_tile(snapshot, description, reference),
        _skip_tile(skipped),
        _energy_tile(snapshot),
        _time_tile(snapshot),
        _saving_tile(snapshot, reference),
    ]


#: What must be alike for joules to be compared.
_SAME_METER_FIELDS = ("source", "scope", "device_uuid", "card")
_TILE_LABELS = ("Computation skipped", "Energy", "Time", "Computation spent")


#: Fields of a tile that most leave empty.
_OPTIONAL_FIELDS = ("unit", "note", "quality", "tone")


def _make_tile(id: str, label: str, value: str, *lines: str, **more: str) -> Tile:
    tile: Tile = {"id": id, "label": label, **dict.fromkeys(_OPTIONAL_FIELDS, ""), **more}
    tile |= {
        "value": _with_minus_sign(value),
        "unit": _with_minus_sign(tile["unit"]),
        "lines": list(lines),
    }
    return tile


def _with_minus_sign(number: str) -> str:
    """Return a number with a minus sign in the place of a hyphen."""
    return number.replace("-", "−")


def evaluated_metric_label(description: RunDescription, *, final: bool = False) -> str:
    """Return what the metric is called, with the examples it is taken over.

    Args:
        description: Titles and labels of the run.
        final: The one evaluation at the end, on the test split, rather than those before.
    """
    fit = (" on a grid of pixels", " on all pixels")
    over = fit if description.is_fit else (", validation", ", test")
    return f"{description.metric.label}{over[final]}"


def _metric_tile(
    snapshot: Snapshot, description: RunDescription, reference: Snapshot | None
) -> Tile:
    final = snapshot.end is not None and snapshot.end.metric is not None
    label, found = (
        evaluated_metric_label(description, final=final),
        _metric_and_considered(snapshot, final),
    )
    if found is None:
        return _make_tile("metric", label, _NO_VALUE, "not evaluated yet")
    unit, digits = description.metric.unit, description.metric.digits
    scale, points = (100.0, "points") if unit == "%" else (1.0, unit)
    value, considered = found
    line = "no reference yet"
    if reference is not None:
        line = "the dense run has no such value"
        if reference.status in _CUT_SHORT_STATUSES:
            line = f"the dense run was {reference.status.value} before"
        if (dense := _reference_metric_and_label(reference, considered, final)) is not None:
            line = f"{scale * (value - dense[0]):+.{digits}f} {points} against {dense[1]}"
    return _make_tile("metric", label, f"{scale * value:.{digits}f}", line, unit=unit)


def _metric_and_considered(snapshot: Snapshot, final: bool) -> tuple[float, float] | None:
    """Return the metric and the examples considered by then; only at the end if ``final``."""
    if final:
        end = snapshot.end
        if end is None or end.metric is None:
            return None
        return end.metric, float(end.examples_considered)
    if not snapshot.evals.shape[1] or not math.isfinite(snapshot.evals[_EVAL_METRIC, -1]):
        return None
    return float(snapshot.evals[_EVAL_METRIC, -1]), float(snapshot.evals[_EVAL_CONSIDERED, -1])


def _reference_metric_and_label(
    reference: Snapshot, considered: float, final: bool
) -> tuple[float, str] | None:
    """Return what to compare a metric with, the same kind of evaluation, and its words."""
    found = _metric_and_considered(reference, final)
    if found is None:
        return None
    last, until = found
    if considered > until or (final and considered < until):
        if reference.status in _CUT_SHORT_STATUSES:  # its last value is not what dense comes to
            return None
        return last, "dense's end" if reference.status.is_final else "dense so far"
    if not final:
        passes, metrics = reference.evals[_EVAL_CONSIDERED], reference.evals[_EVAL_METRIC]
        last = float(np.interp(considered, passes, metrics))
    return last, "dense, same passes"


def _skip_tile(skipped: ColumnArrays) -> Tile:
    now, total, cost = (100 * skipped[k][-1] for k in ("skipped_now", "skipped", "selection"))
    return _make_tile(
        "skip",
        _TILE_LABELS[0],
        f"{now:z.0f}",
        f"{total:z.1f}% since the start",
        f"selecting costs {cost:.1f}%" if cost >= 0.05 else "selecting costs under 0.1%",
        unit="% now",
        note="1 − FLOPs spent ÷ FLOPs of dense training over the same examples; the cost of "
        "selecting is included. Now: over the last half pass.",
    )


def _energy_tile(snapshot: Snapshot) -> Tile:
    energy = snapshot.energy
    note = "; ".join((energy.source, *energy.notes))
    quality = energy.quality.value
    if energy.joules is not None:
        value = f"{energy.joules:,.0f}"
    elif energy.lo is not None and energy.hi is not None:
        value = f"{energy.lo:,.0f}–{energy.hi:,.0f}"
    else:  # what can be said everywhere stands in its place
        value, unit = si_number_and_prefix(float(snapshot.steps[_STEP_FLOPS, -1]))
        why, _, _ = (energy.notes[0] if energy.notes else energy.source).partition(";")
        return _make_tile(
            "energy", "FLOPs spent", value, f"energy {quality}", why,
            unit=f"{unit}FLOP", note=note, quality=quality,
        )  # fmt: skip
    return _make_tile(
        "energy",
        _TILE_LABELS[1],
        value,
        quality,
        energy.scope,
        unit="J",
        note=note,
        quality=quality,
    )


def _time_tile(snapshot: Snapshot) -> Tile:
    seconds = float(snapshot.steps[_STEP_SECONDS, -1])
    left = _time_left_text(snapshot, seconds)
    line = f"{left} left" if left else f"{snapshot.status.value}"
    rate = snapshot.steps.shape[1] / max(seconds, 1e-9)
    return _make_tile("time", _TILE_LABELS[2], clock_text(seconds), line, f"{rate:,.0f} steps/s")


def _saving_tile(snapshot: Snapshot, reference: Snapshot | None) -> Tile:
    """Return what was saved against a finished reference; without one, what was (not) spent."""
    saving = None if reference is None else compare_with_reference([(snapshot, reference)])
    if saving is not None:
        return _saved_tile(snapshot, saving)
    if (share := computation_not_spent(snapshot)) is not None:
        number, _, of = not_spent_text(share).partition(" ")
        return _make_tile(
            "saving", "Computation not spent", number,
            f"No reference of seed {share.seed} yet", "Run again with the reference first",
            unit=of, note=f"{_NOT_SPENT_NOTE} {REFERENCE_HINT}.",
        )  # fmt: skip
    return _spent_tile(snapshot, reference)


def _saved_tile(snapshot: Snapshot, saving: RunSaving) -> Tile:
    number, _, of = computation_change_text(saving).partition(" ")
    quality, note = "Result not known on both sides", _SAVED_NOTE
    is_worse = saving.quality is not None and saving.quality.is_beyond_margin
    if saving.quality is not None:
        quality = f"{quality_change_text(saving.quality)}, {seeds_text(saving)}"
    if is_worse:
        quality += ": beyond the margin"
        note += " The result is worse by more than the task's margin."
    joules = saving.savings.get(SavingBasis.JOULES)
    time = time_change_text(saving)
    if joules is not None and joules.quality is not None:
        change = change_text(sum(joules.fraction) / 2)
        time = f"{time.partition(',')[0]}, {change} joules {joules.quality.value}"
    return _make_tile(
        "saving", "Saved", number, quality, time, unit=of, note=note,
        tone="worse" if is_worse else "",
    )  # fmt: skip


_SAVED_NOTE = (
    "1 − FLOPs spent ÷ FLOPs of full training, beside the finished reference of the same seed. "
    "Estimated joules are not compared, as they only restate time."
)
_NOT_SPENT_NOTE = (
    "1 − FLOPs spent ÷ FLOPs of full training. It is called saved only beside a finished "
    "reference of the same seed, which shows what it cost in quality."
)
_SPENT_NOTE = (
    "Computation spent so far. What was saved is known once the run and its reference have "
    "finished."
)


def _spent_tile(snapshot: Snapshot, reference: Snapshot | None) -> Tile:
    """Return the tile of full training, and of a run that has not finished."""
    end, start = snapshot.end, snapshot.start
    spent = float(snapshot.steps[_STEP_FLOPS, -1]) if end is None else end.flops_spent
    value, unit = si_number_and_prefix(spent)
    full = end.flops_full if end is not None else start.flops_full if start is not None else None
    share = f", {spent / full:.0%} of full training" if full else ""
    lines = _time_and_energy_by_here_texts(snapshot, reference)
    if snapshot.status is RunStatus.FINISHED:
        lines = ("Full training: other runs of this seed", "are compared with it")
    return _make_tile(
        "saving", "Computation spent", value, *lines, unit=f"{unit}FLOP{share}", note=_SPENT_NOTE
    )


def _time_and_energy_by_here_texts(
    snapshot: Snapshot, reference: Snapshot | None
) -> tuple[str, str]:
    """Return seconds and joules against the reference at as many examples considered."""
    if reference is None or not reference.steps.shape[1]:
        return "seconds, joules: no reference", ""
    considered = snapshot.steps[_STEP_CONSIDERED, -1]
    passes = reference.steps[_STEP_CONSIDERED]
    if considered >= passes[-1] + snapshot.config.batch_size:  # each ends with its last full batch
        return "the reference had fewer passes", ""
    then = np.array([np.interp(considered, passes, reference.steps[_STEP_SECONDS])])
    now = snapshot.steps[_STEP_SECONDS, -1:]
    mine, other = snapshot.energy, reference.energy
    seconds = _difference_by_here_text(now, then, "s")
    if {mine.quality, other.quality} != {EnergyQuality.MEASURED}:
        return seconds, "joules: not measured"
    if mine.contended or other.contended:
        return seconds, "joules: others used the board"
    if any(getattr(mine, name) != getattr(other, name) for name in _SAME_METER_FIELDS):
        return seconds, "joules: not by the same meter"
    used, dense = joules_at(snapshot.power, now), joules_at(reference.power, then)
    return seconds, _difference_by_here_text(used, dense, f"J {mine.quality.value}")


def _difference_by_here_text(used: FloatArray, dense: FloatArray, unit: str) -> str:
    more, of = float(used[0] - dense[0]), float(dense[0])
    text = f"{more:+,.1f} {unit}, {more / max(of, 1e-9):+.0%} by here"
    return _with_minus_sign(text)


def _time_left_text(snapshot: Snapshot, seconds: float) -> str:
    """Return the time left if the run goes on as it did; empty where that says nothing."""
    moving = snapshot.status in (RunStatus.RUNNING, RunStatus.PAUSED)
    if not moving or snapshot.progress < 0.005 or seconds <= 0:
        return ""
    return clock_text(seconds * (1.0 - snapshot.progress) / snapshot.progress)
