"""Status, tiles and time left of a run, as texts for the live panel, in plain JSON types.

Summaries of finished runs for lists and terminals are in ``effcore.runs.summary``.
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
    not_spent_percent,
    quality_change_text,
    seeds_text,
    short_time_change_text,
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
#: A tile: its label, its number, and lines of detail below it.
Tile = dict[str, Any]


def status_with_tiles(
    snapshot: Snapshot, description: RunDescription, reference: Snapshot | None = None
) -> dict[str, Any]:
    """Return the state of a run and its five tiles.

    Args:
        snapshot: The run.
        description: Titles and labels of the run.
        reference: Full training to compare with, if there is a run of it.
    """
    last = snapshot.steps[:, -1] if snapshot.steps.shape[1] else np.zeros(len(STEP_COLUMNS))
    finished = snapshot.status is RunStatus.FINISHED
    return {
        "status": snapshot.status.value,
        "reason": snapshot.reason,
        # A run finishes when the next step would exceed its end, so its own progress stays below 1.
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
    """Return the epochs so far, with the number of epochs or the budget that ends the run.

    Examples that do not fill a last batch are considered but not trained on. A finished run
    counts them; the step table does not.
    """
    if snapshot.end is not None:
        considered = float(snapshot.end.examples_considered)
    epochs = considered / snapshot.start.n_train if snapshot.start else 0.0
    finished, budget = snapshot.status is RunStatus.FINISHED, snapshot.config.budget
    if budget is None:
        return f"Epoch {epochs:.{0 if finished else 1}f} of {snapshot.config.epochs}"
    if finished:
        return f"{epochs:.1f} epochs on a budget of {budget:.0%} of full training"
    return f"Epoch {epochs:.1f}, budget {budget:.0%} of full training"


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
    if snapshot.end is not None:  # it also counts examples skipped after the last step
        skipped |= {"skipped": np.array([snapshot.end.skipped_compute_frac])}
    return [
        _metric_tile(snapshot, description, reference),
        _skip_tile(skipped),
        _energy_tile(snapshot),
        _time_tile(snapshot),
        _saving_tile(snapshot, reference),
    ]


#: Fields of two energies that must be equal for a comparison.
_SAME_METER_FIELDS = ("source", "scope", "device_uuid", "card")
_TILE_LABELS = ("Computation skipped", "Energy", "Time", "Computation spent")


#: Fields of a tile that are empty by default.
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
    """Return a number with a minus sign in place of a hyphen."""
    return number.replace("-", "−")


def evaluated_metric_label(description: RunDescription, *, final: bool = False) -> str:
    """Return the label of the metric, with the examples it is computed over.

    Args:
        description: Titles and labels of the run.
        final: Whether the evaluation is the final one, on the test split.
    """
    pixels = (" on a grid of pixels", " on all pixels")
    suffixes = pixels if description.is_fit else (", validation", ", test")
    return f"{description.metric.label}{suffixes[final]}"


def _metric_tile(
    snapshot: Snapshot, description: RunDescription, reference: Snapshot | None
) -> Tile:
    final = snapshot.end is not None and snapshot.end.metric is not None
    label, evaluation = (
        evaluated_metric_label(description, final=final),
        _metric_and_considered(snapshot, final),
    )
    if evaluation is None:
        return _make_tile("metric", label, _NO_VALUE, "not evaluated yet")
    unit, digits = description.metric.unit, description.metric.digits
    scale, points = (100.0, "points") if unit == "%" else (1.0, unit)
    value, considered = evaluation
    line = "no reference yet"
    if reference is not None:
        line = "the reference has no value here"
        if reference.status in _CUT_SHORT_STATUSES:
            line = f"the reference ended earlier ({reference.status.value})"
        if (dense := _reference_metric_and_label(reference, considered, final)) is not None:
            line = f"{scale * (value - dense[0]):+.{digits}f} {points} against {dense[1]}"
    return _make_tile("metric", label, f"{scale * value:.{digits}f}", line, unit=unit)


def _metric_and_considered(snapshot: Snapshot, final: bool) -> tuple[float, float] | None:
    """Return the metric and the examples considered until then; of the end only if ``final``."""
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
    """Return the reference's metric from the same kind of evaluation, and its label."""
    evaluation = _metric_and_considered(reference, final)
    if evaluation is None:
        return None
    last, until = evaluation
    if considered > until or (final and considered < until):
        if reference.status in _CUT_SHORT_STATUSES:  # its last value is not full training's result
            return None
        return (
            last,
            "the end of full training" if reference.status.is_final else "full training so far",
        )
    if not final:
        times, metrics = reference.evals[_EVAL_CONSIDERED], reference.evals[_EVAL_METRIC]
        last = float(np.interp(considered, times, metrics))
    return last, "full training, same epoch"


def _skip_tile(skipped: ColumnArrays) -> Tile:
    now, total, cost = (100 * skipped[k][-1] for k in ("skipped_now", "skipped", "selection"))
    return _make_tile(
        "skip",
        _TILE_LABELS[0],
        f"{now:z.0f}",
        f"{total:z.1f}% since the start",
        f"selection costs {cost:.1f}%" if cost >= 0.05 else "selection costs under 0.1%",
        unit="% now",
        note="1 − FLOPs spent ÷ FLOPs of training on all the same examples; the cost of selection "
        "is counted as spent. Now: over the last half epoch.",
    )


def _energy_tile(snapshot: Snapshot) -> Tile:
    energy = snapshot.energy
    note = "; ".join((energy.source, *energy.notes))
    quality = energy.quality.value
    if energy.joules is not None:
        value = f"{energy.joules:,.0f}"
    elif energy.lo is not None and energy.hi is not None:
        value = f"{energy.lo:,.0f}–{energy.hi:,.0f}"
    else:  # without joules, the tile shows FLOPs
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
    """Return the saving against a finished reference; without one, the computation (not) spent."""
    saving = None if reference is None else compare_with_reference([(snapshot, reference)])
    if saving is not None:
        return _saved_tile(snapshot, saving)
    if (share := computation_not_spent(snapshot)) is not None:
        return _make_tile(
            "saving", "Computation not spent", not_spent_percent(share),
            f"No reference of seed {share.seed} yet", "Run again with the reference first",
            unit="of full training's computation", note=f"{_NOT_SPENT_NOTE} {REFERENCE_HINT}.",
        )  # fmt: skip
    return _spent_tile(snapshot, reference)


def _saved_tile(snapshot: Snapshot, saving: RunSaving) -> Tile:
    quality, note = "One of the two results is unknown", _SAVED_NOTE
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
        time = f"{short_time_change_text(saving)}, {change} joules {joules.quality.value}"
    return _make_tile(
        "saving", "Saved", change_text(saving.saved_compute_frac), quality, time,
        unit="computation", note=note, tone="worse" if is_worse else "",
    )  # fmt: skip


_SAVED_NOTE = (
    "1 − FLOPs spent ÷ FLOPs of full training, compared with the finished reference of the same "
    "seed. Estimated joules are not compared, since they only restate time."
)
_NOT_SPENT_NOTE = (
    "1 − FLOPs spent ÷ FLOPs of full training. It counts as saved only if a finished reference of "
    "the same seed shows what it cost in quality."
)
_SPENT_NOTE = (
    "Computation spent so far. The saving is known when the run and its reference have finished."
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
        lines = ("This is full training: other runs", "of its seed are compared with it")
    return _make_tile(
        "saving", "Computation spent", value, *lines, unit=f"{unit}FLOP{share}", note=_SPENT_NOTE
    )


def _time_and_energy_by_here_texts(
    snapshot: Snapshot, reference: Snapshot | None
) -> tuple[str, str]:
    """Return seconds and joules against the reference at the same number of examples considered."""
    if reference is None or not reference.steps.shape[1]:
        return "seconds, joules: no reference", ""
    considered = snapshot.steps[_STEP_CONSIDERED, -1]
    reference_considered = reference.steps[_STEP_CONSIDERED]
    # Both runs end with their last full batch, so their ends may differ by one batch.
    if considered >= reference_considered[-1] + snapshot.config.batch_size:
        return "the reference had fewer epochs", ""
    then = np.array([np.interp(considered, reference_considered, reference.steps[_STEP_SECONDS])])
    now = snapshot.steps[_STEP_SECONDS, -1:]
    mine, other = snapshot.energy, reference.energy
    seconds = _difference_by_here_text(now, then, "s")
    if {mine.quality, other.quality} != {EnergyQuality.MEASURED}:
        return seconds, "joules: not measured"
    if mine.contended or other.contended:
        return seconds, "joules: other programs used the board"
    if any(getattr(mine, name) != getattr(other, name) for name in _SAME_METER_FIELDS):
        return seconds, "joules: not from the same meter"
    used, dense = joules_at(snapshot.power, now), joules_at(reference.power, then)
    return seconds, _difference_by_here_text(used, dense, f"J {mine.quality.value}")


def _difference_by_here_text(used: FloatArray, dense: FloatArray, unit: str) -> str:
    more, of = float(used[0] - dense[0]), float(dense[0])
    text = f"{more:+,.1f} {unit}, {more / max(of, 1e-9):+.0%} so far"
    return _with_minus_sign(text)


def _time_left_text(snapshot: Snapshot, seconds: float) -> str:
    """Return the time left, extrapolated from the run so far; empty if that is unreliable."""
    moving = snapshot.status in (RunStatus.RUNNING, RunStatus.PAUSED)
    if not moving or snapshot.progress < 0.005 or seconds <= 0:
        return ""
    return clock_text(seconds * (1.0 - snapshot.progress) / snapshot.progress)
