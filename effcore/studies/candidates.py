"""Which point of a sweep is the candidate: what is looked at again, and what came of it.

Of many trials on few seeds those that look best are partly the luckiest, and fall short on the
next seeds (the winner's curse). So the search only proposes. The rule, the same for every
sweep: of each tenth of the cost the best trial that the search's seeds do not show to be worse
by more than the margin is looked at again on seeds that chose nothing, the best four of these,
the cheapest first; the candidate is the first that is not inferior to full dense training there,
its paired difference on validation having its lower one-sided 95% bound above minus the margin.

Why a trial whose mean is worse by more than the margin may be looked at again: of few seeds the
mean is mostly luck, that of full dense training too, to which all are held; one lucky dense seed
would let nothing through. Shown is what a one-sided 95% t bound shows, with the scatter of all
trials' paired differences pooled, since one trial's seeds are too few to tell theirs. Why the
second look asks for the bound and not the mean: it is what the study that confirms will ask, and
of points whose mean just reaches the margin hardly any would pass it. Were all trials truly a
margin worse, four asked at 5% each give a candidate in a fifth of the sweeps at most, and then it
is asked again on test. Why the search's own seeds do not count: a trial is looked at again since
it did well on them. Why one of each tenth: trials of almost equal cost are almost equally good,
and what separates them is luck. What costs more than the candidate is not looked at again while
that may be confirmed.

A candidate that the study on test does not confirm gives way to the next. That is no fishing:
what is recommended has passed two looks on different seeds, at 5% each, so that of four trials
that are all truly a margin worse one is recommended with a chance of 4 x 0.25% = 1% at most.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from effcore.studies.executor import METERED_QUALITIES, StudyRun
from effcore.studies.statistics import PairedDifference, paired_difference
from effcore.studies.sweep import SweepPlan, dense_runs, metric_sign, replication_seeds, trial_runs
from effcore.studies.trials import SweepPoint, final_validation_metric

#: Most trials that are looked at again.
MAX_REPLICATIONS = 4


def candidate_rule_text(plan: SweepPlan) -> str:
    """Return the rule of this module, as pages and reports say it."""
    return (
        "of each tenth of the cost the best trial that is not shown to be worse by more than the "
        f"margin, at most {MAX_REPLICATIONS} in all, is looked at again on "
        f"{len(replication_seeds(plan))} "
        "fresh seeds, the cheapest first; the candidate is the first that is not inferior to full "
        "dense training there (lower one-sided 95% bound above minus the margin), and gives way to "
        "the next where a study on test does not confirm it"
    )


def point_cost(plan: SweepPlan, points: Sequence[SweepPoint], point: SweepPoint) -> float:
    """Return what a point costs as a share of full dense training; NaN where not known.

    Of its joules where the sweep is by joules, which must be known in the same way in both;
    else of its FLOPs.
    """
    if plan.by == "flops":
        return point.flops_share
    own, full = (mean_joules(each) for each in (point, full_training_point(points)))
    same = own and full and own[1:] == full[1:]
    return own[0] / full[0] if own and full and same else math.nan


def mean_joules(point: SweepPoint | None) -> tuple[float, str, str] | None:
    """Return a point's mean joules, their quality and source; ``None`` where they are none.

    Those of a board that others used, too, are not the run's.
    """
    if point is None or not point.energies or any(each.contended for each in point.energies):
        return None
    known = {(each.quality.value, each.source) for each in point.energies}
    joules = [each.joules for each in point.energies if each.quality in METERED_QUALITIES]
    values = [value for value in joules if value is not None]
    if len(values) < len(point.energies) or len(known) > 1:
        return None
    return float(np.mean(values)), *known.pop()


def full_training_point(points: Sequence[SweepPoint]) -> SweepPoint | None:
    """Return full dense training, once all its seeds of the search are there."""
    return next((p for p in points if p.is_dense and p.budget == 1.0 and p.is_complete), None)


def complete_trials(points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """Return the trials that ended well on all seeds of the search."""
    return [p for p in points if not p.is_dense and p.is_complete]


def proposed_trials(plan: SweepPlan, points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """Return the trials that the search proposes, the cheapest first.

    Of each tenth of the dense cost the one with the best metric, if the search's seeds do not
    show it to be worse than full dense training by more than the margin; the best of these.
    """
    full, sign = full_training_point(points), metric_sign(plan)
    if full is None:
        return []
    least = -plan.margin - scatter_allowance(plan, points)
    best: dict[int, tuple[float, float, SweepPoint]] = {}
    for point in complete_trials(points):
        cost, gain = point_cost(plan, points, point), sign * (point.mean_metric - full.mean_metric)
        if not (cost < 1 and gain >= least):
            continue
        tenth = math.ceil(round(10 * cost, 1))  # a batch too many is no tenth of its own
        if tenth not in best or (gain, -cost) > (best[tenth][0], -best[tenth][1]):
            best[tenth] = (gain, cost, point)
    chosen = sorted(best.values(), key=lambda each: (-each[0], each[1]))[:MAX_REPLICATIONS]
    return [point for _, _, point in sorted(chosen, key=lambda each: each[1])]


def scatter_allowance(plan: SweepPlan, points: Sequence[SweepPoint]) -> float:
    """Return by how much a trial's mean may lie below its truth by the luck of the search's seeds.

    How far a one-sided 95% t bound lies from a mean paired difference to full dense training, by
    the scatter within trials, pooled over all of them; 0 of a single seed, which shows none.
    """
    full, seeds = full_training_point(points), len(plan.seeds)
    trials = complete_trials(points)
    if full is None or seeds < 2 or not trials:
        return 0.0
    dense = {seed: final_validation_metric(look) for seed, look in full.snapshots.items()}
    differences = [
        [final_validation_metric(look) - dense[seed] for seed, look in point.snapshots.items()]
        for point in trials
    ]
    freedom = len(trials) * (seeds - 1)
    pooled = float(np.mean(np.var(differences, axis=1, ddof=1)))
    return float(special.stdtrit(freedom, 0.95)) * math.sqrt(pooled / seeds)


class Replication(NamedTuple):
    """A trial on the fresh seeds, beside full dense training.

    Attributes:
        point: The trial.
        seeds: Fresh seeds on which both have ended well.
        paired: Their differences, the better the higher; ``None`` of fewer than two.
        passed: Whether it is not inferior; ``None`` while runs are missing.
    """

    point: SweepPoint
    seeds: tuple[int, ...]
    paired: PairedDifference | None
    passed: bool | None


def replications(
    plan: SweepPlan, points: Sequence[SweepPoint], rejected: Collection[str] = ()
) -> Iterator[Replication]:
    """Yield what is looked at again, the cheapest first; the last has passed or is not over.

    Args:
        plan: What is searched.
        points: What was tried.
        rejected: Names of candidates that the study on test did not confirm.
    """
    full = full_training_point(points)
    if full is None:
        return
    for point in proposed_trials(plan, points):
        look = _replication_of(plan, full, point)
        yield look
        if look.passed is None or (look.passed and point.name not in rejected):
            return


def _replication_of(plan: SweepPlan, full: SweepPoint, point: SweepPoint) -> Replication:
    wanted, sign = replication_seeds(plan), metric_sign(plan)
    own, dense = (
        {
            seed: sign * final_validation_metric(look)
            for seed, look in each.replication_snapshots.items()
        }
        for each in (point, full)
    )
    known = tuple(seed for seed in wanted if math.isfinite(dense.get(seed, math.nan)))
    both = tuple(seed for seed in known if math.isfinite(own.get(seed, math.nan)))
    found = None
    if len(both) > 1:
        found = paired_difference([own[seed] for seed in both], [dense[seed] for seed in both])
    if not (set(own) >= set(wanted) and set(dense) >= set(wanted)):
        return Replication(point, both, found, None)
    held = both == known  # where full dense training breaks down, a seed says nothing
    return Replication(point, both, found, bool(held and found and found.bound > -plan.margin))


def find_candidate(
    plan: SweepPlan, points: Sequence[SweepPoint], rejected: Collection[str] = ()
) -> SweepPoint | None:
    """Return the cheapest trial that the second look found not inferior, by the rule above."""
    passed = (look.point for look in replications(plan, points, rejected) if look.passed)
    return next((point for point in passed if point.name not in rejected), None)


def missing_replication_runs(
    plan: SweepPlan, points: Sequence[SweepPoint], rejected: Collection[str] = ()
) -> list[StudyRun]:
    """Return the runs that the second look needs next; nothing once it is over."""
    full = full_training_point(points)
    look = next(
        (look for look in replications(plan, points, rejected) if look.passed is None), None
    )
    if full is None or look is None:
        return []
    point, seeds = look.point, replication_seeds(plan)
    own = trial_runs(plan, point.trial_number, point.knobs, point.budget, seeds)
    dense = dense_runs(plan, full.budget, seeds)
    return [
        *(cell for cell in dense if cell.seed not in full.replication_snapshots),
        *(cell for cell in own if cell.seed not in point.replication_snapshots),
    ]


def replication_runs_left(
    plan: SweepPlan, points: Sequence[SweepPoint], rejected: Collection[str] = ()
) -> int:
    """Return how many runs the second look may take yet, at most."""
    missing = len(missing_replication_runs(plan, points, rejected))
    later = len(proposed_trials(plan, points)) - len(list(replications(plan, points, rejected)))
    return missing + len(replication_seeds(plan)) * later if missing else 0
