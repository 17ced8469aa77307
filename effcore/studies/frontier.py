"""Results of a sweep: its points of metric and cost, their Pareto front, and the recommendation.

The candidate is the cheapest trial that matches full training on validation by the rule of
:mod:`effcore.studies.candidates`. It is recommended if a study on fresh seeds and the test split
shows that it matches full training there too, and does not show the same of same-budget training.
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

#: Fewest complete trials from which the importance of knobs is estimated.
MIN_TRIALS_FOR_IMPORTANCE = 8
#: Seeds of the confirming study. Where seeds scatter by a margin, six would miss one in three
#: trials that truly match full training; ten miss one in ten.
CONFIRMATION_SEEDS = 10


def confirmation_plan(plan: SweepPlan, point: SweepPoint, seeds: int) -> StudyPlan:
    """Return the study that confirms a trial on seeds that the sweep does not use.

    Raises:
        ConfigError: The point or the number of seeds is not allowed.
    """
    settings = {**plan.shared, **plan.own, **point.knobs}
    budget = float(f"{point.budget:.4g}")
    fresh_seeds = confirmation_seeds(plan, seeds)
    return plan_study(settings, [plan.policy], budget, fresh_seeds, plan.margin)


def pareto_front(plan: SweepPlan, points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """Return the trials that no other trial beats in both cost and metric, cheapest first."""
    sign, trials = metric_sign(plan), complete_trials(points)
    scored = [(point_cost(plan, points, p), sign * p.mean_metric, p) for p in trials]
    with_cost = [entry for entry in scored if math.isfinite(entry[0])]  # NaN cannot be sorted
    best_score, front = -math.inf, []
    for _, score, point in sorted(with_cost, key=lambda entry: (entry[0], -entry[1])):
        if score > best_score:
            best_score = score
            front.append(point)
    return front


def optuna_study(
    plan: SweepPlan, points: Sequence[SweepPoint], seed: int = 0
) -> tuple[optuna.Study, dict[str, BaseDistribution]]:
    """Return an Optuna study that holds the ended trials, and its search space.

    Args:
        plan: The sweep's plan.
        points: The points with their runs. Of a pruned trial Optuna gets the knobs, but no values.
        seed: Seed of Optuna's next suggestions.
    """
    import optuna  # slow to import, and few commands need it
    from optuna.distributions import FloatDistribution, IntDistribution
    from optuna.study import StudyDirection
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=8, constant_liar=True)
    metric_direction = StudyDirection.MAXIMIZE if metric_sign(plan) > 0 else StudyDirection.MINIMIZE
    study = optuna.create_study(
        directions=[StudyDirection.MINIMIZE, metric_direction], sampler=sampler
    )
    distributions: dict[str, BaseDistribution] = {
        searched.name: IntDistribution(int(searched.lo), int(searched.hi), log=searched.log)
        if searched.integer
        else FloatDistribution(searched.lo, searched.hi, log=searched.log)
        for searched in search_space(plan)
    }
    for point in points:
        values = [point_cost(plan, points, point), point.mean_metric]
        if point.is_dense or not (point.is_complete or point.was_pruned):
            continue
        has_values = point.is_complete and all(map(math.isfinite, values))
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if has_values else TrialState.PRUNED,
                values=values if has_values else None,
                params={"budget": point.budget, **point.knobs},
                distributions=distributions,
            )
        )
    return study, distributions


def hypervolume_history(plan: SweepPlan, points: Sequence[SweepPoint]) -> list[float]:
    """Return the hypervolume after each complete trial; nothing before a dense point is complete.

    The reference point has the cost of full training and the worst metric of the dense curve.
    """
    import optuna
    from optuna.exceptions import ExperimentalWarning

    dense = [p for p in points if p.is_dense and p.is_complete]
    if not dense or not complete_trials(points):
        return []
    worst = min(dense, key=lambda p: metric_sign(plan) * p.mean_metric).mean_metric
    study, _ = optuna_study(plan, points)
    if not study.get_trials(states=[optuna.trial.TrialState.COMPLETE]):  # no trial's cost is known
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        figure = optuna.visualization.plot_hypervolume_history(study, [1.0, worst])
    return [float(value) for value in figure.data[0].y]


def knob_importances(plan: SweepPlan, points: Sequence[SweepPoint]) -> dict[str, float]:
    """Return the share of the metric's variation over trials that each knob explains, by fANOVA.

    The shares add up to 1 and are sorted, largest first. There are none where the trials are too
    few or all have the same metric.
    """
    import optuna

    trials = complete_trials(points)
    if len(trials) < MIN_TRIALS_FOR_IMPORTANCE or len({p.mean_metric for p in trials}) < 2:
        return {}
    study, _ = optuna_study(plan, points)
    importances = optuna.importance.get_param_importances(
        study,
        evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
        target=lambda trial: trial.values[1],
    )
    return {name: float(share) for name, share in importances.items()}


class Confirmation(NamedTuple):
    """Result of the study that tests a candidate.

    Attributes:
        study_id: Id of the study.
        verdict: Its outcome.
        noninferior: Whether the candidate matches full training.
        sentence: The verdict in words.
    """

    study_id: str
    verdict: Outcome
    noninferior: bool | None
    sentence: str

    @property
    def is_recommended(self) -> bool:
        """Whether it matches full training, and same-budget training is not shown to match."""
        return bool(self.noninferior) and self.verdict in (Outcome.WIN, Outcome.TIE)

    @property
    def is_rejected(self) -> bool:
        """Whether the next trial follows; none does where same-budget training matches, too."""
        return self.noninferior is False and self.verdict is not Outcome.OVERTRAINED


def candidates_rejected_on_test(confirmations: Mapping[str, Confirmation]) -> set[str]:
    """Return the names of the candidates that their studies rejected."""
    return {name for name, confirmation in confirmations.items() if confirmation.is_rejected}


def search_is_settled(
    plan: SweepPlan, points: Sequence[SweepPoint], confirmations: Mapping[str, Confirmation]
) -> bool:
    """Return whether there is nothing left to replicate or to confirm."""
    rejected = candidates_rejected_on_test(confirmations)
    candidate = find_candidate(plan, points, rejected)
    return not missing_replication_runs(plan, points, rejected) and (
        candidate is None or candidate.name in confirmations
    )


class SweepOutcome(StrEnum):
    """Conclusion of a sweep so far.

    ``RECOMMENDED``: the candidate is confirmed on test, and same-budget training is not shown to
    match full training.
    ``UNCONFIRMED``: there is a candidate, but no study of it has ended.
    ``SHORTENING_DOES_AS_WELL``: the candidate is confirmed, but same-budget training may do as
    well.
    ``NOT_CONFIRMED``: a study did not confirm the candidate, and no other trial follows.
    ``NONE_PROPOSED``: no trial comes close enough to full training to be replicated.
    ``NONE_REPLICATED``: no replicated trial is shown to match full training.
    ``REPLICATION_UNFINISHED``: runs of a replication are missing.
    ``TRIALS_UNFINISHED``: trials are missing.
    ``COST_UNKNOWN``: no trial has a known cost.
    ``FULL_TRAINING_FAILED``: full training broke down.
    ``FULL_TRAINING_UNFINISHED``: runs of full training are missing.
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
        """Whether the sweep has a conclusion that recommends nothing."""
        return self in (
            SweepOutcome.SHORTENING_DOES_AS_WELL,
            SweepOutcome.NOT_CONFIRMED,
            SweepOutcome.NONE_PROPOSED,
            SweepOutcome.NONE_REPLICATED,
        )


class PointState(StrEnum):
    """State of a sweep's point; the values are those of ``sweep --json``."""

    DONE = "done"
    FAILED = "failed"
    PRUNED = "stopped as hopeless"
    UNFINISHED = "cut short"

    @property
    def text(self) -> str:
        """The state in words."""
        return {PointState.PRUNED: "pruned", PointState.UNFINISHED: "unfinished"}.get(self, self)


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
        cost: Cost as a share of full training's; ``None`` where it is not known.
        metric: Mean metric on validation; ``None`` where the point is not complete.
        skipped_compute_frac: Mean rate at which its runs skipped computation.
        saved_compute_frac: Share of full training's computation that was not spent; ``None``
            before a run has ended.
        is_on_front: Whether no other trial beats it in both cost and metric.
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
        sweep_id: Id of the sweep.
        plan: Its plan.
        outcome: Its conclusion.
        points: The dense points, then the trials.
        candidate: The candidate; ``None`` without one.
        replications: Replicated trials, cheapest first.
        confirmations: Results of the candidates' studies by the trial's name, oldest first.
        cost_unit: What cost is a share of: computation, or joules with their quality.
        hypervolume: Hypervolume of the front after each trial.
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
        """The task that the sweep trains."""
        return TASKS.get(str(self.plan.shared["task"]))

    @property
    def metric(self) -> Metric:
        """Metric of the task."""
        return self.task.metric

    @property
    def confirmation(self) -> Confirmation | None:
        """Result of the candidate's study; ``None`` before it has ended."""
        return self.confirmations.get(self.candidate.name) if self.candidate else None

    @property
    def sweep_points(self) -> list[SweepPoint]:
        """Setting and runs of every point."""
        return [result.point for result in self.points]

    @property
    def measured_points(self) -> list[PointResult]:
        """Points whose metric is known."""
        return [result for result in self.points if result.metric is not None]


def sweep_result(
    sweep_id: str,
    plan: SweepPlan,
    points: Sequence[SweepPoint],
    confirmations: Mapping[str, Confirmation],
) -> SweepResult:
    """Return the result of a sweep.

    Args:
        sweep_id: Id of the sweep.
        plan: Its plan.
        points: Its points with their runs.
        confirmations: Results of the candidates' studies, by the trial's name.
    """
    rejected = candidates_rejected_on_test(confirmations)
    candidate = find_candidate(plan, points, rejected)
    on_front = {p.name for p in pareto_front(plan, points)}
    results = tuple(
        PointResult(
            point=point,
            state=point_state(point),
            cost=_finite_or_none(point_cost(plan, points, point)),
            metric=_finite_or_none(point.mean_metric),
            skipped_compute_frac=mean_share(
                [s.end.skipped_compute_frac for s in point.snapshots.values() if s.end is not None]
            ),
            saved_compute_frac=_finite_or_none(1 - point.flops_share),
            is_on_front=point.name in on_front,
        )
        for point in points
    )
    return SweepResult(
        sweep_id=sweep_id,
        plan=plan,
        outcome=sweep_outcome(plan, points, confirmations),
        points=results,
        candidate=next((r for r in results if candidate and r.name == candidate.name), None),
        replications=tuple(replications(plan, points, rejected)),
        confirmations=confirmations,
        cost_unit=_cost_unit(plan, points),
        hypervolume=tuple(hypervolume_history(plan, points)),
        importance=knob_importances(plan, points),
    )


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cost_unit(plan: SweepPlan, points: Sequence[SweepPoint]) -> str:
    """Return what cost is a share of: computation, or joules with their quality."""
    if plan.by != "joules":
        return "computation"
    full_energy = mean_joules(full_training_point(points))
    return f"{full_energy[1].upper()} joules" if full_energy else "joules"


def sweep_outcome(
    plan: SweepPlan, points: Sequence[SweepPoint], confirmations: Mapping[str, Confirmation]
) -> SweepOutcome:
    """Return the conclusion of a sweep.

    Args:
        plan: Its plan.
        points: Its points with their runs.
        confirmations: Results of the candidates' studies, by the trial's name.
    """
    rejected = candidates_rejected_on_test(confirmations)
    candidate = find_candidate(plan, points, rejected)
    if candidate is not None:
        confirmation = confirmations.get(candidate.name)
        if confirmation is None:
            return SweepOutcome.UNCONFIRMED
        if confirmation.is_recommended:
            return SweepOutcome.RECOMMENDED
        if confirmation.noninferior:
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
    replicated = list(replications(plan, points, rejected))
    if not replicated:
        return SweepOutcome.NONE_PROPOSED
    if replicated[-1].passed is None:
        return SweepOutcome.REPLICATION_UNFINISHED
    return SweepOutcome.NONE_REPLICATED


def full_training_failure(points: Sequence[SweepPoint]) -> str:
    """Return why full training broke down; empty where it did not."""
    return next((p.failure_reason for p in points if p.is_dense and p.budget == 1.0), "")


def _ended_trial_count(points: Sequence[SweepPoint]) -> int:
    return sum(not p.is_dense and p.has_ended for p in points)


def conclusion_text(result: SweepResult) -> str:
    """Return the conclusion of a sweep and its evidence in words."""
    return " ".join(conclusion_sentences(result))


def conclusion_sentences(result: SweepResult) -> list[str]:
    """Return the conclusion in a sentence, and then the sentences with its evidence."""
    points = result.sweep_points
    if result.candidate is not None:
        return _candidate_sentences(result, result.candidate)
    match result.outcome:
        case SweepOutcome.FULL_TRAINING_FAILED:
            return [
                f"No conclusion: full training broke down ({full_training_failure(points)}), and "
                "every trial is compared with it.",
                "Lower the learning rate, or choose other seeds.",
            ]
        case SweepOutcome.FULL_TRAINING_UNFINISHED:
            return ["Full training has not finished on all seeds. There is no conclusion yet."]
        case SweepOutcome.TRIALS_UNFINISHED:
            ended = _ended_trial_count(points)
            return [
                f"{ended} of {result.plan.trials} trials have ended. There is no conclusion yet."
            ]
        case SweepOutcome.COST_UNKNOWN:
            return [
                "No conclusion: joules are not known in the same way for full training and for a "
                "trial, so no trial has a known cost."
            ]
        case SweepOutcome.NONE_PROPOSED:
            return [
                f"Nothing wins: none of {len(complete_trials(points))} trials comes close enough "
                "to full training on validation to be rerun on fresh seeds."
            ]
        case SweepOutcome.REPLICATION_UNFINISHED:
            return [
                "The second look has not finished: runs on fresh seeds are missing. There is no "
                "conclusion yet."
            ]
    names = ", ".join(replication.point.name for replication in result.replications)
    return [
        f"Nothing wins: no trial that was rerun on fresh seeds ({names}) is shown to match full "
        "training.",
        *(
            f"{name.capitalize()}, on test: {confirmation.sentence}"
            for name, confirmation in result.confirmations.items()
        ),
    ]


def _replication_seed_count(result: SweepResult, candidate: PointResult) -> int:
    """Return on how many fresh seeds a candidate was compared with full training."""
    return next(len(r.seeds) for r in result.replications if r.point.name == candidate.name)


def _candidate_sentences(result: SweepResult, candidate: PointResult) -> list[str]:
    """Return the conclusion and its evidence where there is a candidate."""
    cost, confirmation = candidate.cost, result.confirmation
    assert cost is not None, "a candidate is chosen by its cost"
    saves = f"{candidate.name} saves {1 - cost:.0%} of full training's {result.cost_unit}"
    if confirmation is None:
        return [
            f"{saves[0].upper()}{saves[1:]} and matches full training on validation over "
            f"{_replication_seed_count(result, candidate)} fresh seeds. It is not confirmed yet."
        ]
    if result.outcome is SweepOutcome.RECOMMENDED:
        headline = (
            f"Recommended: {saves}, and a study on fresh seeds confirms that it matches full "
            "training."
        )
        late_trials = _late_trials_sentences(result.sweep_points)
        return [headline, confirmation.sentence, *late_trials]
    if result.outcome is SweepOutcome.SHORTENING_DOES_AS_WELL:
        headline = f"Nothing wins: {saves}, but same-budget training may do as well."
        return [headline, confirmation.sentence]
    headline = (
        f"Nothing wins: {saves}, but a study on fresh seeds does not confirm that it matches full "
        "training."
    )
    return [headline, confirmation.sentence]


def _late_trials_sentences(points: Sequence[SweepPoint]) -> list[str]:
    """Return a warning where later trials raised the number of replications above the maximum."""
    count = sum(not point.is_dense and bool(point.replication_snapshots) for point in points)
    if count <= MAX_REPLICATIONS:
        return []
    return [
        f"In all, {count} trials were rerun on fresh seeds, because trials were added later. If "
        "every trial were truly worse by the margin, the chance of recommending one would be at "
        f"most {count} x 0.25%."
    ]


def sweep_record(result: SweepResult) -> dict[str, Any]:
    """Return what ``sweep --json`` prints."""
    plan, candidate, confirmation = result.plan, result.candidate, result.confirmation
    is_recommended = result.outcome is SweepOutcome.RECOMMENDED
    return {
        "sweep_id": result.sweep_id,
        "task": plan.shared["task"],
        "policy": plan.policy,
        "metric": result.metric.name,
        "higher_is_better": result.metric.higher_is_better,
        "margin": plan.margin,
        "cost": f"share of full training's {result.cost_unit}",
        "seeds": list(plan.seeds),
        "rule": candidate_rule_text(plan),
        "second_look": {
            "seeds": list(replication_seeds(plan)),
            "trials": [_replication_record(replication) for replication in result.replications],
        },
        "points": [_point_record(point) for point in result.points],
        "hypervolume": list(result.hypervolume),
        "importance": dict(result.importance),
        "candidate": candidate.name if candidate else None,
        "tried": {name: tested._asdict() for name, tested in result.confirmations.items()},
        "confirmed": confirmation._asdict() if confirmation else None,
        "recommended": candidate.name if candidate and is_recommended else None,
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
    """Return the runs as lists with one value for each run."""
    metrics = [final_validation_metric(run) for run in snapshots.values()]
    return {
        "seeds": list(snapshots),
        "runs": [run.run_id for run in snapshots.values()],
        "metrics": [_finite_or_none(value) for value in metrics],
        "energy": [energy_record(run.energy) for run in snapshots.values()],
    }


def sweep_text(result: SweepResult) -> str:
    """Return a sweep's result as text."""
    plan, metric = result.plan, result.metric
    write, unit = difference_formatter(metric)
    lines = [
        f"{plan.shared['task']}, {plan.policy}, {metric.label} on validation, margin "
        f"{write(plan.margin)[1:]} {unit}".rstrip(),
        f"Cost is the share of full training's {result.cost_unit}. * marks the front.",
    ]
    lines += [_point_line(metric, point) for point in result.points]
    shares = ", ".join(f"{name} {share:.0%}" for name, share in result.importance.items())
    lines += [f"Importance of each knob for the metric: {shares}"] if shares else []
    lines.append(f"Second look: {candidate_rule_text(plan)}.")
    lines += [replication_text(replication, write, unit) for replication in result.replications]
    return "\n".join([*lines, conclusion_text(result)])


def replication_text(
    replication: Replication, format_difference: Callable[[float], str], unit: str
) -> str:
    """Return the result of a replication in words.

    Args:
        replication: The trial and its runs on fresh seeds.
        format_difference: Writes a difference as a number.
        unit: Unit of that number.
    """
    paired, count = replication.paired, len(replication.seeds)
    name = f"Replication of {replication.point.name}"
    if replication.passed is None:
        return f"{name}: {count} fresh seeds so far"
    if paired is None:
        return f"{name}: it broke down"
    mean, bound = format_difference(paired.mean), format_difference(paired.bound)
    answer = "matches" if replication.passed else "not shown to match"
    numbers = f"{mean} {unit}".rstrip()
    return f"{name}: {numbers}, bound {bound}, on {count} seeds: {answer} full training"


def _point_line(metric: Metric, result: PointResult) -> str:
    point = result.point
    knobs = ", ".join(f"{name} {value:.4g}" for name, value in point.knobs.items())
    line = f"{'*' if result.is_on_front else ' '} {point.name:<10} {knobs}".ljust(60)
    if result.metric is None:
        return f"{line} {result.state.text} {point.failure_reason}".rstrip()
    cost = "unknown" if result.cost is None else f"{result.cost:.1%}"
    return f"{line} {cost:>7} {metric_text(metric, result.metric):>10}"
