"""The points of a sweep with their runs, and when a trial is pruned.

A trial is pruned if, at its last evaluation in the second half of its training, it is worse by
more than ``PRUNE_MARGINS`` margins than same-budget training at the next smaller budget was at the
same share of its training. The decision depends on these two runs only, so trials that train in
parallel are judged exactly like trials that train one after another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from effcore.records import EVAL_COLUMNS, Energy, FloatArray, KnobValue, RunStatus, Snapshot
from effcore.studies.sweep import DENSE_PREFIX, TRIAL_PREFIX, SweepPlan, metric_sign, search_space

#: A trial can be pruned from this share of its training on, by so many margins.
PRUNE_FROM, PRUNE_MARGINS = 0.5, 10


class SweepPoint(NamedTuple):
    """One setting of a sweep and its runs on all seeds.

    Attributes:
        name: ``dense`` and its budget, or ``trial`` and its number.
        budget: Share of full training's compute that it may spend.
        knobs: Values of the other searched knobs.
        snapshots: Stored runs of the search, by seed.
        is_complete: Whether all runs of the search finished with a metric.
        replication_snapshots: Stored runs of the replication, by seed.
    """

    name: str
    budget: float
    knobs: Mapping[str, KnobValue]
    snapshots: Mapping[int, Snapshot]
    is_complete: bool
    replication_snapshots: Mapping[int, Snapshot] = {}

    @property
    def is_dense(self) -> bool:
        """Whether it trains without a policy: full training, or same-budget training."""
        return self.name.startswith(DENSE_PREFIX)

    @property
    def trial_number(self) -> int:
        """A trial's number; -1 for a dense point."""
        return -1 if self.is_dense else int(self.name.removeprefix(TRIAL_PREFIX))

    @property
    def mean_metric(self) -> float:
        """Mean final metric on validation; NaN where the point is not complete."""
        if not self.is_complete:
            return math.nan
        return float(np.mean([final_validation_metric(run) for run in self.snapshots.values()]))

    @property
    def flops_share(self) -> float:
        """Mean FLOPs spent, as a share of full training's; NaN before a run has ended."""
        shares = [
            run.end.flops_spent / run.start.flops_dense
            for run in self.snapshots.values()
            if run.end and run.start
        ]
        return float(np.mean(shares)) if shares else math.nan

    @property
    def was_pruned(self) -> bool:
        """Whether a run of it was stopped early."""
        return any(run.status is RunStatus.STOPPED for run in self.snapshots.values())

    @property
    def failure_reason(self) -> str:
        """Why it broke down; empty where it did not."""
        reasons = [run.reason for run in self.snapshots.values() if _broke_down(run)]
        return (reasons[0] or "it broke down") if reasons else ""

    @property
    def has_ended(self) -> bool:
        """Whether the search has no more runs of it to train."""
        return bool(self.is_complete or self.was_pruned or self.failure_reason)

    @property
    def energies(self) -> list[Energy]:
        """Energy of each run."""
        return [run.energy for run in self.snapshots.values()]


def _broke_down(snapshot: Snapshot) -> bool:
    return snapshot.status is RunStatus.FAILED or (
        snapshot.status is RunStatus.FINISHED
        and not math.isfinite(final_validation_metric(snapshot))
    )


def final_validation_metric(snapshot: Snapshot) -> float:
    """Return a run's last metric on validation; NaN where it has none."""
    metrics = snapshot.evals[EVAL_COLUMNS.index("metric")]
    return float(metrics[-1]) if len(metrics) else math.nan


def sweep_points(plan: SweepPlan, runs: Mapping[str, Mapping[int, Snapshot]]) -> list[SweepPoint]:
    """Return the points that have runs: the dense ones first, then the trials by number.

    Args:
        plan: The sweep's plan.
        runs: Stored runs by the point's name, then seed.
    """
    knob_names = [knob.name for knob in search_space(plan) if knob.name != "budget"]
    points = []
    for name, by_seed in runs.items():
        search_runs = {seed: run for seed, run in by_seed.items() if seed in plan.seeds}
        replication_runs = {seed: run for seed, run in by_seed.items() if seed not in plan.seeds}
        config = next(iter(by_seed.values())).config
        knobs = {n: value for n in knob_names if (value := config.knobs.get(n)) is not None}
        is_complete = set(search_runs) >= set(plan.seeds) and all(
            run.status is RunStatus.FINISHED and not _broke_down(run)
            for run in search_runs.values()
        )
        points.append(
            SweepPoint(
                name=name,
                budget=config.budget or 1.0,
                knobs={} if name.startswith(DENSE_PREFIX) else knobs,
                snapshots=search_runs,
                is_complete=is_complete,
                replication_snapshots=replication_runs,
            )
        )
    return sorted(points, key=lambda point: (point.trial_number, -point.budget))


@dataclass(frozen=True)
class PruningReference:
    """The training without a policy, at no greater budget, that a trial is compared with.

    Attributes:
        progress_shares: Shares of its training, rising, at which it was evaluated.
        metrics: Its metric on validation at these shares.
        sign: 1 where a higher metric is better, else -1.
        allowed_loss: A trial that is worse by more than this is pruned.
    """

    progress_shares: FloatArray
    metrics: FloatArray
    sign: float
    allowed_loss: float

    def should_prune(self, snapshot: Snapshot) -> bool:
        """Return whether a run, at its last evaluation, is worse by more than is allowed."""
        shares, metrics = evaluation_curve(snapshot)
        if not len(shares) or shares[-1] < PRUNE_FROM:
            return False
        reference_metric = float(np.interp(shares[-1], self.progress_shares, self.metrics))
        return bool(self.sign * (reference_metric - metrics[-1]) > self.allowed_loss)


def evaluation_curve(snapshot: Snapshot) -> tuple[FloatArray, FloatArray]:
    """Return the shares of its training at which a run was evaluated, and its metrics there."""
    if snapshot.start is None or not snapshot.start.flops_end:
        return np.empty(0), np.empty(0)
    flops, metrics = (snapshot.evals[EVAL_COLUMNS.index(name)] for name in ("flops", "metric"))
    return flops / snapshot.start.flops_end, metrics


def pruning_reference(
    plan: SweepPlan, points: Sequence[SweepPoint], budget: float, seed: int
) -> PruningReference | None:
    """Return the run without a policy that a trial is compared with.

    It has the largest dense budget up to the trial's, or the smallest where all are larger.
    ``None`` is returned while no dense point is complete.
    """
    dense = [p for p in points if p.is_dense and p.is_complete]
    affordable = [p for p in dense if p.budget <= budget] or dense[-1:]
    if not affordable:
        return None
    reference = max(affordable, key=lambda p: p.budget).snapshots[seed]
    shares, metrics = evaluation_curve(reference)
    return PruningReference(shares, metrics, metric_sign(plan), PRUNE_MARGINS * plan.margin)
