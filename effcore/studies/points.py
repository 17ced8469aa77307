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

from effcore.events import EVAL_COLUMNS, Energy, FloatArray, KnobValue, RunStatus, Snapshot
from effcore.studies.sweep import DENSE, TRIAL, SweepPlan, sign_of, space

#: From this share of its way on a trial may be found hopeless, by so many margins.
HOPELESS_FROM, HOPELESS_MARGINS = 0.5, 10


class Point(NamedTuple):
    """One setting, tried on all seeds.

    Attributes:
        name: ``dense`` and its budget, or ``trial`` and its number.
        budget: Share of the dense compute it may spend.
        knobs: Its values of what was searched besides.
        looks: Its runs of the search that are stored, by seed.
        whole: Whether all its runs of the search are there and ended well.
        again: Its runs of the second look, by seed.
    """

    name: str
    budget: float
    knobs: Mapping[str, KnobValue]
    looks: Mapping[int, Snapshot]
    whole: bool
    again: Mapping[int, Snapshot] = {}

    @property
    def dense(self) -> bool:
        """Whether it is of the dense curve."""
        return self.name.startswith(DENSE)

    @property
    def number(self) -> int:
        """A trial's number; -1 for a dense point."""
        return -1 if self.dense else int(self.name.removeprefix(TRIAL))

    @property
    def metric(self) -> float:
        """Mean metric on validation by the end; NaN where it has not ended well."""
        if not self.whole:
            return math.nan
        return float(np.mean([last_metric(look) for look in self.looks.values()]))

    @property
    def share(self) -> float:
        """Mean FLOPs spent over those of the dense run."""
        shares = [
            look.end.flops_spent / look.start.flops_dense
            for look in self.looks.values()
            if look.end and look.start
        ]
        return float(np.mean(shares)) if shares else math.nan

    @property
    def stopped(self) -> bool:
        """Whether it was given up as hopeless."""
        return any(look.status is RunStatus.STOPPED for look in self.looks.values())

    @property
    def failed(self) -> str:
        """Why it broke down; empty where it did not."""
        reasons = [look.reason for look in self.looks.values() if _broke(look)]
        return (reasons[0] or "it broke down") if reasons else ""

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left to train in the search."""
        return bool(self.whole or self.stopped or self.failed)

    @property
    def energies(self) -> list[Energy]:
        """Energy of each run."""
        return [look.energy for look in self.looks.values()]


def _broke(look: Snapshot) -> bool:
    return look.status is RunStatus.FAILED or (
        look.status is RunStatus.FINISHED and not math.isfinite(last_metric(look))
    )


def last_metric(look: Snapshot) -> float:
    """Return the metric on validation by a run's end; NaN where it has none."""
    evals = look.evals[EVAL_COLUMNS.index("metric")]
    return float(evals[-1]) if len(evals) else math.nan


def points_of(plan: SweepPlan, runs: Mapping[str, Mapping[int, Snapshot]]) -> list[Point]:
    """Return the points that have runs, the dense ones first, then trials by number.

    Args:
        plan: What is searched.
        runs: Stored runs by the point's name, then seed.
    """
    names = [each.name for each in space(plan) if each.name != "budget"]
    points = []
    for name, by_seed in runs.items():
        looks = {seed: look for seed, look in by_seed.items() if seed in plan.seeds}
        again = {seed: look for seed, look in by_seed.items() if seed not in plan.seeds}
        config = next(iter(by_seed.values())).config
        knobs = {n: v for n in names if (v := config.knobs.get(n)) is not None}
        whole = set(looks) >= set(plan.seeds) and all(
            look.status is RunStatus.FINISHED and not _broke(look) for look in looks.values()
        )
        own = {} if name.startswith(DENSE) else knobs
        points.append(Point(name, config.budget or 1.0, own, looks, whole, again))
    return sorted(points, key=lambda point: (point.number, -point.budget))


@dataclass(frozen=True)
class Rival:
    """What a trial is held against on its way: a dense run of no greater budget.

    Attributes:
        shares: Of the rival's way, rising, at which it was evaluated.
        metrics: Its metric on validation there.
        sign: 1 where a higher metric is better, else -1.
        allowed: A trial this much worse is hopeless.
    """

    shares: FloatArray
    metrics: FloatArray
    sign: float
    allowed: float

    def hopeless(self, look: Snapshot) -> bool:
        """Return whether a run, at its last evaluation, is worse by more than is allowed."""
        shares, metrics = way_of(look)
        if not len(shares) or shares[-1] < HOPELESS_FROM:
            return False
        then = float(np.interp(shares[-1], self.shares, self.metrics))
        return bool(self.sign * (then - metrics[-1]) > self.allowed)


def way_of(look: Snapshot) -> tuple[FloatArray, FloatArray]:
    """Return the shares of a run's way at which it was evaluated, and its metric there."""
    if look.start is None or not look.start.flops_end:
        return np.empty(0), np.empty(0)
    flops, metrics = (look.evals[EVAL_COLUMNS.index(name)] for name in ("flops", "metric"))
    return flops / look.start.flops_end, metrics


def rival_of(plan: SweepPlan, points: Sequence[Point], budget: float, seed: int) -> Rival | None:
    """Return the dense run that a trial must keep up with: of the next smaller budget."""
    dense = [p for p in points if p.dense and p.whole]
    smaller = [p for p in dense if p.budget <= budget] or dense[-1:]
    if not smaller:
        return None
    shares, metrics = way_of(max(smaller, key=lambda p: p.budget).looks[seed])
    return Rival(shares, metrics, sign_of(plan), HOPELESS_MARGINS * plan.margin)
