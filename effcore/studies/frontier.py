"""What a sweep found: points of metric against cost, their front, and the one to recommend.

The candidate is the cheapest trial that is not inferior to full dense training on validation,
by the rule of :mod:`effcore.studies.candidates`. It is recommended once a study of fresh seeds,
judged on test, finds it not inferior there too, and dense training of its compute does not do.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from effcore.records import Snapshot
from effcore.runs.summary import energy_record, metric_text
from effcore.studies.candidates import (
    MAX_REPLICATIONS,
    Replication,
    candidate_rule_text,
    complete_trials,
    find_candidate,
    full_training_point,
    mean_joules,
    missing_replication_runs,
    point_cost,
    replications,
)
from effcore.studies.comparison import difference_formatter, mean_share
from effcore.studies.plan import StudyPlan, plan_study
from effcore.studies.sweep import (
    SweepPlan,
    confirmation_seeds,
    metric_sign,
    replication_seeds,
    search_space,
)
from effcore.studies.trials import SweepPoint, final_validation_metric
from effcore.studies.verdict import Outcome
from effcore.tasks.base import TASKS, Metric, Task

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

#: Fewer whole trials say nothing of which knob matters.
MIN_TRIALS_FOR_IMPORTANCE = 8
#: Seeds that confirm: six would miss one in three points that are truly as good, where seeds
#: scatter by a margin; ten miss one in ten.
CONFIRMATION_SEEDS = 10


def confirmation_plan(plan: SweepPlan, point: SweepPoint, seeds: int) -> StudyPlan:
    """Return the study that confirms a point on seeds that the sweep has not seen.

    Raises:
        ConfigError: The point or the number of seeds is not allowed.
    """
    unseen = confirmation_seeds(plan, seeds)
    settings = {**plan.shared, **plan.own, **point.knobs}
    budget = float(f"{point.budget:.4g}")
    return plan_study(settings, [plan.policy], budget, unseen, plan.margin)


def pareto_front(plan: SweepPlan, points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """Return the trials that no other trial beats in cost and metric at once, cheapest first."""
    sign, trials = metric_sign(plan), complete_trials(points)
    whole = [(point_cost(plan, points, p), sign * p.mean_metric, p) for p in trials]
    known = [each for each in whole if math.isfinite(each[0])]  # NaN has no place in an order
    best, kept = -math.inf, []
    for _, metric, point in sorted(known, key=lambda each: (each[0], -each[1])):
        if metric > best:
            best = metric
            kept.append(point)
    return kept


def optuna_study(
    plan: SweepPlan, points: Sequence[SweepPoint], seed: int = 0
) -> tuple[optuna.Study, dict[str, BaseDistribution]]:
    """Return the search as Optuna has it, all trials that ended in it, and what is searched.

    Args:
        plan: What is searched.
        points: What was tried; of those that were stopped the knobs alone are told.
        seed: Of what is suggested next.
    """
    import optuna  # slow to import, and few commands search
    from optuna.distributions import FloatDistribution, IntDistribution
    from optuna.study import StudyDirection
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=8, constant_liar=True)
    way = StudyDirection.MAXIMIZE if metric_sign(plan) > 0 else StudyDirection.MINIMIZE
    study = optuna.create_study(directions=[StudyDirection.MINIMIZE, way], sampler=sampler)
    distributions: dict[str, BaseDistribution] = {
        each.name: IntDistribution(int(each.lo), int(each.hi), log=each.log)
        if each.integer
        else FloatDistribution(each.lo, each.hi, log=each.log)
        for each in search_space(plan)
    }
    for point in points:
        values = [point_cost(plan, points, point), point.mean_metric]
        if point.is_dense or not (point.is_complete or point.was_pruned):
            continue
        known = point.is_complete and all(map(math.isfinite, values))
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if known else TrialState.PRUNED,
                values=values if known else None,
                params={"budget": point.budget, **point.knobs},
                distributions=distributions,
            )
        )
    return study, distributions


def hypervolume_history(plan: SweepPlan, points: Sequence[SweepPoint]) -> list[float]:
    """Return the area between the front and the corner of full cost and least dense metric.

    One value after each whole trial, in their order; nothing before the dense curve is there.
    """
    import optuna
    from optuna.exceptions import ExperimentalWarning

    dense = [p for p in points if p.is_dense and p.is_complete]
    if not dense or not complete_trials(points):
        return []
    worst = min(dense, key=lambda p: metric_sign(plan) * p.mean_metric).mean_metric
    study, _ = optuna_study(plan, points)
    if not study.get_trials(states=[optuna.trial.TrialState.COMPLETE]):  # no cost is known
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        drawn = optuna.visualization.plot_hypervolume_history(study, [1.0, worst])
    return [float(value) for value in drawn.data[0].y]


def knob_importances(plan: SweepPlan, points: Sequence[SweepPoint]) -> dict[str, float]:
    """Return how much of the metric's variation over trials each knob explains, by fANOVA.

    Shares that add up to 1, the largest first; nothing where there are too few trials, or
    all have the same metric.
    """
    import optuna

    trials = complete_trials(points)
    if len(trials) < MIN_TRIALS_FOR_IMPORTANCE or len({p.mean_metric for p in trials}) < 2:
        return {}
    study, _ = optuna_study(plan, points)
    found = optuna.importance.get_param_importances(
        study,
        evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
        target=lambda trial: trial.values[1],
    )
    return {name: float(share) for name, share in found.items()}


class Confirmation(NamedTuple):
    """Result of the study that was to confirm a candidate.

    Attributes:
        study_id: The study.
        verdict: Its verdict.
        noninferior: Whether the point is not inferior to full dense training.
        sentence: The verdict in words.
    """

    study_id: str
    verdict: Outcome
    noninferior: bool | None
    sentence: str

    @property
    def is_recommended(self) -> bool:
        """Whether the point may be recommended: shortening alone does not do as well."""
        return bool(self.noninferior) and self.verdict in (Outcome.WIN, Outcome.TIE)

    @property
    def is_rejected(self) -> bool:
        """Whether a dearer point has its turn; where shortening does as well, none has."""
        return self.noninferior is False and self.verdict is not Outcome.OVERTRAINED


def rejected_candidates(confirmations: Mapping[str, Confirmation]) -> set[str]:
    """Return the candidates that gave way, by name."""
    return {name for name, each in confirmations.items() if each.is_rejected}


def search_is_settled(
    plan: SweepPlan, points: Sequence[SweepPoint], confirmations: Mapping[str, Confirmation]
) -> bool:
    """Return whether no candidate is left to look at again, or to confirm."""
    lost = rejected_candidates(confirmations)
    best = find_candidate(plan, points, lost)
    return not missing_replication_runs(plan, points, lost) and (
        best is None or best.name in confirmations
    )


class SweepOutcome(StrEnum):
    """Conclusion of a sweep so far.

    ``RECOMMENDED``: the candidate is confirmed on test, and shortening does not do as well.
    ``UNCONFIRMED``: there is a candidate, and no study of it has ended.
    ``SHORTENING_DOES_AS_WELL``: the candidate is confirmed, and so is dense training of its cost.
    ``NOT_CONFIRMED``: a study of the candidate did not confirm it, and none is dearer.
    ``NONE_PROPOSED``: no trial comes close enough to full dense training to be replicated.
    ``NONE_REPLICATED``: no replicated trial is as good as full dense training.
    ``REPLICATION_UNFINISHED``: runs of the replication are missing.
    ``TRIALS_UNFINISHED``: trials are missing.
    ``COST_UNKNOWN``: the cost of no trial is known.
    ``FULL_TRAINING_FAILED``: full dense training broke down.
    ``FULL_TRAINING_UNFINISHED``: runs of full dense training are missing.
    """

    RECOMMENDED = "recommended"
    UNCONFIRMED = "unconfirmed"
    SHORTENING_DOES_AS_WELL = "shortening does as well"
    NOT_CONFIRMED = "not confirmed"
    NONE_PROPOSED = "none proposed"
    NONE_REPLICATED = "none replicated"
    REPLICATION_UNFINISHED = "replication unfinished"
    TRIALS_UNFINISHED = "trials unfinished"
    COST_UNKNOWN = "cost unknown"
    FULL_TRAINING_FAILED = "full training failed"
    FULL_TRAINING_UNFINISHED = "full training unfinished"

    @property
    def nothing_wins(self) -> bool:
        """Whether the sweep is decided, and recommends nothing."""
        return self in (
            SweepOutcome.SHORTENING_DOES_AS_WELL,
            SweepOutcome.NOT_CONFIRMED,
            SweepOutcome.NONE_PROPOSED,
            SweepOutcome.NONE_REPLICATED,
        )


class PointState(StrEnum):
    """State of a sweep's point."""

    DONE = "done"
    FAILED = "failed"
    PRUNED = "stopped as hopeless"
    UNFINISHED = "cut short"


def point_state(point: SweepPoint) -> PointState:
    """Return the state of a point."""
    if point.failure_reason:
        return PointState.FAILED
    if point.was_pruned:
        return PointState.PRUNED
    return PointState.DONE if point.is_complete else PointState.UNFINISHED


@dataclass(frozen=True)
class PointResult:
    """Result of one point of a sweep.

    Attributes:
        point: Its setting and runs.
        state: Its state.
        cost: Share of full dense training's cost; ``None`` where it is not known.
        metric: Mean metric on validation; ``None`` where it has not ended well.
        skipped_compute_frac: Mean over its runs of the share skipped of what was considered.
        saved_compute_frac: One minus its FLOPs over those of full dense training; ``None`` before
            a run has ended.
        is_on_front: Whether no other trial is better in cost and metric.
    """

    point: SweepPoint
    state: PointState
    cost: float | None
    metric: float | None
    skipped_compute_frac: float | None
    saved_compute_frac: float | None
    is_on_front: bool

    @property
    def name(self) -> str:
        """Name of the point."""
        return self.point.name


@dataclass(frozen=True)
class SweepResult:
    """Result of a sweep, as pages, reports and the command line show it.

    Attributes:
        sweep_id: The sweep.
        plan: What is searched.
        outcome: Its conclusion.
        points: The dense points, then the trials.
        candidate: The candidate; ``None`` without one.
        replications: Replicated trials, the cheapest first.
        confirmations: Studies of candidates, by the trial's name, in the order of their turns.
        cost_unit: What cost is a share of: computation, or joules with their quality.
        hypervolume: Area behind the front after each trial.
        importance: Share of the metric's variation that each knob explains.
    """

    sweep_id: str
    plan: SweepPlan
    outcome: SweepOutcome
    points: tuple[PointResult, ...]
    candidate: PointResult | None
    replications: tuple[Replication, ...]
    confirmations: Mapping[str, Confirmation]
    cost_unit: str
    hypervolume: tuple[float, ...]
    importance: Mapping[str, float]

    @property
    def task(self) -> type[Task]:
        """The task."""
        return TASKS.get(str(self.plan.shared["task"]))

    @property
    def metric(self) -> Metric:
        """Metric of the task."""
        return self.task.metric

    @property
    def confirmation(self) -> Confirmation | None:
        """Study of the candidate; ``None`` before one has ended."""
        return self.confirmations.get(self.candidate.name) if self.candidate else None

    @property
    def sweep_points(self) -> list[SweepPoint]:
        """Setting and runs of every point."""
        return [each.point for each in self.points]

    @property
    def measured_points(self) -> list[PointResult]:
        """Points whose metric is known."""
        return [each for each in self.points if each.metric is not None]


def sweep_result(
    sweep_id: str,
    plan: SweepPlan,
    points: Sequence[SweepPoint],
    confirmations: Mapping[str, Confirmation],
) -> SweepResult:
    """Return the result of a sweep.

    Args:
        sweep_id: The sweep.
        plan: What is searched.
        points: What was tried.
        confirmations: Results of the candidates' studies, by the trial's name.
    """
    rejected = rejected_candidates(confirmations)
    best = find_candidate(plan, points, rejected)
    on_front = {p.name for p in pareto_front(plan, points)}
    results = tuple(
        PointResult(
            point,
            point_state(point),
            _finite_or_none(point_cost(plan, points, point)),
            _finite_or_none(point.mean_metric),
            mean_share(
                [s.end.skipped_compute_frac for s in point.snapshots.values() if s.end is not None]
            ),
            _finite_or_none(1 - point.flops_share),
            point.name in on_front,
        )
        for point in points
    )
    return SweepResult(
        sweep_id,
        plan,
        sweep_outcome(plan, points, confirmations),
        results,
        next((each for each in results if best and each.name == best.name), None),
        tuple(replications(plan, points, rejected)),
        confirmations,
        _cost_unit(plan, points),
        tuple(hypervolume_history(plan, points)),
        knob_importances(plan, points),
    )


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cost_unit(plan: SweepPlan, points: Sequence[SweepPoint]) -> str:
    """Return what cost is a share of: joules with how they came to be known, or computation."""
    if plan.by != "joules":
        return "computation"
    known = mean_joules(full_training_point(points))
    return f"{known[1].upper()} joules" if known else "joules"


def sweep_outcome(
    plan: SweepPlan, points: Sequence[SweepPoint], confirmations: Mapping[str, Confirmation]
) -> SweepOutcome:
    """Return the conclusion of a sweep.

    Args:
        plan: What is searched.
        points: What was tried.
        confirmations: Results of the candidates' studies, by the trial's name.
    """
    rejected = rejected_candidates(confirmations)
    best = find_candidate(plan, points, rejected)
    if best is not None:
        confirmed = confirmations.get(best.name)
        if confirmed is None:
            return SweepOutcome.UNCONFIRMED
        if confirmed.is_recommended:
            return SweepOutcome.RECOMMENDED
        if confirmed.noninferior:
            return SweepOutcome.SHORTENING_DOES_AS_WELL
        return SweepOutcome.NOT_CONFIRMED
    if full_training_point(points) is None:
        if full_training_failure(points):
            return SweepOutcome.FULL_TRAINING_FAILED
        return SweepOutcome.FULL_TRAINING_UNFINISHED
    if _ended_trial_count(points) < plan.trials:
        return SweepOutcome.TRIALS_UNFINISHED
    trials = complete_trials(points)
    if trials and not any(math.isfinite(point_cost(plan, points, p)) for p in trials):
        return SweepOutcome.COST_UNKNOWN
    looks = list(replications(plan, points, rejected))
    if not looks:
        return SweepOutcome.NONE_PROPOSED
    if looks[-1].passed is None:
        return SweepOutcome.REPLICATION_UNFINISHED
    return SweepOutcome.NONE_REPLICATED


def full_training_failure(points: Sequence[SweepPoint]) -> str:
    """Return why full dense training broke down; empty where it did not."""
    return next((p.failure_reason for p in points if p.is_dense and p.budget == 1.0), "")


def _ended_trial_count(points: Sequence[SweepPoint]) -> int:
    return sum(not p.is_dense and p.has_ended for p in points)


def conclusion_text(result: SweepResult) -> str:
    """Return what the sweep shows, in words."""
    return " ".join(conclusion_sentences(result))


def conclusion_sentences(result: SweepResult) -> list[str]:
    """Return the conclusion, and after it the sentences with its evidence."""
    points = result.sweep_points
    if result.candidate is not None:
        return _candidate_sentences(result, result.candidate)
    match result.outcome:
        case SweepOutcome.FULL_TRAINING_FAILED:
            return [
                f"Nothing can be said: full dense training broke down "
                f"({full_training_failure(points)}), and it is what all are held against.",
                "Lower the learning rate, or choose other seeds.",
            ]
        case SweepOutcome.FULL_TRAINING_UNFINISHED:
            return ["Full dense training has not ended on all seeds yet: nothing can be said."]
        case SweepOutcome.TRIALS_UNFINISHED:
            ended = _ended_trial_count(points)
            return [f"{ended} of {result.plan.trials} trials have ended: nothing can be said yet."]
        case SweepOutcome.COST_UNKNOWN:
            return [
                "Nothing can be said: joules are not known in the same way in full dense training "
                "and in a trial, so that no cost is."
            ]
        case SweepOutcome.NONE_PROPOSED:
            return [
                f"Nothing wins: of {len(complete_trials(points))} trials none comes close enough "
                "to full dense training on validation to be looked at again."
            ]
        case SweepOutcome.REPLICATION_UNFINISHED:
            return ["The second look, on fresh seeds, is not over: nothing can be said yet."]
    names = ", ".join(each.point.name for each in result.replications)
    return [
        f"Nothing wins: what came close enough to be looked at again ({names}) is not shown to be "
        "as good as full dense training on fresh seeds.",
        *(
            f"{name.capitalize()}, on test: {each.sentence}"
            for name, each in result.confirmations.items()
        ),
    ]


def _candidate_sentences(result: SweepResult, candidate: PointResult) -> list[str]:
    """Return the conclusion and its evidence where there is a candidate."""
    cost, confirmed = candidate.cost, result.confirmation
    assert cost is not None, "a candidate is chosen by its cost"
    skips = f"spends {1 - cost:.0%} less of the {result.cost_unit}"
    what = f"{candidate.name} {skips}"
    if confirmed is None:
        return [
            f"{candidate.name.capitalize()} {skips} and, on "
            f"{len(replication_seeds(result.plan))} fresh seeds of validation, is as good as full "
            "dense training; not confirmed yet."
        ]
    if result.outcome is SweepOutcome.RECOMMENDED:
        words = [f"Recommended: {what}, confirmed on fresh seeds.", confirmed.sentence]
        return words + _late_trials_sentences(result.sweep_points)
    if result.outcome is SweepOutcome.SHORTENING_DOES_AS_WELL:
        return [f"Nothing wins: {what}, and so may dense training.", confirmed.sentence]
    return [f"Nothing wins: {what}, but fresh seeds do not confirm it.", confirmed.sentence]


def _late_trials_sentences(points: Sequence[SweepPoint]) -> list[str]:
    """Return that more trials than usual had their chance, where trials joined later."""
    count = sum(not point.is_dense and bool(point.replication_snapshots) for point in points)
    if count <= MAX_REPLICATIONS:
        return []
    return [
        f"In all {count} trials were looked at again, since trials joined later: were none as "
        f"good, one would be recommended with a chance of {count} x 0.25% at most."
    ]


def sweep_record(result: SweepResult) -> dict[str, Any]:
    """Return what ``sweep --json`` prints."""
    plan, best, confirmed = result.plan, result.candidate, result.confirmation
    is_recommended = result.outcome is SweepOutcome.RECOMMENDED
    return {
        "sweep_id": result.sweep_id,
        "task": plan.shared["task"],
        "policy": plan.policy,
        "metric": result.metric.name,
        "higher_is_better": result.metric.higher_is_better,
        "margin": plan.margin,
        "cost": f"share of full dense training's {result.cost_unit}",
        "seeds": list(plan.seeds),
        "rule": candidate_rule_text(plan),
        "second_look": {
            "seeds": list(replication_seeds(plan)),
            "trials": [_replication_record(each) for each in result.replications],
        },
        "points": [_point_record(each) for each in result.points],
        "hypervolume": list(result.hypervolume),
        "importance": dict(result.importance),
        "candidate": best.name if best else None,
        "tried": {name: each._asdict() for name, each in result.confirmations.items()},
        "confirmed": confirmed._asdict() if confirmed else None,
        "recommended": best.name if best and is_recommended else None,
        "outcome": result.outcome.value,
        "conclusion": conclusion_text(result),
    }


def _replication_record(replication: Replication) -> dict[str, Any]:
    paired = replication.paired
    return {
        "name": replication.point.name,
        "seeds": list(replication.seeds),
        "mean": paired.mean if paired else None,
        "bound": paired.bound if paired else None,
        "passed": replication.passed,
    }


def _point_record(result: PointResult) -> dict[str, Any]:
    point = result.point
    return {
        "name": point.name,
        "state": result.state.value,
        "why": point.failure_reason,
        "budget": point.budget,
        "knobs": dict(point.knobs),
        "cost": result.cost,
        "metric": result.metric,
        "skipped_compute_frac": result.skipped_compute_frac,
        "saved_compute_frac": result.saved_compute_frac,
        **_point_runs_record(point.snapshots),
        "again": _point_runs_record(point.replication_snapshots),
        "front": result.is_on_front,
    }


def _point_runs_record(snapshots: Mapping[int, Snapshot]) -> dict[str, Any]:
    """Return runs, a value each in every list."""
    metrics = [final_validation_metric(look) for look in snapshots.values()]
    return {
        "seeds": list(snapshots),
        "runs": [look.run_id for look in snapshots.values()],
        "metrics": [_finite_or_none(value) for value in metrics],
        "energy": [energy_record(look.energy) for look in snapshots.values()],
    }


def sweep_text(result: SweepResult) -> str:
    """Return a sweep's result as text."""
    plan, metric = result.plan, result.metric
    write, unit = difference_formatter(metric)
    lines = [
        f"{plan.shared['task']}, {plan.policy}, {metric.label} on validation, margin "
        f"{write(plan.margin)[1:]} {unit}".rstrip(),
        f"cost is the share of full dense training's {result.cost_unit}; * on the front",
    ]
    lines += [_point_line(metric, each) for each in result.points]
    shares = ", ".join(f"{name} {share:.0%}" for name, share in result.importance.items())
    lines += [f"what moves the metric: {shares}"] if shares else []
    lines.append(f"rule: {candidate_rule_text(plan)}")
    lines += [replication_text(each, write, unit) for each in result.replications]
    return "\n".join([*lines, conclusion_text(result)])


def replication_text(
    replication: Replication, format_difference: Callable[[float], str], unit: str
) -> str:
    """Return what became of a trial in the second look.

    Args:
        replication: The trial and its runs on fresh seeds.
        format_difference: Writes a difference as a number.
        unit: What it is then in.
    """
    name, count, paired = replication.point.name, len(replication.seeds), replication.paired
    if replication.passed is None:
        return f"{name} again: {count} fresh seeds so far"
    if paired is None:
        return f"{name} again: it broke down"
    numbers = f"{format_difference(paired.mean)} {unit}".rstrip()
    verdict = "as good as full dense" if replication.passed else "not shown to be as good"
    bound = format_difference(paired.bound)
    return f"{name} again: {numbers}, bound {bound}, on {count} seeds: {verdict}"


def _point_line(metric: Metric, result: PointResult) -> str:
    point = result.point
    knobs = ", ".join(f"{name} {value:.4g}" for name, value in point.knobs.items())
    line = f"{'*' if result.is_on_front else ' '} {point.name:<10} {knobs}".ljust(60)
    if result.metric is None:
        return f"{line} {result.state} {point.failure_reason}".rstrip()
    cost = "no cost" if result.cost is None else f"{result.cost:.1%}"
    return f"{line} {cost:>7} {metric_text(metric, result.metric):>10}"
