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

from effcore.events import Snapshot
from effcore.studies.candidates import (
    MOST_AGAIN,
    SecondLook,
    again_missing,
    candidate,
    cost_of,
    full_dense,
    mean_joules,
    rule,
    second_looks,
    whole_trials,
)
from effcore.studies.compare import difference_writer
from effcore.studies.points import Point, last_metric
from effcore.studies.study import Plan, plan_study
from effcore.studies.sweep import SweepPlan, again_seeds, confirming_seeds, sign_of, space
from effcore.summary import energy_record, metric_text
from effcore.tasks.base import TASKS
from effcore.verdict import Kind

#: Fewer whole trials say nothing of which knob matters.
LEAST_TRIALS = 8
#: Seeds that confirm: six would miss one in three points that are truly as good, where seeds
#: scatter by a margin; ten miss one in ten.
CONFIRMING = 10


def confirming(plan: SweepPlan, point: Point, seeds: int) -> Plan:
    """Return the study that confirms a point on seeds that the sweep has not seen.

    Raises:
        ConfigError: The point or the number of seeds is not allowed.
    """
    unseen = confirming_seeds(plan, seeds)
    settings = {**plan.shared, **plan.own, **point.knobs}
    budget = float(f"{point.budget:.4g}")
    return plan_study(settings, [plan.policy], budget, unseen, plan.margin)


def front(plan: SweepPlan, points: Sequence[Point]) -> list[Point]:
    """Return the trials that no other trial beats in cost and metric at once, cheapest first."""
    sign, trials = sign_of(plan), whole_trials(points)
    whole = [(cost_of(plan, points, p), sign * p.metric, p) for p in trials]
    known = [each for each in whole if math.isfinite(each[0])]  # NaN has no place in an order
    best, kept = -math.inf, []
    for _, metric, point in sorted(known, key=lambda each: (each[0], -each[1])):
        if metric > best:
            best = metric
            kept.append(point)
    return kept


def optuna_study(
    plan: SweepPlan, points: Sequence[Point], seed: int = 0
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
    way = StudyDirection.MAXIMIZE if sign_of(plan) > 0 else StudyDirection.MINIMIZE
    study = optuna.create_study(directions=[StudyDirection.MINIMIZE, way], sampler=sampler)
    distributions: dict[str, BaseDistribution] = {
        each.name: IntDistribution(int(each.lo), int(each.hi), log=each.log)
        if each.integer
        else FloatDistribution(each.lo, each.hi, log=each.log)
        for each in space(plan)
    }
    for point in points:
        values = [cost_of(plan, points, point), point.metric]
        if point.dense or not (point.whole or point.stopped):
            continue
        known = point.whole and all(map(math.isfinite, values))
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if known else TrialState.PRUNED,
                values=values if known else None,
                params={"budget": point.budget, **point.knobs},
                distributions=distributions,
            )
        )
    return study, distributions


def hypervolumes(plan: SweepPlan, points: Sequence[Point]) -> list[float]:
    """Return the area between the front and the corner of full cost and least dense metric.

    One value after each whole trial, in their order; nothing before the dense curve is there.
    """
    import optuna
    from optuna.exceptions import ExperimentalWarning

    dense = [p for p in points if p.dense and p.whole]
    if not dense or not whole_trials(points):
        return []
    worst = min(dense, key=lambda p: sign_of(plan) * p.metric).metric
    study, _ = optuna_study(plan, points)
    if not study.get_trials(states=[optuna.trial.TrialState.COMPLETE]):  # no cost is known
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        drawn = optuna.visualization.plot_hypervolume_history(study, [1.0, worst])
    return [float(value) for value in drawn.data[0].y]


def importances(plan: SweepPlan, points: Sequence[Point]) -> dict[str, float]:
    """Return how much of the metric's variation over trials each knob explains, by fANOVA.

    Shares that add up to 1, the largest first; nothing where there are too few trials, or
    all have the same metric.
    """
    import optuna

    trials = whole_trials(points)
    if len(trials) < LEAST_TRIALS or len({p.metric for p in trials}) < 2:
        return {}
    study, _ = optuna_study(plan, points)
    found = optuna.importance.get_param_importances(
        study,
        evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
        target=lambda trial: trial.values[1],
    )
    return {name: float(share) for name, share in found.items()}


class Confirmed(NamedTuple):
    """What the study of a candidate came to; nothing in it where none was made.

    Attributes:
        study_id: The study.
        verdict: What it found, as :class:`~effcore.verdict.Kind` has it.
        noninferior: Whether the point is not inferior to full dense training.
        sentence: The verdict in words.
    """

    study_id: str
    verdict: str
    noninferior: bool | None
    sentence: str

    @property
    def recommended(self) -> bool:
        """Whether the point may be recommended: shortening alone does not do as well."""
        return bool(self.noninferior) and self.verdict in (Kind.WIN, Kind.TIE)

    @property
    def lost(self) -> bool:
        """Whether a dearer point has its turn; where shortening does as well, none has."""
        return self.noninferior is False and self.verdict != Kind.OVERTRAINED


def lost_of(tried: Mapping[str, Confirmed]) -> set[str]:
    """Return the candidates that gave way, by name."""
    return {name for name, each in tried.items() if each.lost}


def settled(plan: SweepPlan, points: Sequence[Point], tried: Mapping[str, Confirmed]) -> bool:
    """Return whether no candidate is left to look at again, or to confirm."""
    lost = lost_of(tried)
    best = candidate(plan, points, lost)
    return not again_missing(plan, points, lost) and (best is None or best.name in tried)


def conclusion(plan: SweepPlan, points: Sequence[Point], tried: Mapping[str, Confirmed]) -> str:
    """Return what the sweep shows, in words.

    Args:
        plan: What is searched.
        points: What was tried.
        tried: What the studies of candidates came to, by the trial's name.
    """
    best = candidate(plan, points, lost_of(tried))
    if best is None:
        return _without(plan, points, tried)
    cost, confirmed = cost_of(plan, points, best), tried.get(best.name)
    skips = f"skips {1 - cost:.0%} of the {_kind(plan, points)}"
    what = f"{best.name} {skips}"
    if confirmed is None:
        return (
            f"{best.name.capitalize()} {skips} and, on {len(again_seeds(plan))} fresh seeds of "
            "validation, is as good as full dense training; not confirmed yet."
        )
    if confirmed.recommended:
        words = f"Recommended: {what}, confirmed on fresh seeds. {confirmed.sentence}"
        return f"{words} {_many(points)}".rstrip()
    if confirmed.noninferior:
        return f"Nothing wins: {what}, and so may dense training. {confirmed.sentence}"
    return f"Nothing wins: {what}, but fresh seeds do not confirm it. {confirmed.sentence}"


def _many(points: Sequence[Point]) -> str:
    """Return that more trials than usual had their chance, where trials joined later."""
    count = sum(not point.dense and bool(point.again) for point in points)
    if count <= MOST_AGAIN:
        return ""
    return (
        f"In all {count} trials were looked at again, since trials joined later: were none as "
        f"good, one would be recommended with a chance of {count} x 0.25% at most."
    )


def _without(plan: SweepPlan, points: Sequence[Point], tried: Mapping[str, Confirmed]) -> str:
    """Return what is shown while there is no candidate."""
    if full_dense(points) is None:
        return _without_full(points)
    ended = len([p for p in points if not p.dense and p.ended])
    if ended < plan.trials:
        return f"{ended} of {plan.trials} trials have ended: nothing can be said yet."
    looks = list(second_looks(plan, points, lost_of(tried)))
    trials = whole_trials(points)
    if trials and not any(math.isfinite(cost_of(plan, points, p)) for p in trials):
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
    studies = [f"{name.capitalize()}, on test: {each.sentence}" for name, each in tried.items()]
    told = (
        f"Nothing wins: what came close enough to be looked at again ({names}) is not shown to be"
    )
    return " ".join([f"{told} as good as full dense training on fresh seeds.", *studies])


def _without_full(points: Sequence[Point]) -> str:
    """Return what is shown where nothing is there to hold the trials against."""
    why = next((p.failed for p in points if p.dense and p.budget == 1.0), "")
    if why:
        return (
            f"Nothing can be said: full dense training broke down ({why}), and it is what all are "
            "held against. Lower the learning rate, or choose other seeds."
        )
    return "Full dense training has not ended on all seeds yet: nothing can be said."


def _kind(plan: SweepPlan, points: Sequence[Point]) -> str:
    """Return what cost is a share of: joules with how they came to be known, or computation."""
    if plan.by != "joules":
        return "computation"
    known = mean_joules(full_dense(points))
    return f"{known[1].upper()} joules" if known else "joules"


def sweep_record(
    sweep_id: str, plan: SweepPlan, points: Sequence[Point], tried: Mapping[str, Confirmed]
) -> dict[str, Any]:
    """Return what ``sweep --json`` prints."""
    metric, lost = TASKS.get(str(plan.shared["task"])).metric, lost_of(tried)
    best = candidate(plan, points, lost)
    confirmed = tried.get(best.name) if best else None
    on_front = {p.name for p in front(plan, points)}
    return {
        "sweep_id": sweep_id,
        "task": plan.shared["task"],
        "policy": plan.policy,
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "margin": plan.margin,
        "cost": f"share of full dense training's {_kind(plan, points)}",
        "seeds": list(plan.seeds),
        "rule": rule(plan),
        "second_look": {
            "seeds": list(again_seeds(plan)),
            "trials": [_look_record(look) for look in second_looks(plan, points, lost)],
        },
        "points": [
            _point_record(plan, points, point) | {"front": point.name in on_front}
            for point in points
        ],
        "hypervolume": hypervolumes(plan, points),
        "importance": importances(plan, points),
        "candidate": best.name if best else None,
        "tried": {name: each._asdict() for name, each in tried.items()},
        "confirmed": confirmed._asdict() if confirmed else None,
        "recommended": best.name if best and confirmed and confirmed.recommended else None,
        "conclusion": conclusion(plan, points, tried),
    }


def state_of(point: Point) -> str:
    """Return what became of a point, in a word or two."""
    if point.failed:
        return "failed"
    if point.stopped:
        return "stopped as hopeless"
    return "done" if point.whole else "cut short"


def _look_record(look: SecondLook) -> dict[str, Any]:
    found = look.paired
    return {
        "name": look.point.name,
        "seeds": list(look.seeds),
        "mean": found.mean if found else None,
        "bound": found.bound if found else None,
        "passed": look.passed,
    }


def _point_record(plan: SweepPlan, points: Sequence[Point], point: Point) -> dict[str, Any]:
    known = {"cost": cost_of(plan, points, point), "metric": point.metric}
    return {
        "name": point.name,
        "state": state_of(point),
        "why": point.failed,
        "budget": point.budget,
        "knobs": dict(point.knobs),
        **{name: value if math.isfinite(value) else None for name, value in known.items()},
        "skipped_compute_frac": 1 - point.share if math.isfinite(point.share) else None,
        **_runs_record(point.looks),
        "again": _runs_record(point.again),
    }


def _runs_record(looks: Mapping[int, Snapshot]) -> dict[str, Any]:
    """Return runs, a value each in every list."""
    metrics = [last_metric(look) for look in looks.values()]
    return {
        "seeds": list(looks),
        "runs": [look.run_id for look in looks.values()],
        "metrics": [value if math.isfinite(value) else None for value in metrics],
        "energy": [energy_record(look.energy) for look in looks.values()],
    }


def sweep_text(told: Mapping[str, Any]) -> str:
    """Return a sweep's record as text."""
    metric = TASKS.get(told["task"]).metric
    write, unit = difference_writer(metric)
    lines = [
        f"{told['task']}, {told['policy']}, {metric.label} on validation, margin "
        f"{write(told['margin'])[1:]} {unit}".rstrip(),
        f"cost is the {told['cost']}; * on the front",
    ]
    lines += [_line(metric, point) for point in told["points"]]
    shares = ", ".join(f"{name} {share:.0%}" for name, share in told["importance"].items())
    lines += [f"what moves the metric: {shares}"] if shares else []
    lines.append(f"rule: {told['rule']}")
    lines += [look_text(look, write, unit) for look in told["second_look"]["trials"]]
    return "\n".join([*lines, told["conclusion"]])


def look_text(look: Mapping[str, Any], write: Callable[[float], str], unit: str) -> str:
    """Return what became of a trial in the second look.

    Args:
        look: Of a sweep's record.
        write: Writes a difference as a number.
        unit: What it is then in.
    """
    name, count = look["name"], len(look["seeds"])
    if look["passed"] is None:
        return f"{name} again: {count} fresh seeds so far"
    if look["mean"] is None:
        return f"{name} again: it broke down"
    numbers = f"{write(look['mean'])} {unit}".rstrip()
    verdict = "as good as full dense" if look["passed"] else "not shown to be as good"
    return f"{name} again: {numbers}, bound {write(look['bound'])}, on {count} seeds: {verdict}"


def _line(metric: Any, point: Mapping[str, Any]) -> str:
    knobs = ", ".join(f"{name} {value:.4g}" for name, value in point["knobs"].items())
    line = f"{'*' if point['front'] else ' '} {point['name']:<10} {knobs}".ljust(60)
    if point["metric"] is None:
        return f"{line} {point['state']} {point['why']}".rstrip()
    cost = "no cost" if point["cost"] is None else f"{point['cost']:.1%}"
    return f"{line} {cost:>7} {metric_text(metric, point['metric']):>10}"
