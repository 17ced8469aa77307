"""What a sweep found: points of metric against cost, their front, and the one to recommend.

Rules, the same for every sweep. Candidate: of the trials whose mean metric
on validation is no more than a margin below that of full dense training, the one that costs
least. Recommended: a candidate that a study of fresh seeds, judged on test, finds not
inferior to full dense training.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from effcore.cell import MEASURED
from effcore.compare import difference_writer
from effcore.points import Point
from effcore.study import Plan, plan_study
from effcore.summary import energy_record, metric_text
from effcore.sweep import SweepPlan, sign_of, space
from effcore.tasks.base import TASKS
from effcore.verdict import Kind

#: Fewer whole trials say nothing of which knob matters.
LEAST_TRIALS = 8


def confirming(plan: SweepPlan, point: Point, seeds: int, first: int = 100) -> Plan:
    """Return the study that confirms a point on seeds that the sweep has not seen.

    Raises:
        ConfigError: The point or the number of seeds is not allowed.
    """
    fresh = [seed for seed in range(first, first + seeds + len(plan.seeds))]
    unseen = [seed for seed in fresh if seed not in plan.seeds][:seeds]
    settings = {**plan.shared, **plan.own, **point.knobs}
    budget = float(f"{point.budget:.4g}")
    return plan_study(settings, [plan.policy], budget, unseen, plan.margin)


def cost_of(plan: SweepPlan, points: Sequence[Point], point: Point) -> float:
    """Return what a point costs as a share of full dense training; NaN where not known.

    Of its joules where the sweep is by joules, which must be known in the same way in both;
    else of its FLOPs.
    """
    if plan.by == "flops":
        return point.share
    own, full = (_mean_joules(each) for each in (point, _full(points)))
    same = own and full and own[1:] == full[1:]
    return own[0] / full[0] if own and full and same else math.nan


def _mean_joules(point: Point | None) -> tuple[float, str, str] | None:
    """Return a point's mean joules, their quality and source; ``None`` where they are none.

    Those of a board that others used, too, are not the run's.
    """
    if point is None or not point.energies or any(each.contended for each in point.energies):
        return None
    known = {(each.quality.value, each.source) for each in point.energies}
    joules = [each.joules for each in point.energies if each.quality in MEASURED]
    values = [value for value in joules if value is not None]
    if len(values) < len(point.energies) or len(known) > 1:
        return None
    return float(np.mean(values)), *known.pop()


def _full(points: Sequence[Point]) -> Point | None:
    """Return full dense training, once all its seeds are there."""
    return next((p for p in points if p.dense and p.budget == 1.0 and p.whole), None)


def front(plan: SweepPlan, points: Sequence[Point]) -> list[Point]:
    """Return the trials that no other trial beats in cost and metric at once, cheapest first."""
    whole = [(cost_of(plan, points, p), sign_of(plan) * p.metric, p) for p in _trials(points)]
    best, kept = -math.inf, []
    for cost, metric, point in sorted(whole, key=lambda each: (each[0], -each[1])):
        if metric > best and math.isfinite(cost):
            best = metric
            kept.append(point)
    return kept


def _trials(points: Sequence[Point]) -> list[Point]:
    return [p for p in points if not p.dense and p.whole]


def candidate(plan: SweepPlan, points: Sequence[Point]) -> Point | None:
    """Return the trial that costs least of those as good as full dense training on validation."""
    full = _full(points)
    if full is None:
        return None
    sign = sign_of(plan)
    good = [p for p in _trials(points) if sign * (p.metric - full.metric) >= -plan.margin]
    return min(good, key=lambda p: (cost_of(plan, points, p), -sign * p.metric), default=None)


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
    if not dense or not _trials(points):
        return []
    worst = min(dense, key=lambda p: sign_of(plan) * p.metric).metric
    study, _ = optuna_study(plan, points)
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

    trials = _trials(points)
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


def conclusion(plan: SweepPlan, points: Sequence[Point], confirmed: Confirmed | None) -> str:
    """Return what the sweep shows, in words."""
    best = candidate(plan, points)
    if _full(points) is None:
        return "Full dense training has not ended on all seeds yet: nothing can be said."
    if best is None:
        return (
            f"Nothing wins: of {len(_trials(points))} trials none is as good as full dense "
            "training on validation, by the margin."
        )
    cost = cost_of(plan, points, best)
    what = f"{best.name.capitalize()} skips {1 - cost:.0%} of the {_kind(plan, points)}"
    if confirmed is None:
        return f"{what} and is as good as full dense training on validation; not confirmed yet."
    if confirmed.recommended:
        return f"Recommended: {what.lower()}, confirmed on fresh seeds. {confirmed.sentence}"
    if confirmed.noninferior:
        return f"Nothing wins: {what.lower()}, and so may dense training. {confirmed.sentence}"
    return f"Nothing wins: {what.lower()}, but fresh seeds do not confirm it. {confirmed.sentence}"


def _kind(plan: SweepPlan, points: Sequence[Point]) -> str:
    """Return what cost is a share of: joules with how they came to be known, or computation."""
    if plan.by != "joules":
        return "computation"
    known = _mean_joules(_full(points))
    return f"{known[1].upper()} joules" if known else "joules"


def sweep_record(
    sweep_id: str, plan: SweepPlan, points: Sequence[Point], confirmed: Confirmed | None
) -> dict[str, Any]:
    """Return what ``sweep --json`` prints."""
    metric, best = TASKS.get(str(plan.shared["task"])).metric, candidate(plan, points)
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
        "points": [
            _point_record(plan, points, point) | {"front": point.name in on_front}
            for point in points
        ],
        "hypervolume": hypervolumes(plan, points),
        "importance": importances(plan, points),
        "candidate": best.name if best else None,
        "confirmed": confirmed._asdict() if confirmed else None,
        "recommended": best.name if best and confirmed and confirmed.recommended else None,
        "conclusion": conclusion(plan, points, confirmed),
    }


def state_of(point: Point) -> str:
    """Return what became of a point, in a word or two."""
    if point.failed:
        return "failed"
    if point.stopped:
        return "stopped as hopeless"
    return "done" if point.whole else "cut short"


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
        "runs": [look.run_id for look in point.looks.values()],
        "energy": [energy_record(energy) for energy in point.energies],
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
    return "\n".join([*lines, told["conclusion"]])


def _line(metric: Any, point: Mapping[str, Any]) -> str:
    knobs = ", ".join(f"{name} {value:.4g}" for name, value in point["knobs"].items())
    line = f"{'*' if point['front'] else ' '} {point['name']:<10} {knobs}".ljust(60)
    if point["metric"] is None:
        return f"{line} {point['state']} {point['why']}".rstrip()
    return f"{line} {point['cost']:6.1%} {metric_text(metric, point['metric']):>10}"
