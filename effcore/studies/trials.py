"""One setting of a sweep and its runs, and when it is given up on its way.

Hopeless: at its last evaluation in the second half of its way, a trial is worse by more than
``HOPELESS_MARGINS`` margins than the dense run of the next smaller budget was at the same
share of its own way. That hangs on nothing but the two runs, so that trials that train side
by side are judged as if one after another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from effcore.records import EVAL_COLUMNS, Energy, FloatArray, KnobValue, RunStatus, Snapshot
from effcore.studies.sweep import DENSE_PREFIX, TRIAL_PREFIX, SweepPlan, metric_sign, search_space

#: From this share of its way on a trial may be found hopeless, by so many margins.
PRUNE_FROM, PRUNE_MARGINS = 0.5, 10


class SweepPoint(NamedTuple):
    """One setting, tried on all seeds.

    Attributes:
        name: ``is_dense`` and its budget, or ``trial`` and its number.
        budget: Share of the dense compute it may spend.
        knobs: Its values of what was searched besides.
        snapshots: Its runs of the search that are stored, by seed.
        is_complete: Whether all its runs of the search are there and ended well.
        replication_snapshots: Its runs of the second look, by seed.
    """

    name: str
    budget: float
    knobs: Mapping[str, KnobValue]
    snapshots: Mapping[int, Snapshot]
    is_complete: bool
    replication_snapshots: Mapping[int, Snapshot] = {}

    @property
    def is_dense(self) -> bool:
        """Whether it is of the dense curve."""
        return self.name.startswith(DENSE_PREFIX)

    @property
    def trial_number(self) -> int:
        """A trial's number; -1 for a dense point."""
        return -1 if self.is_dense else int(self.name.removeprefix(TRIAL_PREFIX))

    @property
    def mean_metric(self) -> float:
        """Mean metric on validation by the end; NaN where it has not ended well."""
        if not self.is_complete:
            return math.nan
        return float(np.mean([final_validation_metric(look) for look in self.snapshots.values()]))

    @property
    def flops_share(self) -> float:
        """Mean FLOPs spent over those of the dense run."""
        shares = [
            look.end.flops_spent / look.start.flops_dense
            for look in self.snapshots.values()
            if look.end and look.start
        ]
        return float(np.mean(shares)) if shares else math.nan

    @property
    def was_pruned(self) -> bool:
        """Whether it was given up as hopeless."""
        return any(look.status is RunStatus.STOPPED for look in self.snapshots.values())

    @property
    def failure_reason(self) -> str:
        """Why it broke down; empty where it did not."""
        reasons = [look.reason for look in self.snapshots.values() if _broke_down(look)]
        return (reasons[0] or "it broke down") if reasons else ""

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it is left to train in the search."""
        return bool(self.is_complete or self.was_pruned or self.failure_reason)

    @property
    def energies(self) -> list[Energy]:
        """Energy of each run."""
        return [look.energy for look in self.snapshots.values()]


def _broke_down(snapshot: Snapshot) -> bool:
    return snapshot.status is RunStatus.FAILED or (
        snapshot.status is RunStatus.FINISHED
        and not math.isfinite(final_validation_metric(snapshot))
    )


def final_validation_metric(snapshot: Snapshot) -> float:
    """Return the metric on validation by a run's end; NaN where it has none."""
    evals = snapshot.evals[EVAL_COLUMNS.index("metric")]
    return float(evals[-1]) if len(evals) else math.nan


def sweep_points(plan: SweepPlan, runs: Mapping[str, Mapping[int, Snapshot]]) -> list[SweepPoint]:
    """Return the points that have runs, the dense ones first, then trials by number.

    Args:
        plan: What is searched.
        runs: Stored runs by the point's name, then seed.
    """
    names = [each.name for each in search_space(plan) if each.name != "budget"]
    points = []
    for name, by_seed in runs.items():
        looks = {seed: look for seed, look in by_seed.items() if seed in plan.seeds}
        again = {seed: look for seed, look in by_seed.items() if seed not in plan.seeds}
        config = next(iter(by_seed.values())).config
        knobs = {n: v for n in names if (v := config.knobs.get(n)) is not None}
        whole = set(looks) >= set(plan.seeds) and all(
            look.status is RunStatus.FINISHED and not _broke_down(look) for look in looks.values()
        )
        own = {} if name.startswith(DENSE_PREFIX) else knobs
        points.append(SweepPoint(name, config.budget or 1.0, own, looks, whole, again))
    return sorted(points, key=lambda point: (point.trial_number, -point.budget))


@dataclass(frozen=True)
class PruningReference:
    """What a trial is held against on its way: a dense run of no greater budget.

    Attributes:
        progress_shares: Of the rival's way, rising, at which it was evaluated.
        metrics: Its metric on validation there.
        sign: 1 where a higher metric is better, else -1.
        allowed_loss: A trial this much worse is hopeless.
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
        then = float(np.interp(shares[-1], self.progress_shares, self.metrics))
        return bool(self.sign * (then - metrics[-1]) > self.allowed_loss)


def evaluation_curve(snapshot: Snapshot) -> tuple[FloatArray, FloatArray]:
    """Return the shares of a run's way at which it was evaluated, and its metric there."""
    if snapshot.start is None or not snapshot.start.flops_end:
        return np.empty(0), np.empty(0)
    flops, metrics = (snapshot.evals[EVAL_COLUMNS.index(name)] for name in ("flops", "metric"))
    return flops / snapshot.start.flops_end, metrics


def pruning_reference(
    plan: SweepPlan, points: Sequence[SweepPoint], budget: float, seed: int
) -> PruningReference | None:
    """Return the dense run that a trial must keep up with: of the next smaller budget."""
    dense = [p for p in points if p.is_dense and p.is_complete]
    smaller = [p for p in dense if p.budget <= budget] or dense[-1:]
    if not smaller:
        return None
    shares, metrics = evaluation_curve(max(smaller, key=lambda p: p.budget).snapshots[seed])
    return PruningReference(shares, metrics, metric_sign(plan), PRUNE_MARGINS * plan.margin)
