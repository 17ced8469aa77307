"""Which trial of a sweep becomes its candidate: the rule, and the replications that it needs.

With few seeds, the trials that look best are partly the luckiest, and do worse on the next seeds
(the winner's curse). The search therefore only proposes trials. Every sweep uses the same rule:

* In each tenth of the cost, the best trial is proposed, unless the search's seeds show that it is
  worse than full training by more than the margin.
* The best four of these are rerun on fresh seeds, cheapest first.
* The candidate is the first that matches full training there, by the test of the verdict: the lower
  one-sided 95% bound of its paired difference on validation lies above minus the margin. Fewer than
  six seeds that full training finished decide nothing.
* A trial that costs more than the candidate is rerun only after the candidate was rejected.
* A candidate that the study on the test split does not confirm is rejected, and the next follows.

Reasons for the rule:

* A trial is proposed even if its mean is worse by more than the margin, because the mean of few
  seeds is mostly luck. This holds for full training too, with which all trials are compared: one
  lucky seed of full training would reject every trial.
* "Shown to be worse" uses a one-sided 95% t bound. It pools the scatter of the paired differences
  over all trials, because the seeds of one trial are too few to estimate it.
* One trial of each tenth is enough: trials of almost equal cost are almost equally good, and their
  differences are luck.
* The search's seeds do not count in a replication, because the trial was chosen by its good results
  on them.
* A replication tests the bound, not the mean, because the study that confirms the candidate tests
  it too. A trial whose mean just reaches the margin would hardly ever pass.

Error rates, if every trial is truly worse by exactly the margin:

* Four replications at 5% each give a candidate in at most a fifth of the sweeps. The study on the
  test split then tests it again.
* A recommended trial has passed two tests on different seeds at 5% each. With four trials, one is
  recommended with a chance of at most 4 x 0.25% = 1%. Trying the next candidate is therefore no
  fishing for a good result.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from effcore.studies.executor import METERED_QUALITIES, StudyRun
from effcore.studies.statistics import PairedDifference
from effcore.studies.sweep import SweepPlan, dense_runs, metric_sign, replication_seeds, trial_runs
from effcore.studies.trials import SweepPoint, final_validation_metric
from effcore.studies.verdict import MIN_SEEDS, compare_pair

#: Largest number of trials that are replicated.
MAX_REPLICATIONS = 4


def candidate_rule_text(plan: SweepPlan) -> str:
    """Return the rule of this module in words, without a final period."""
    return (
        f"up to {MAX_REPLICATIONS} of the best trials are rerun on {len(replication_seeds(plan))} "
        "fresh seeds, cheapest first. The first that matches full training becomes the candidate. "
        "Only the best trial in each tenth of the cost is rerun, unless it is shown to be worse "
        "than full training by more than the margin. A trial matches full training if the lower "
        "one-sided 95% bound of its difference lies above minus the margin. If a study on the test "
        "split does not confirm the candidate, the next trial follows"
    )


def point_cost(plan: SweepPlan, points: Sequence[SweepPoint], point: SweepPoint) -> float:
    """Return the cost of a point as a share of full training; NaN where it is not known.

    The cost is in joules where the sweep is by joules, and these must have the same quality and
    source for both. Otherwise it is in FLOPs.
    """
    if plan.by == "flops":
        return point.flops_share
    energy, full_energy = (mean_joules(p) for p in (point, full_training_point(points)))
    if energy is None or full_energy is None or energy[1:] != full_energy[1:]:
        return math.nan
    return energy[0] / full_energy[0]


def mean_joules(point: SweepPoint | None) -> tuple[float, str, str] | None:
    """Return a point's mean joules, their quality and their source; ``None`` where not known.

    Joules of a board that other processes used at the same time are not the run's.
    """
    if point is None or not point.energies or any(energy.contended for energy in point.energies):
        return None
    origins = {(energy.quality.value, energy.source) for energy in point.energies}
    joules = [
        energy.joules
        for energy in point.energies
        if energy.quality in METERED_QUALITIES and energy.joules is not None
    ]
    if len(joules) < len(point.energies) or len(origins) > 1:
        return None
    return float(np.mean(joules)), *origins.pop()


def full_training_point(points: Sequence[SweepPoint]) -> SweepPoint | None:
    """Return full training, once it has finished on all seeds of the search."""
    return next((p for p in points if p.is_dense and p.budget == 1.0 and p.is_complete), None)


def complete_trials(points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """Return the trials that finished on all seeds of the search."""
    return [p for p in points if not p.is_dense and p.is_complete]


def proposed_trials(plan: SweepPlan, points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """Return the trials that the search proposes, cheapest first.

    Of each tenth of full training's cost it is the trial with the best metric, unless the search's
    seeds show that it is worse than full training by more than the margin. At most
    ``MAX_REPLICATIONS`` of these are returned, those with the best metric.
    """
    full, sign = full_training_point(points), metric_sign(plan)
    if full is None:
        return []
    min_gain = -plan.margin - scatter_allowance(plan, points)
    best: dict[int, tuple[float, float, SweepPoint]] = {}
    for point in complete_trials(points):
        cost, gain = point_cost(plan, points, point), sign * (point.mean_metric - full.mean_metric)
        if not (cost < 1 and gain >= min_gain):
            continue
        tenth = math.ceil(round(10 * cost, 1))  # one batch above a tenth still belongs to it
        if tenth not in best or (gain, -cost) > (best[tenth][0], -best[tenth][1]):
            best[tenth] = (gain, cost, point)
    by_gain = sorted(best.values(), key=lambda entry: (-entry[0], entry[1]))
    by_cost = sorted(by_gain[:MAX_REPLICATIONS], key=lambda entry: entry[1])
    return [point for _, _, point in by_cost]


def scatter_allowance(plan: SweepPlan, points: Sequence[SweepPoint]) -> float:
    """Return by how much a trial's mean may lie below its true value by chance.

    It is the distance of a one-sided 95% t bound from a mean paired difference to full training,
    with the scatter within trials pooled over all of them. A single seed shows no scatter and
    gives 0.
    """
    full, seeds = full_training_point(points), len(plan.seeds)
    trials = complete_trials(points)
    if full is None or seeds < 2 or not trials:
        return 0.0
    dense = {seed: final_validation_metric(run) for seed, run in full.snapshots.items()}
    differences = [
        [final_validation_metric(run) - dense[seed] for seed, run in point.snapshots.items()]
        for point in trials
    ]
    degrees_of_freedom = len(trials) * (seeds - 1)
    pooled = float(np.mean(np.var(differences, axis=1, ddof=1)))
    return float(special.stdtrit(degrees_of_freedom, 0.95)) * math.sqrt(pooled / seeds)


class Replication(NamedTuple):
    """A trial on fresh seeds, compared with full training.

    Attributes:
        point: The trial.
        seeds: Fresh seeds on which both finished.
        paired: Their paired differences, where higher is better; ``None`` with fewer than two.
        passed: Whether the trial matches full training; ``None`` while runs are missing.
    """

    point: SweepPoint
    seeds: tuple[int, ...]
    paired: PairedDifference | None
    passed: bool | None


def replications(
    plan: SweepPlan, points: Sequence[SweepPoint], rejected: Collection[str] = ()
) -> Iterator[Replication]:
    """Yield the replications, cheapest first, up to the candidate or the first unfinished one.

    Args:
        plan: The sweep's plan.
        points: The points with their runs.
        rejected: Names of candidates that the study on test did not confirm.
    """
    full = full_training_point(points)
    if full is None:
        return
    for point in proposed_trials(plan, points):
        replication = _replication_of(plan, full, point)
        yield replication
        if replication.passed is None or (replication.passed and point.name not in rejected):
            return


def _replication_of(plan: SweepPlan, full: SweepPoint, point: SweepPoint) -> Replication:
    planned, sign = replication_seeds(plan), metric_sign(plan)
    trial_scores, full_scores = (
        {
            seed: sign * final_validation_metric(run)
            for seed, run in compared.replication_snapshots.items()
        }
        for compared in (point, full)
    )
    full_seeds = tuple(s for s in planned if math.isfinite(full_scores.get(s, math.nan)))
    seeds = tuple(s for s in full_seeds if math.isfinite(trial_scores.get(s, math.nan)))
    answer = None
    if len(seeds) > 1:
        answer = compare_pair(
            [trial_scores[s] for s in seeds],
            [full_scores[s] for s in seeds],
            plan.margin,
            min_seeds=min(MIN_SEEDS, 3 * len(planned) // 4),  # 6 of the usual 8
        )
    paired = answer.paired if answer is not None else None
    if not (trial_scores.keys() >= set(planned) and full_scores.keys() >= set(planned)):
        return Replication(point, seeds, paired, None)
    # A seed on which full training broke down is not held against the trial.
    never_broke_down = seeds == full_seeds
    passed = never_broke_down and answer is not None and bool(answer.noninferior)
    return Replication(point, seeds, paired, passed)


def find_candidate(
    plan: SweepPlan, points: Sequence[SweepPoint], rejected: Collection[str] = ()
) -> SweepPoint | None:
    """Return the candidate: the cheapest trial that passed its replication and is not rejected."""
    passed = (r.point for r in replications(plan, points, rejected) if r.passed)
    return next((point for point in passed if point.name not in rejected), None)


def missing_replication_runs(
    plan: SweepPlan, points: Sequence[SweepPoint], rejected: Collection[str] = ()
) -> list[StudyRun]:
    """Return the runs that the current replication lacks; none once all are decided."""
    full = full_training_point(points)
    unfinished = (r for r in replications(plan, points, rejected) if r.passed is None)
    replication = next(unfinished, None)
    if full is None or replication is None:
        return []
    point, seeds = replication.point, replication_seeds(plan)
    full_runs = dense_runs(plan, full.budget, seeds)
    point_runs = trial_runs(plan, point.trial_number, point.knobs, point.budget, seeds)
    return [
        *(run for run in full_runs if run.seed not in full.replication_snapshots),
        *(run for run in point_runs if run.seed not in point.replication_snapshots),
    ]


def replication_runs_left(
    plan: SweepPlan, points: Sequence[SweepPoint], rejected: Collection[str] = ()
) -> int:
    """Return the largest number of runs that the replications may still need."""
    missing = len(missing_replication_runs(plan, points, rejected))
    later = len(proposed_trials(plan, points)) - len(list(replications(plan, points, rejected)))
    return missing + len(replication_seeds(plan)) * later if missing else 0
