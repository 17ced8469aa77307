"""Studies: their runs are trained and stored, loaded, judged and described.

A stored run is never trained again, so an interrupted study resumes, and more seeds can be added
later.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from effcore.impact.reference_comparison import compare_with_reference
from effcore.impact.saving import Saving, SavingBasis
from effcore.records import RunStatus, Snapshot
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
    DENSE_FULL,
    DENSE_MATCHED,
    ArmAndBaselineMetrics,
    ArmDifference,
    Outcome,
    Verdict,
    evidence_text,
    judge_family,
    outcome_sentence,
)
from effcore.tasks.base import TASKS, Metric


def open_study(store: Store, plan: StudyPlan) -> tuple[StoredStudy, StudyPlan]:
    """Return a plan's study, stored or new, and the plan with all seeds planned so far.

    Raises:
        StoreError: The store cannot be read or written.
        ValueError: The stored plan is damaged.
    """
    studies = StudyTable(store)

    def whole(known: str | None) -> str:
        if known is None:
            return plan_to_json(plan)
        return plan_to_json(
            merge_plans(plan_from_json(known), plan, studies.has_recorded_runs(plan.key))
        )

    study = studies.create_or_replan_study(plan.key, whole)
    return study, plan_from_json(study.plan)


def stored_run_ids(store: Store, study_id: str, plan: StudyPlan) -> dict[tuple[str, int], str]:
    """Return the ids of the plan's finished runs by variant and seed.

    A stored run whose configuration differs from the plan's, because a default changed since, is
    left out.

    Raises:
        StoreError: The store cannot be read.
    """
    planned = {(run.variant, run.seed): encode_record(run.config) for run in planned_runs(plan)}
    ended = StudyTable(store).ended_runs(study_id, include_stopped=True)
    return {
        place: run.run_id
        for place, run in ended.items()
        if place in planned and json.loads(run.config) == json.loads(planned[place])
    }


def missing_runs(store: Store, study_id: str, plan: StudyPlan) -> list[StudyRun]:
    """Return the plan's runs that are not stored yet."""
    done = stored_run_ids(store, study_id, plan)
    return [run for run in planned_runs(plan) if (run.variant, run.seed) not in done]


def run_study(
    store: Store, study_id: str, plan: StudyPlan, jobs: int
) -> Generator[StudyProgress, None, None]:
    """Train the missing runs; yields the progress before the first and after each.

    A cancelled study ends within a second; runs that were under way are discarded.

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
    """The runs of a study that ended, and the seeds that its verdicts use.

    Attributes:
        snapshots: Snapshots by variant, then seed.
        counted_seeds: Seeds that verdicts use: full training, same-budget training and every
            policy that never broke down finished them.
        broken_seeds: By policy, the seeds on which it broke down though full and same-budget
            training did not.
        runs_left: Planned runs that have not ended.
        mixed_seeds: Seeds whose runs come from different machines or versions.
    """

    snapshots: Mapping[str, Mapping[int, Snapshot]]
    counted_seeds: tuple[int, ...]
    broken_seeds: Mapping[str, tuple[int, ...]]
    runs_left: int = 0
    mixed_seeds: tuple[int, ...] = ()

    def metrics_of(self, arm: str) -> list[float]:
        """Return a variant's metrics over its :meth:`ended_seeds`."""
        return [_final_metric(self.snapshots[arm][seed]) for seed in self.ended_seeds(arm)]

    def ended_on(self, variant: str) -> list[int]:
        """Return all seeds on which a variant has a metric."""
        runs = self.snapshots[variant]
        return [seed for seed, run in runs.items() if np.isfinite(_final_metric(run))]

    def ended_seeds(self, arm: str) -> list[int]:
        """Return the counted seeds on which a variant has a metric."""
        own = self.snapshots[arm]
        return [
            seed
            for seed in self.counted_seeds
            if seed in own and np.isfinite(_final_metric(own[seed]))
        ]


def _final_metric(snapshot: Snapshot) -> float:
    """Return a run's final metric; NaN where it broke down or was given up."""
    value = snapshot.end.metric if snapshot.end else None
    return float("nan") if value is None or snapshot.status is RunStatus.STOPPED else value


def _why_no_result(snapshot: Snapshot) -> str:
    return given_up_reason() if snapshot.status is RunStatus.STOPPED else snapshot.reason


def load_completed_runs(store: Store, study_id: str, plan: StudyPlan) -> CompletedRuns:
    """Load the runs of a study that ended.

    Raises:
        StoreError: The store cannot be read.
    """
    runs: dict[str, dict[int, Snapshot]] = {variant.name: {} for variant in variants_of(plan)}
    run_ids = stored_run_ids(store, study_id, plan)
    for (variant, seed), run_id in run_ids.items():
        runs[variant][seed] = store.load_snapshot(run_id)
    origins = load_origins(store, run_ids.values())
    by_seed = {
        seed: [origins[own] for (_, s), own in run_ids.items() if s == seed and own in origins]
        for seed in plan.seeds
    }
    mixed = tuple(seed for seed, own in by_seed.items() if is_mixed(own))
    return complete_runs(plan, runs, mixed)


def complete_runs(
    plan: StudyPlan,
    snapshots: Mapping[str, Mapping[int, Snapshot]],
    mixed_seeds: tuple[int, ...] = (),
) -> CompletedRuns:
    """Decide which seeds of a study count, and which policies broke down.

    Args:
        plan: The study's plan.
        snapshots: The runs that ended, by variant, then seed.
        mixed_seeds: Seeds whose runs come from different machines or versions.
    """
    ended = {
        variant: {seed: bool(np.isfinite(_final_metric(run))) for seed, run in by_seed.items()}
        for variant, by_seed in snapshots.items()
    }

    def all_ended(variants: Iterable[str], seeds: Iterable[int]) -> tuple[int, ...]:
        names = list(variants)
        return tuple(s for s in seeds if all(ended[name].get(s, False) for name in names))

    dense = all_ended((DENSE_FULL, DENSE_MATCHED), plan.seeds)
    broken = {policy: tuple(s for s in dense if ended[policy].get(s) is False)
              for policy in plan.arms}  # fmt: skip
    unbroken = [policy for policy in plan.arms if not broken[policy]]
    return CompletedRuns(
        snapshots,
        counted_seeds=all_ended(unbroken, dense),
        broken_seeds={policy: seeds for policy, seeds in broken.items() if seeds},
        runs_left=len(snapshots) * len(plan.seeds) - sum(map(len, snapshots.values())),
        mixed_seeds=mixed_seeds,
    )


def judge_study(plan: StudyPlan, completed: CompletedRuns) -> list[Verdict]:
    """Return the verdicts on the policies that never broke down; none of fewer than two seeds."""
    return _judge_studies([(plan, completed)])[0]


def _judge_studies(studies: Sequence[tuple[StudyPlan, CompletedRuns]]) -> list[list[Verdict]]:
    """Judge all policies of several studies of one margin as one family.

    Verdicts are returned study by study.
    """
    names: list[tuple[int, str]] = []
    arms: dict[str, ArmAndBaselineMetrics] = {}
    for place, (plan, completed) in enumerate(studies):
        if len(completed.counted_seeds) < 2:
            continue
        full, matched = (scores_of(plan, completed, name) for name in (DENSE_FULL, DENSE_MATCHED))
        for policy in plan.arms:
            if policy not in completed.broken_seeds:
                names.append((place, policy))
                own = scores_of(plan, completed, policy)
                arms[f"{place} {policy}"] = ArmAndBaselineMetrics(own, full, matched)
    planned = sum(len(plan.arms) for plan, _ in studies)
    verdicts = judge_family(arms, studies[0][0].margin, planned)
    judged = [
        (place, replace(verdict, arm=policy))
        for (place, policy), verdict in zip(names, verdicts, strict=True)
    ]
    return [[verdict for at, verdict in judged if at == place] for place in range(len(studies))]


def scores_of(plan: StudyPlan, completed: CompletedRuns, variant: str) -> list[float]:
    """Return a variant's metrics over its counted seeds with the sign that makes higher better."""
    return [_task_metric(plan).sign * value for value in completed.metrics_of(variant)]


def _task_metric(plan: StudyPlan) -> Metric:
    return TASKS.get(str(plan.shared["task"])).metric


@dataclass(frozen=True)
class Breakdown:
    """A policy broke down on seeds that full and same-budget training finished.

    Attributes:
        seeds: Those seeds.
        compared_seeds: Number of seeds that full and same-budget training finished.
        reason: Why it broke down on the first of them.
    """

    seeds: tuple[int, ...]
    compared_seeds: int
    reason: str


@dataclass(frozen=True)
class PolicyResult:
    """The result of one policy of a study.

    Attributes:
        arm: Its name.
        outcome: The outcome.
        verdict: The verdict; ``None`` where the policy broke down.
        breakdown: The breakdown; ``None`` where there was none.
    """

    arm: str
    outcome: Outcome
    verdict: Verdict | None
    breakdown: Breakdown | None


@dataclass(frozen=True)
class RunResult:
    """One run of a study, and whether verdicts use its seed."""

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
        """Why it has no metric; empty where it finished."""
        return _why_no_result(self.snapshot)


@dataclass(frozen=True)
class VariantResult:
    """The runs of one variant of a study, summed up over the counted seeds that it finished.

    Attributes:
        name: Its name.
        seeds: Those seeds.
        metrics: Final metrics by seed.
        skipped_compute_frac: Mean rate at which its runs skipped computation.
        saved_compute_frac: Mean share of full training's computation that was not spent.
        seconds: Mean duration, s.
        details: Mean of each detail.
        runs: All runs that ended, by seed, with those that verdicts do not use.
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
    """The result of a study.

    Attributes:
        study_id: Its id.
        plan: Its plan.
        completed: The runs that ended.
        policies: The result of each policy; none before two seeds count.
        variants: Every variant summed up, the baselines first.
    """

    study_id: str
    plan: StudyPlan
    completed: CompletedRuns
    policies: tuple[PolicyResult, ...]
    variants: tuple[VariantResult, ...]

    @property
    def metric(self) -> Metric:
        """The metric that verdicts use."""
        return _task_metric(self.plan)

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts on the policies that never broke down."""
        return [each.verdict for each in self.policies if each.verdict is not None]

    @property
    def is_judged_early(self) -> bool:
        """Whether a verdict is given though planned runs are missing."""
        outcomes = {policy.outcome for policy in self.policies}
        return self.completed.runs_left > 0 and not outcomes <= {Outcome.TOO_FEW_SEEDS}


def study_result(study_id: str, plan: StudyPlan, completed: CompletedRuns) -> StudyResult:
    """Judge a study and sum up its variants."""
    return _study_result(study_id, plan, completed, judge_study(plan, completed))


def study_results(studies: Sequence[tuple[StudyPlan, CompletedRuns]]) -> list[StudyResult]:
    """Judge several studies of the same margin as one family, and sum up their variants.

    The p-values are corrected for the policies of all studies together. Use it where the question
    is about the set of studies, as over a grid of data faults.
    """
    return [
        _study_result("", plan, completed, verdicts)
        for (plan, completed), verdicts in zip(studies, _judge_studies(studies), strict=True)
    ]


def _study_result(
    study_id: str, plan: StudyPlan, completed: CompletedRuns, verdicts: Sequence[Verdict]
) -> StudyResult:
    policies = [PolicyResult(verdict.arm, verdict.outcome, verdict, None) for verdict in verdicts]
    for policy, seeds in completed.broken_seeds.items():
        reason = _why_no_result(completed.snapshots[policy][seeds[0]])
        compared = set(completed.ended_on(DENSE_FULL)) & set(completed.ended_on(DENSE_MATCHED))
        breakdown = Breakdown(seeds, len(compared), reason)
        policies.append(PolicyResult(policy, Outcome.BROKE_DOWN, None, breakdown))
    variants = tuple(_variant_result(name, completed) for name in completed.snapshots)
    return StudyResult(study_id, plan, completed, tuple(policies), variants)


def _variant_result(name: str, completed: CompletedRuns) -> VariantResult:
    own = completed.snapshots[name]
    seeds = completed.ended_seeds(name)
    ends = [end for seed in seeds if (end := own[seed].end) is not None]
    return VariantResult(
        name=name,
        seeds=tuple(seeds),
        metrics=tuple(completed.metrics_of(name)),
        skipped_compute_frac=mean_share([end.skipped_compute_frac for end in ends]),
        saved_compute_frac=mean_share([end.saved_compute_frac for end in ends]),
        seconds=float(np.mean([end.seconds for end in ends])) if ends else None,
        details=_mean_details([end.details for end in ends]),
        runs=tuple(
            RunResult(seed, snapshot, seed in completed.counted_seeds)
            for seed, snapshot in sorted(own.items())
        ),
    )


# Sentences -----------------------------------------------------------------------


def policy_sentence(policy: PolicyResult) -> str:
    """Return the result of a policy in a sentence."""
    if policy.breakdown is not None:
        broken = policy.breakdown
        return (
            f"It broke down on {len(broken.seeds)} of {broken.compared_seeds} seeds that full "
            "and same-budget training finished, so it gets no verdict."
        )
    assert policy.verdict is not None, "a policy that did not break down has a verdict"
    return outcome_sentence(policy.verdict)


def policy_evidence(policy: PolicyResult, metric: Metric) -> str:
    """Return the numbers behind :func:`policy_sentence`."""
    if policy.breakdown is not None:
        return f"Seed {policy.breakdown.seeds[0]}: {policy.breakdown.reason}"
    assert policy.verdict is not None, "a policy that did not break down has a verdict"
    return evidence_text(policy.verdict, *difference_formatter(metric))


def policy_text(policy: PolicyResult, metric: Metric) -> str:
    """Return the sentence and the numbers behind it."""
    return f"{policy_sentence(policy)} {policy_evidence(policy, metric)}"


def exploratory_texts(result: StudyResult) -> list[str]:
    """Return why a study's verdicts are exploratory; empty where they are not."""
    why = list(result.plan.exploratory_reasons)
    if result.is_judged_early:
        left = result.completed.runs_left
        planned = len(result.completed.snapshots) * len(result.plan.seeds)
        why.append(
            f"The study is not complete: {left} of {planned} planned runs are missing. "
            "Stopping as soon as a verdict looks good makes chance results likely."
        )
    if mixed := result.completed.mixed_seeds:
        listed = ", ".join(map(str, mixed))
        why.append(
            f"Runs of the same seed come from different machines or versions (seeds {listed}), "
            "so their differences also contain rounding."
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
    """Return a function that writes a difference as a number, and the unit."""
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
        "flops_full": end.flops_full if end is not None else None,
        "skipped_compute_frac": end.skipped_compute_frac if end is not None else None,
        "saved_compute_frac": end.saved_compute_frac if end is not None else None,
        "seconds": end.seconds if end is not None else None,
        "details": dict(end.details) if end is not None else {},
        "energy": energy_record(snapshot.energy),
        "why": run.reason,
    }


def variant_savings(completed: CompletedRuns, variant: str) -> Mapping[SavingBasis, Saving]:
    """Return the known savings of a variant against full training; none if it broke down."""
    if variant in completed.broken_seeds:
        return {}
    own, full = completed.snapshots[variant], completed.snapshots[DENSE_FULL]
    pairs = [(own[seed], full[seed]) for seed in completed.ended_seeds(variant)]
    comparison = compare_with_reference(pairs)
    return {} if comparison is None else comparison.savings


def mean_share(shares: Sequence[float | None]) -> float | None:
    """Return the mean of shares; ``None`` without any, or where one is unknown."""
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
