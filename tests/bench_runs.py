"""Runs of benches by a formula in place of training; they are stored as any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from effcore.records import EvalEvent, Event, RunConfig, RunEnd, RunStart, RunStatus


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
