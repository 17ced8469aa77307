"""Summary of a run, as one flat record and as a few lines of text."""

from __future__ import annotations

import dataclasses
from typing import Any

from effcore.impact.reference_comparison import compare_with_reference
from effcore.impact.saving_text import saving_label_and_sentence, time_change_text
from effcore.records import (
    PHASES,
    STEP_COLUMNS,
    Energy,
    FloatArray,
    RunConfig,
    RunEnd,
    RunStart,
    RunStatus,
    Snapshot,
)
from effcore.tasks.base import TASKS, Metric


def energy_record(energy: Energy) -> dict[str, Any]:
    """Return an energy with all its fields, in plain JSON types."""
    idle = {"idle_w": [list(ends) for ends in energy.idle_w], "idle_s": list(energy.idle_s)}
    return dataclasses.asdict(energy) | {"notes": list(energy.notes)} | idle


def run_summary(snapshot: Snapshot) -> dict[str, Any]:
    """Return the record that ``run --json`` prints."""
    config, end = snapshot.config, snapshot.end
    record: dict[str, Any] = {"run_id": snapshot.run_id}
    for name in ("task", "model", "selection", "update", "intensity", "seed", "device"):
        record[name] = getattr(config, name)
    for name in (
        "metric_name",
        "metric",
        "passes",
        "examples_considered",
        "examples_trained",
        "skipped_compute_frac",
        "saved_compute_frac",
        "flops_spent",
        "flops_dense",
        "flops_full",
        "seconds",
    ):
        record[name] = getattr(end, name) if end is not None else None
    record["details"] = dict(end.details) if end is not None else {}
    record["phases_s"] = phase_seconds(snapshot.phases)
    record["phases_energy"] = snapshot.attribution.to_json()
    record["energy"] = energy_record(snapshot.energy)
    record["parameters_sha256"] = end.parameters_sha256 if end is not None else None
    record["resumed_after_steps"] = list(snapshot.resumed.steps)
    record["status"] = snapshot.status.value
    return record


def phase_seconds(phases: FloatArray) -> dict[str, float]:
    """Return the seconds in each phase at the end of a phase table; empty for an empty table."""
    if phases.shape[1] == 0:
        return {}
    return dict(zip(PHASES, phases[1:, -1].tolist(), strict=True))


def failed_run_end(
    config: RunConfig, start: RunStart | None, steps: FloatArray, seconds: float, reason: str
) -> RunEnd:
    """Return the end of a failed run, from what it had reported by then.

    Args:
        config: Configuration of the run.
        start: Start event, if the run had started to train.
        steps: Step table, shape (columns, rows).
        seconds: Run clock, s.
        reason: Why the run failed.
    """
    last = dict(zip(STEP_COLUMNS, steps[:, -1], strict=True)) if steps.shape[1] else {}
    considered = int(last.get("considered", 0))
    per_example = start.flops_per_example if start else 0.0
    return RunEnd(
        status=RunStatus.FAILED,
        reason=reason,
        metric_name=TASKS.get(config.task).metric.name,
        metric=None,
        passes=considered // start.n_train if start else 0,
        examples_considered=considered,
        examples_trained=int(last.get("trained", 0)),
        flops_spent=last.get("flops", 0.0),
        flops_dense=considered // config.batch_size * config.batch_size * per_example,
        flops_full=start.flops_full if start else None,
        seconds=seconds,
        parameters_sha256=None,
    )


def metric_text(metric: Metric, value: float | None) -> str:
    """Return a metric's value in display units."""
    if value is None:
        return "no value"
    return f"{metric.factor * value:.{metric.digits}f} {metric.unit}".rstrip()


def summary_text(snapshot: Snapshot, reference: Snapshot | None = None) -> str:
    """Return a few aligned lines for a terminal.

    Args:
        snapshot: The run.
        reference: Full training of the same seed to compare with, if there is one.
    """
    metric = TASKS.get(snapshot.config.task).metric
    lines = [("run", f"{snapshot.run_id} ({snapshot.status})")]
    if snapshot.end is not None:
        lines += _end_lines(metric, snapshot.end, saving_lines(snapshot, reference))
    lines.append(("energy", str(snapshot.energy)))
    width = 1 + max(18, *(len(name) for name, _ in lines))
    return "\n".join(f"{name:<{width}}{value}" for name, value in lines)


def saving_lines(snapshot: Snapshot, reference: Snapshot | None) -> list[tuple[str, str]]:
    """Return names and texts of what a run skipped and saved; empty before its end.

    The word *saved* is used only with a finished reference.
    """
    if snapshot.end is None:
        return []
    skipped = f"{snapshot.end.skipped_compute_frac:z.1%} for the examples considered"
    lines = [("Computation skipped", f"{skipped}, cost of selection counted")]
    label, sentence = saving_label_and_sentence(snapshot, reference)
    lines.append((label, sentence))
    saving = None if reference is None else compare_with_reference([(snapshot, reference)])
    if saving is not None and (time := time_change_text(saving)):
        lines.append(("Time, against full training", time))
    return lines


def _end_lines(
    metric: Metric, end: RunEnd, savings: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    share = end.examples_trained / max(end.examples_considered, 1)
    return [
        (metric.label, metric_text(metric, end.metric)),
        *((name[0].lower() + name[1:], text) for name, text in savings),
        ("examples trained", f"{end.examples_trained:,} ({share:.1%} of those considered)"),
        ("epochs", str(end.passes)),
        ("time", f"{end.seconds:.1f} s"),
        ("parameters", end.parameters_sha256 or "none"),
    ]
