"""What a sweep found: points of metric against cost, their front, and the one to recommend.

The candidate is the cheapest trial that is not inferior to full dense training on validation,
by the rule of :mod:`effcore.studies.candidates`. It is recommended once a study of fresh seeds,
judged on test, finds it not inferior there too, and dense training of its compute does not do.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

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
from effcore.studies.comparison import difference_formatter
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
from effcore.tasks.base import TASKS

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
) -> tuple[Any, dict[str, Any]]:
    """Return the search as Optuna has it, all trials that ended in it, and what is searched.

    Args:
        plan: What is searched.
        points: What was tried; of those that were stopped the knobs alone are told.
        seed: Of what is suggested next.
    """
    import optuna  # slow to import, and few commands search
    from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
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
    """What the study of a candidate came to; nothing in it where none was made.

    Attributes:
        study_id: The study.
        verdict: What it found, as :class:`~effcore.studies.verdict.Outcome` has it.
        noninferior: Whether the point is not inferior to full dense training.
        sentence: The verdict in words.
    """

    study_id: str
    verdict: str
    noninferior: bool | None
    sentence: str

    @property
    def is_recommended(self) -> bool:
        """Whether the point may be recommended: shortening alone does not do as well."""
        return bool(self.noninferior) and self.verdict in (Outcome.WIN, Outcome.TIE)

    @property
    def is_rejected(self) -> bool:
        """Whether a dearer point has its turn; where shortening does as well, none has."""
        return self.noninferior is False and self.verdict != Outcome.OVERTRAINED


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


def conclusion_text(
    plan: SweepPlan, points: Sequence[SweepPoint], confirmations: Mapping[str, Confirmation]
) -> str:
    """Return what the sweep shows, in words.

    Args:
        plan: What is searched.
        points: What was tried.
        confirmations: What the studies of candidates came to, by the trial's name.
    """
    best = find_candidate(plan, points, rejected_candidates(confirmations))
    if best is None:
        return _no_candidate_text(plan, points, confirmations)
    cost, confirmed = point_cost(plan, points, best), confirmations.get(best.name)
    skips = f"skips {1 - cost:.0%} of the {_cost_kind(plan, points)}"
    what = f"{best.name} {skips}"
    if confirmed is None:
        return (
            f"{best.name.capitalize()} {skips} and, on {len(replication_seeds(plan))} fresh seeds "
            "of "
            "validation, is as good as full dense training; not confirmed yet."
        )
    if confirmed.is_recommended:
        words = f"Recommended: {what}, confirmed on fresh seeds. {confirmed.sentence}"
        return f"{words} {_late_trials_note(points)}".rstrip()
    if confirmed.noninferior:
        return f"Nothing wins: {what}, and so may dense training. {confirmed.sentence}"
    return f"Nothing wins: {what}, but fresh seeds do not confirm it. {confirmed.sentence}"


def _late_trials_note(points: Sequence[SweepPoint]) -> str:
    """Return that more trials than usual had their chance, where trials joined later."""
    count = sum(not point.is_dense and bool(point.replication_snapshots) for point in points)
    if count <= MAX_REPLICATIONS:
        return ""
    return (
        f"In all {count} trials were looked at again, since trials joined later: were none as "
        f"good, one would be recommended with a chance of {count} x 0.25% at most."
    )


def _no_candidate_text(
    plan: SweepPlan, points: Sequence[SweepPoint], confirmations: Mapping[str, Confirmation]
) -> str:
    """Return what is shown while there is no candidate."""
    if full_training_point(points) is None:
        return _no_full_training_text(points)
    ended = len([p for p in points if not p.is_dense and p.has_ended])
    if ended < plan.trials:
        return f"{ended} of {plan.trials} trials have ended: nothing can be said yet."
    looks = list(replications(plan, points, rejected_candidates(confirmations)))
    trials = complete_trials(points)
    if trials and not any(math.isfinite(point_cost(plan, points, p)) for p in trials):
        return (
            "Nothing can be said: joules are not known in the same way in full dense training and "
            "in a trial, so that no cost is."
        )
    if not looks:
        return (
            f"Nothing wins: of {len(trials)} trials none comes close enough to full dense "
            "training on validation to be looked at again."
        )
    if looks[-1].passed is None:
        return "The second look, on fresh seeds, is not over: nothing can be said yet."
    names = ", ".join(look.point.name for look in looks)
    studies = [
        f"{name.capitalize()}, on test: {each.sentence}" for name, each in confirmations.items()
    ]
    told = (
        f"Nothing wins: what came close enough to be looked at again ({names}) is not shown to be"
    )
    return " ".join([f"{told} as good as full dense training on fresh seeds.", *studies])


def _no_full_training_text(points: Sequence[SweepPoint]) -> str:
    """Return what is shown where nothing is there to hold the trials against."""
    why = next((p.failure_reason for p in points if p.is_dense and p.budget == 1.0), "")
    if why:
        return (
            f"Nothing can be said: full dense training broke down ({why}), and it is what all are "
            "held against. Lower the learning rate, or choose other seeds."
        )
    return "Full dense training has not ended on all seeds yet: nothing can be said."


def _cost_kind(plan: SweepPlan, points: Sequence[SweepPoint]) -> str:
    """Return what cost is a share of: joules with how they came to be known, or computation."""
    if plan.by != "joules":
        return "computation"
    known = mean_joules(full_training_point(points))
    return f"{known[1].upper()} joules" if known else "joules"


def sweep_record(
    sweep_id: str,
    plan: SweepPlan,
    points: Sequence[SweepPoint],
    confirmations: Mapping[str, Confirmation],
) -> dict[str, Any]:
    """Return what ``sweep --json`` prints."""
    metric, lost = TASKS.get(str(plan.shared["task"])).metric, rejected_candidates(confirmations)
    best = find_candidate(plan, points, lost)
    confirmed = confirmations.get(best.name) if best else None
    on_front = {p.name for p in pareto_front(plan, points)}
    return {
        "sweep_id": sweep_id,
        "task": plan.shared["task"],
        "policy": plan.policy,
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "margin": plan.margin,
        "cost": f"share of full dense training's {_cost_kind(plan, points)}",
        "seeds": list(plan.seeds),
        "rule": candidate_rule_text(plan),
        "second_look": {
            "seeds": list(replication_seeds(plan)),
            "trials": [_replication_record(look) for look in replications(plan, points, lost)],
        },
        "points": [
            _point_record(plan, points, point) | {"front": point.name in on_front}
            for point in points
        ],
        "hypervolume": hypervolume_history(plan, points),
        "importance": knob_importances(plan, points),
        "candidate": best.name if best else None,
        "tried": {name: each._asdict() for name, each in confirmations.items()},
        "confirmed": confirmed._asdict() if confirmed else None,
        "recommended": best.name if best and confirmed and confirmed.is_recommended else None,
        "conclusion": conclusion_text(plan, points, confirmations),
    }


def point_state(point: SweepPoint) -> str:
    """Return what became of a point, in a word or two."""
    if point.failure_reason:
        return "failed"
    if point.was_pruned:
        return "stopped as hopeless"
    return "done" if point.is_complete else "cut short"


def _replication_record(replication: Replication) -> dict[str, Any]:
    found = replication.paired
    return {
        "name": replication.point.name,
        "seeds": list(replication.seeds),
        "mean": found.mean if found else None,
        "bound": found.bound if found else None,
        "passed": replication.passed,
    }


def _point_record(
    plan: SweepPlan, points: Sequence[SweepPoint], point: SweepPoint
) -> dict[str, Any]:
    known = {"cost": point_cost(plan, points, point), "metric": point.mean_metric}
    return {
        "name": point.name,
        "state": point_state(point),
        "why": point.failure_reason,
        "budget": point.budget,
        "knobs": dict(point.knobs),
        **{name: value if math.isfinite(value) else None for name, value in known.items()},
        "skipped_compute_frac": 1 - point.flops_share if math.isfinite(point.flops_share) else None,
        **_point_runs_record(point.snapshots),
        "again": _point_runs_record(point.replication_snapshots),
    }


def _point_runs_record(snapshots: Mapping[int, Snapshot]) -> dict[str, Any]:
    """Return runs, a value each in every list."""
    metrics = [final_validation_metric(look) for look in snapshots.values()]
    return {
        "seeds": list(snapshots),
        "runs": [look.run_id for look in snapshots.values()],
        "metrics": [value if math.isfinite(value) else None for value in metrics],
        "energy": [energy_record(look.energy) for look in snapshots.values()],
    }


def sweep_text(record: Mapping[str, Any]) -> str:
    """Return a sweep's record as text."""
    metric = TASKS.get(record["task"]).metric
    write, unit = difference_formatter(metric)
    lines = [
        f"{record['task']}, {record['policy']}, {metric.label} on validation, margin "
        f"{write(record['margin'])[1:]} {unit}".rstrip(),
        f"cost is the {record['cost']}; * on the front",
    ]
    lines += [_point_line(metric, point) for point in record["points"]]
    shares = ", ".join(f"{name} {share:.0%}" for name, share in record["importance"].items())
    lines += [f"what moves the metric: {shares}"] if shares else []
    lines.append(f"rule: {record['rule']}")
    lines += [replication_text(look, write, unit) for look in record["second_look"]["trials"]]
    return "\n".join([*lines, record["conclusion"]])


def replication_text(
    replication: Mapping[str, Any], format_difference: Callable[[float], str], unit: str
) -> str:
    """Return what became of a trial in the second look.

    Args:
        replication: Of a sweep's record.
        format_difference: Writes a difference as a number.
        unit: What it is then in.
    """
    name, count = replication["name"], len(replication["seeds"])
    if replication["passed"] is None:
        return f"{name} again: {count} fresh seeds so far"
    if replication["mean"] is None:
        return f"{name} again: it broke down"
    numbers = f"{format_difference(replication['mean'])} {unit}".rstrip()
    verdict = "as good as full dense" if replication["passed"] else "not shown to be as good"
    bound = format_difference(replication["bound"])
    return f"{name} again: {numbers}, bound {bound}, on {count} seeds: {verdict}"


def _point_line(metric: Any, point: Mapping[str, Any]) -> str:
    knobs = ", ".join(f"{name} {value:.4g}" for name, value in point["knobs"].items())
    line = f"{'*' if point['front'] else ' '} {point['name']:<10} {knobs}".ljust(60)
    if point["metric"] is None:
        return f"{line} {point['state']} {point['why']}".rstrip()
    cost = "no cost" if point["cost"] is None else f"{point['cost']:.1%}"
    return f"{line} {cost:>7} {metric_text(metric, point['metric']):>10}"
