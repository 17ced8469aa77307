"""Sweeps of the tiny task, and points of them made of plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from effcore.records import RunStart, RunStatus, Snapshot
from effcore.records.settings import Settings
from effcore.studies.frontier import Confirmation, conclusion_text, sweep_result
from effcore.studies.sweep import SweepPlan, plan_sweep, replication_seeds
from effcore.studies.trials import SweepPoint
from tests.fakes import snapshot
from tests.store.samples import END

SHARED: Settings = {"task": "tiny", "device": "cpu", "threads": 1, "epochs": 3}
#: Enough here, where so many runs of a sweep take a second.
AGAIN_SEEDS = 4


def plan(**changes: Any) -> SweepPlan:
    usual: dict[str, Any] = {"policy": "confident-skip", "trials": 4, "seeds": (0,)}
    settings = {**SHARED, **changes.pop("settings", {})}
    return plan_sweep(settings, **usual | changes)


def look(metric: float, share: float = 1.0, way: float = 1.0, **changes: Any) -> Snapshot:
    """A run that spent ``share`` of the dense FLOPs, evaluated at the end of ``way``."""
    flops = np.array([0.0, 0.5 * way, way]) * share * 100
    evals = np.zeros((6, 3))
    evals[3], evals[5] = flops, (0.0, metric, metric)
    start = RunStart(200, 1.0, 100.0, 100.0 * share, 10)
    done = replace(END, flops_spent=100.0 * share * way)
    return replace(snapshot(), status=RunStatus.FINISHED, start=start, end=done, evals=evals,
                   **changes)  # fmt: skip


def point(name: str, budget: float, metric: float, **changes: Any) -> SweepPoint:
    knobs = {} if name.startswith("dense") else {"mass": budget / 2, "revisit": 4}
    return SweepPoint(name, budget, knobs, {0: look(metric, budget, **changes)}, True)


DENSE = [point("dense 1", 1.0, 0.95), point("dense 0.6", 0.6, 0.93), point("dense 0.3", 0.3, 0.8)]


def again(
    known: SweepPoint, metric: float, scatter: float = 0.0, count: int = AGAIN_SEEDS
) -> SweepPoint:
    """A replicated point: every other seed lies above the mean by the scatter, the rest below."""
    seeds = replication_seeds(plan())[:count]
    values = {s: metric + scatter * (1 if n % 2 else -1) for n, s in enumerate(seeds)}
    return known._replace(
        replication_snapshots={seed: look(value) for seed, value in values.items()}
    )


def concluded(
    task: SweepPlan, points: Sequence[SweepPoint], confirmations: Mapping[str, Confirmation]
) -> str:
    """The conclusion in words."""
    return conclusion_text(sweep_result("x", task, points, confirmations))
