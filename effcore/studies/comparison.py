"""A study carried out: cells trained and stored, one by one, until all are there.

What is stored is never trained again, so that a study that was cut short goes on where it
was, and more seeds join it later.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from effcore.impact.reference_comparison import compare_with_reference
from effcore.impact.saving import Saving, SavingBasis
from effcore.records import RunStatus, Snapshot, saved_frac
from effcore.runs.summary import energy_record
from effcore.store import Store
from effcore.store.serialization import encode_record
from effcore.store.study_table import StoredStudy, StudyTable
from effcore.studies.executor import (
    StudyProgress,
    StudyRun,
    given_up_reason,
    study_lock,
    train_runs,
)
from effcore.studies.plan import (
    DENSE_FULL,
    DENSE_MATCHED,
    StudyPlan,
    merge_plans,
    plan_from_json,
    plan_to_json,
    planned_runs,
    variants_of,
)
from effcore.studies.run_origin import is_mixed, load_origins
from effcore.studies.savings import savings_record
from effcore.studies.verdict import (
    ArmDifference,
    Outcome,
    Verdict,
    evidence_text,
    judge_arms,
    outcome_sentence,
)
from effcore.tasks.base import TASKS, Metric


def open_study(store: Store, plan: StudyPlan) -> tuple[StoredStudy, StudyPlan]:
    """Return the study to go on with, or a new one, and its plan with all seeds.

    Raises:
        StoreError: The store cannot be read or written.
        ValueError: The plan that is stored is damaged.
    """
    studies = StudyTable(store)

    def whole(known: str | None) -> str:
        if known is None:
            return plan_to_json(plan)
        return plan_to_json(
            merge_plans(plan_from_json(known), plan, studies.has_recorded_runs(plan.key))
        )

    study = studies.open_or_create(plan.key, whole)
    return study, plan_from_json(study.plan)


def stored_run_ids(store: Store, study_id: str, plan: StudyPlan) -> dict[tuple[str, int], str]:
    """Return the runs by arm and seed that ended, and are still what the plan asks for.

    Where a default has changed since, the plan asks for another run.

    Raises:
        StoreError: The store cannot be read.
    """
    wanted = {(cell.variant, cell.seed): encode_record(cell.config) for cell in planned_runs(plan)}
    ended = StudyTable(store).ended_runs(study_id, include_stopped=True)
    return {
        place: cell.run_id
        for place, cell in ended.items()
        if place in wanted and json.loads(cell.config) == json.loads(wanted[place])
    }


def missing_runs(store: Store, study_id: str, plan: StudyPlan) -> list[StudyRun]:
    """Return the cells that are not stored yet."""
    done = stored_run_ids(store, study_id, plan)
    return [cell for cell in planned_runs(plan) if (cell.variant, cell.seed) not in done]


def run_study(
    store: Store, study_id: str, plan: StudyPlan, jobs: int
) -> Generator[StudyProgress, None, None]:
    """Train what is missing; yields once before, and after each cell.

    A study that is cancelled ends within a second; what was under way is not part of it.

    Args:
        store: Where runs go.
        study_id: The study.
        plan: Its plan.
        jobs: Runs at a time, each in a process of its own; one wherever energy is measured.

    Raises:
        StoreError: A run could not be stored.
    """
    with study_lock(store, study_id):
        left = missing_runs(store, study_id, plan)
        total = len(plan.seeds) * len(variants_of(plan))
        done, began = total - len(left), time.monotonic()
        yield StudyProgress(done, total, None)
        for place, _ in enumerate(train_runs(store, study_id, left, jobs), 1):
            each = (time.monotonic() - began) / place
            yield StudyProgress(done + place, total, each * (len(left) - place))


class CompletedRuns(NamedTuple):
    """What the cells came to.

    Attributes:
        snapshots: Snapshots by arm, then seed.
        counted_seeds: Seeds that count: both dense arms and every policy that never broke ended
            them.
        broken_seeds: Seeds by policy on which it broke down though both dense arms did not.
        runs_left: Runs that are planned and have not ended.
        mixed_seeds: Seeds whose runs come from different machines or versions.
    """

    snapshots: Mapping[str, Mapping[int, Snapshot]]
    counted_seeds: tuple[int, ...]
    broken_seeds: Mapping[str, tuple[int, ...]]
    runs_left: int = 0
    mixed_seeds: tuple[int, ...] = ()

    def metrics_of(self, arm: str) -> list[float]:
        """Return an arm's metrics over the seeds that count and that it ended."""
        return [_final_metric(self.snapshots[arm][seed]) for seed in self.ended_seeds(arm)]

    def ended_seeds(self, arm: str) -> list[int]:
        """Return the seeds that count and that an arm ended."""
        own = self.snapshots[arm]
        return [
            seed
            for seed in self.counted_seeds
            if seed in own and np.isfinite(_final_metric(own[seed]))
        ]


def _final_metric(snapshot: Snapshot) -> float:
    """Return a run's result; NaN where it broke down or was given up on its way."""
    value = snapshot.end.metric if snapshot.end else None
    return float("nan") if value is None or snapshot.status is RunStatus.STOPPED else value


def _why_no_result(snapshot: Snapshot) -> str:
    return given_up_reason() if snapshot.status is RunStatus.STOPPED else snapshot.reason


def load_completed_runs(store: Store, study_id: str, plan: StudyPlan) -> CompletedRuns:
    """Read what is stored of a study.

    Raises:
        StoreError: The store cannot be read.
    """
    runs: dict[str, dict[int, Snapshot]] = {arm.name: {} for arm in variants_of(plan)}
    run_ids = stored_run_ids(store, study_id, plan)
    for (arm, seed), run_id in run_ids.items():
        runs[arm][seed] = store.load_snapshot(run_id)
    origins = load_origins(store, run_ids.values())
    by_seed = {
        seed: [origins[own] for (_, s), own in run_ids.items() if s == seed and own in origins]
        for seed in plan.seeds
    }
    mixed = tuple(seed for seed, own in by_seed.items() if is_mixed(own))
    known = {
        arm: {seed: bool(np.isfinite(_final_metric(look))) for seed, look in own.items()}
        for arm, own in runs.items()
    }
    dense = [
        s
        for s in plan.seeds
        if all(known[arm].get(s, False) for arm in (DENSE_FULL, DENSE_MATCHED))
    ]
    broke = {arm: tuple(s for s in dense if known[arm].get(s) is False) for arm in plan.arms}
    judged = [arm for arm in plan.arms if not broke[arm]]
    seeds = tuple(s for s in dense if all(known[arm].get(s, False) for arm in judged))
    left = len(runs) * len(plan.seeds) - sum(map(len, runs.values()))
    broken = {arm: lost for arm, lost in broke.items() if lost}
    return CompletedRuns(runs, seeds, broken, left, mixed)


def judge_study(plan: StudyPlan, completed: CompletedRuns) -> list[Verdict]:
    """Return the verdicts on the policies that never broke; none of fewer than two seeds."""
    judged = [arm for arm in plan.arms if arm not in completed.broken_seeds]
    if len(completed.counted_seeds) < 2 or not judged:
        return []
    way = 1.0 if _task_metric(plan).higher_is_better else -1.0
    better = {
        arm: [way * value for value in completed.metrics_of(arm)]
        for arm in (DENSE_FULL, DENSE_MATCHED, *judged)
    }
    arms = {name: better[name] for name in judged}
    return judge_arms(
        arms, better[DENSE_FULL], better[DENSE_MATCHED], plan.margin, planned_arms=len(plan.arms)
    )


def _task_metric(plan: StudyPlan) -> Metric:
    return TASKS.get(str(plan.shared["task"])).metric


@dataclass(frozen=True)
class Breakdown:
    """Where a policy broke down though both dense arms did not.

    Attributes:
        seeds: The seeds of it.
        planned_seeds: How many seeds the study has.
        reason: Why the first of them broke down.
    """

    seeds: tuple[int, ...]
    planned_seeds: int
    reason: str


@dataclass(frozen=True)
class PolicyResult:
    """What a study found of one policy.

    Attributes:
        arm: Its name.
        outcome: What it comes to.
        verdict: The evidence; ``None`` where it broke down.
        breakdown: Where it broke down; ``None`` where it did not.
    """

    arm: str
    outcome: Outcome
    verdict: Verdict | None
    breakdown: Breakdown | None


@dataclass(frozen=True)
class RunResult:
    """One run of a study: what is stored of it, and whether its seed counts."""

    seed: int
    snapshot: Snapshot
    counts: bool

    @property
    def metric(self) -> float | None:
        """The final metric; ``None`` where the run has none."""
        value = _final_metric(self.snapshot)
        return value if np.isfinite(value) else None

    @property
    def reason(self) -> str:
        """Why it ended as it did; empty where there is nothing to say."""
        return _why_no_result(self.snapshot)


@dataclass(frozen=True)
class VariantResult:
    """What one variant of a study came to, over the seeds that count and that it ended.

    Attributes:
        name: Its name.
        seeds: The seeds.
        metrics: Final metrics by seed.
        skipped_compute_frac: Mean over its runs of the share skipped of what was considered.
        saved_compute_frac: Mean share of full training's computation that was not spent.
        seconds: Mean seconds.
        details: Mean of each detail.
        runs: Every run that ended, by seed, those included that do not count.
    """

    name: str
    seeds: tuple[int, ...]
    metrics: tuple[float, ...]
    skipped_compute_frac: float | None
    saved_compute_frac: float | None
    seconds: float | None
    details: Mapping[str, float]
    runs: tuple[RunResult, ...]

    @property
    def metric_mean(self) -> float | None:
        """Mean of the metrics."""
        return float(np.mean(self.metrics)) if self.metrics else None

    @property
    def failures(self) -> dict[int, str]:
        """Why each run without a metric has none, by seed."""
        return {run.seed: run.reason for run in self.runs if run.metric is None}


@dataclass(frozen=True)
class StudyResult:
    """What a study found.

    Attributes:
        study_id: Its id.
        plan: What was compared.
        completed: The runs that ended.
        policies: What was found of each policy; none before two seeds count.
        variants: What every variant came to, the baselines first.
    """

    study_id: str
    plan: StudyPlan
    completed: CompletedRuns
    policies: tuple[PolicyResult, ...]
    variants: tuple[VariantResult, ...]

    @property
    def metric(self) -> Metric:
        """What the task is judged by."""
        return _task_metric(self.plan)

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts on the policies that never broke down."""
        return [each.verdict for each in self.policies if each.verdict is not None]

    @property
    def is_told_early(self) -> bool:
        """Whether a verdict is given though planned runs are missing."""
        outcomes = {each.outcome for each in self.policies}
        return self.completed.runs_left > 0 and not outcomes <= {Outcome.TOO_FEW_SEEDS}


def study_result(study_id: str, plan: StudyPlan, completed: CompletedRuns) -> StudyResult:
    """Judge a study and sum up its variants."""
    policies = [
        PolicyResult(each.arm, each.outcome, each, None) for each in judge_study(plan, completed)
    ]
    for arm, seeds in completed.broken_seeds.items():
        reason = _why_no_result(completed.snapshots[arm][seeds[0]])
        breakdown = Breakdown(seeds, len(plan.seeds), reason)
        policies.append(PolicyResult(arm, Outcome.BROKE_DOWN, None, breakdown))
    variants = tuple(_variant_result(name, completed) for name in completed.snapshots)
    return StudyResult(study_id, plan, completed, tuple(policies), variants)


def _variant_result(name: str, found: CompletedRuns) -> VariantResult:
    own, full, seeds = found.snapshots[name], found.snapshots[DENSE_FULL], found.ended_seeds(name)
    pairs = [(end, full[s].end) for s in seeds if (end := own[s].end) is not None]
    known = [(end, of) for end, of in pairs if of is not None]
    return VariantResult(
        name=name,
        seeds=tuple(seeds),
        metrics=tuple(found.metrics_of(name)),
        skipped_compute_frac=mean_share([end.skipped_compute_frac for end, _ in known]),
        saved_compute_frac=mean_share(
            [saved_frac(end.flops_spent, of.flops_spent) for end, of in known]
        ),
        seconds=float(np.mean([end.seconds for end, _ in pairs])) if pairs else None,
        details=_mean_details([end.details for end, _ in pairs]),
        runs=tuple(
            RunResult(seed, look, seed in found.counted_seeds) for seed, look in sorted(own.items())
        ),
    )


# Sentences, made last -----------------------------------------------------------------------


def policy_sentence(policy: PolicyResult) -> str:
    """Return in one sentence what was found of a policy."""
    if policy.breakdown is not None:
        broke = policy.breakdown
        return (
            f"It broke down on {len(broke.seeds)} of {broke.planned_seeds} seeds where dense "
            "training did not, and is not judged on the others."
        )
    assert policy.verdict is not None, "what did not break down was judged"
    return outcome_sentence(policy.verdict)


def policy_evidence(policy: PolicyResult, metric: Metric) -> str:
    """Return what that sentence rests on."""
    if policy.breakdown is not None:
        return f"Seed {policy.breakdown.seeds[0]}: {policy.breakdown.reason}"
    assert policy.verdict is not None, "what did not break down was judged"
    return evidence_text(policy.verdict, *difference_formatter(metric))


def policy_text(policy: PolicyResult, metric: Metric) -> str:
    """Return both."""
    return f"{policy_sentence(policy)} {policy_evidence(policy, metric)}"


def exploratory_texts(result: StudyResult) -> list[str]:
    """Return why a study's verdicts are exploratory; nothing where they are not."""
    why = list(result.plan.exploratory_reasons)
    if result.is_told_early:
        left = result.completed.runs_left
        planned = len(result.completed.snapshots) * len(result.plan.seeds)
        why.append(
            f"The study is not over: {left} of {planned} planned runs are missing. "
            "Who stops once the verdict pleases is shown what luck shows."
        )
    if mixed := result.completed.mixed_seeds:
        listed = ", ".join(map(str, mixed))
        why.append(
            f"Runs of the same seed come from different machines or versions (seeds {listed}): "
            "their differences hold rounding as well."
        )
    return why


# Records, for JSON --------------------------------------------------------------------------


def study_record(study_id: str, plan: StudyPlan, completed: CompletedRuns) -> dict[str, Any]:
    """Return what ``compare --json`` prints."""
    return result_record(study_result(study_id, plan, completed))


def result_record(result: StudyResult) -> dict[str, Any]:
    """Return a study's result as JSON; ``outcome`` and ``verdict`` hold the same."""
    plan, completed, metric = result.plan, result.completed, result.metric
    outcomes = {each.arm: each.outcome.value for each in result.policies}
    return {
        "study_id": result.study_id,
        "task": plan.shared["task"],
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "budget": plan.budget,
        "margin": plan.margin,
        "margins_before": list(plan.margins),
        "exploratory": exploratory_texts(result),
        "seeds": list(completed.counted_seeds),
        "runs_left": completed.runs_left,
        "mixed_seeds": list(completed.mixed_seeds),
        "outcome": outcomes,
        "verdict": outcomes,
        "sentences": {each.arm: policy_text(each, metric) for each in result.policies},
        "saved": {arm: savings_record(variant_savings(completed, arm)) for arm in plan.arms},
        "arms": [_variant_record(variant) for variant in result.variants],
        "diffs": [
            _difference_record(verdict, difference)
            for verdict in result.verdicts
            for difference in verdict.differences
        ],
    }


def difference_formatter(metric: Metric) -> tuple[Callable[[float], str], str]:
    """Return what writes a difference as a number, and the unit."""
    return lambda value: f"{metric.factor * value:+.{metric.digits}f}", metric.difference_unit


def _variant_record(variant: VariantResult) -> dict[str, Any]:
    snapshots = {run.seed: run.snapshot for run in variant.runs}
    return {
        "name": variant.name,
        "seeds": list(variant.seeds),
        "metrics": list(variant.metrics),
        "metric_mean": variant.metric_mean,
        "skipped_compute_frac": variant.skipped_compute_frac,
        "saved_compute_frac": variant.saved_compute_frac,
        "seconds": variant.seconds,
        "details": dict(variant.details),
        "energy": [energy_record(snapshots[seed].energy) for seed in variant.seeds],
        "runs": [_run_record(run) for run in variant.runs],
        "failed": {str(seed): why for seed, why in variant.failures.items()},
    }


def _run_record(run: RunResult) -> dict[str, Any]:
    snapshot, end = run.snapshot, run.snapshot.end
    return {
        "run_id": snapshot.run_id,
        "seed": run.seed,
        "counts": run.counts,
        "status": snapshot.status.value,
        "metric": run.metric,
        "flops": end.flops_spent if end is not None else None,
        "skipped_compute_frac": end.skipped_compute_frac if end is not None else None,
        "saved_compute_frac": end.saved_compute_frac if end is not None else None,
        "seconds": end.seconds if end is not None else None,
        "details": dict(end.details) if end is not None else {},
        "energy": energy_record(snapshot.energy),
        "why": run.reason,
    }


def variant_savings(found: CompletedRuns, arm: str) -> Mapping[SavingBasis, Saving]:
    """Return the savings of a variant against full training that are known."""
    full = found.snapshots[DENSE_FULL]
    pairs = [(found.snapshots[arm][seed], full[seed]) for seed in found.ended_seeds(arm)]
    comparison = compare_with_reference(pairs)
    return {} if comparison is None else comparison.savings


def mean_share(shares: Sequence[float | None]) -> float | None:
    """Return the mean of shares; ``None`` without any, or where one is not known."""
    known = [share for share in shares if share is not None]
    return float(np.mean(known)) if known and len(known) == len(shares) else None


def _mean_details(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each detail over runs."""
    names = each[0].keys() if each else ()
    return {name: float(np.mean([own[name] for own in each])) for name in names}


def _difference_record(verdict: Verdict, difference: ArmDifference) -> dict[str, Any]:
    paired, is_full = difference.paired, difference is verdict.against_full
    return {
        "arm": verdict.arm,
        "against": difference.against,
        "mean": paired.mean,
        "lo": paired.lo,
        "hi": paired.hi,
        "bound": paired.bound,
        "bca": list(difference.bca_interval()),
        "sign_flip_p": difference.sign_flip_p_value(),
        "p": difference.p,
        "seeds_needed": difference.pairs_needed(),
        "worse": difference.is_worse if verdict.noninferior is not None else None,
        "noninferior": verdict.noninferior if is_full else None,
        "superior": None if is_full else verdict.superior,
    }
