"""Runs of benches without training: by a formula and stored, or made of metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from effcore.records import EvalEvent, Event, RunConfig, RunEnd, RunStart, RunStatus, Snapshot
from effcore.studies.comparison import CompletedRuns, complete_runs
from effcore.studies.plan import StudyPlan
from tests.studies.sweeps import look


def scripted_training(
    monkeypatch: pytest.MonkeyPatch, result: Callable[[RunConfig], dict[str, Any]]
) -> list[RunConfig]:
    """Put results by a formula in place of training; returns the runs that were trained.

    Args:
        monkeypatch: Undone after the test.
        result: ``validation``, ``metric`` and others of a run's end; without a metric it failed.
    """
    asked: list[RunConfig] = []

    def train(config: RunConfig, *_: Any) -> Iterator[Event]:
        asked.append(config)
        told: dict[str, Any] = {"validation": 0.0, "metric": 0.0, "reason": ""}
        told |= {"flops": 1.0, "seconds": 1.0, "parameters_sha256": None} | result(config)
        yield RunStart(
            n_train=100, flops_per_example=1.0, flops_dense=100.0, flops_end=None, n_parameters=1
        )
        if told["validation"] is not None:
            yield EvalEvent(1, 100, 1.0, told["flops"], 0.5, told["validation"])
        broke = told["metric"] is None
        yield RunEnd(
            status=RunStatus.FAILED if broke else RunStatus.FINISHED,
            reason=told["reason"],
            metric_name="accuracy",
            metric=told["metric"],
            passes=1,
            examples_considered=100,
            examples_trained=100,
            flops_spent=told["flops"],
            flops_dense=100.0,
            seconds=told["seconds"],
            parameters_sha256=told["parameters_sha256"],
        )

    monkeypatch.setattr("effcore.runs.run.train", train)
    monkeypatch.setattr("effcore.studies.executor.warm_up_once", lambda config: None)
    return asked


def runs_with_metrics(
    plan: StudyPlan, metrics: Mapping[str, Sequence[float | None]]
) -> CompletedRuns:
    """Return the ended runs of a study that came to these metrics.

    Full training spends 100 FLOPs, every other variant 60 of 100, at a quarter skipped.

    Args:
        plan: The study.
        metrics: Metrics by variant and seed; ``None`` for a run that broke down.
    """
    snapshots: dict[str, dict[int, Snapshot]] = {}
    for name, values in metrics.items():
        spent = 100.0 if name == "D100" else 60.0
        snapshots[name] = {}
        for seed, value in zip(plan.seeds, values, strict=True):
            run = look(value or 0.0, spent / 100)
            assert run.end is not None
            end = replace(run.end, metric=value, flops_spent=spent, flops_full=100.0,
                          flops_dense=spent / 0.75, seconds=1.0)  # fmt: skip
            if value is None:
                run = replace(run, status=RunStatus.FAILED, reason="broke")
            snapshots[name][seed] = replace(run, end=end, run_id=f"{name}-{seed}")
    return complete_runs(plan, snapshots)
