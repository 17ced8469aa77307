"""A study carried out: cells trained and stored, one by one, until all are there.

What is stored is never trained again, so that a study that was cut short goes on where it
was, and more seeds join it later.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed

from effcore.records import Snapshot
from effcore.runs.summary import energy_record
from effcore.store import Store
from effcore.store.serialization import encode_record
from effcore.store.study_table import StoredStudy, StudyTable
from effcore.studies.executor import (
    StudyProgress,
    StudyRun,
    parallel_jobs,
    study_lock,
    train_study_run,
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
from effcore.studies.savings import savings_record
from effcore.studies.verdict import Outcome, Verdict, judge_arms, verdict_text
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
    ended = StudyTable(store).ended_runs(study_id)
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
        work = (delayed(train_study_run)(store.home, study_id, cell, os.getpid()) for cell in left)
        jobs = parallel_jobs(left[0].config.device, jobs, len(left)) if left else 1
        trained = Parallel(n_jobs=jobs, return_as="generator_unordered")(work)
        for place, _ in enumerate(trained, 1):
            if StudyTable(store).is_cancelled(study_id):
                continue  # the rest comes back at once
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
    """

    snapshots: Mapping[str, Mapping[int, Snapshot]]
    counted_seeds: tuple[int, ...]
    broken_seeds: Mapping[str, tuple[int, ...]]
    runs_left: int = 0

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
    value = snapshot.end.metric if snapshot.end else None
    return float("nan") if value is None else value


def load_completed_runs(store: Store, study_id: str, plan: StudyPlan) -> CompletedRuns:
    """Read what is stored of a study.

    Raises:
        StoreError: The store cannot be read.
    """
    runs: dict[str, dict[int, Snapshot]] = {arm.name: {} for arm in variants_of(plan)}
    for (arm, seed), run_id in stored_run_ids(store, study_id, plan).items():
        runs[arm][seed] = store.load_snapshot(run_id)
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
    return CompletedRuns(runs, seeds, {arm: lost for arm, lost in broke.items() if lost}, left)


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


def study_record(study_id: str, plan: StudyPlan, completed: CompletedRuns) -> dict[str, Any]:
    """Return what ``compare --json`` prints."""
    told, metric = judge_study(plan, completed), _task_metric(plan)
    write, unit = difference_formatter(metric)
    sentences = {each.arm: verdict_text(each, write, unit) for each in told}
    sentences |= {arm: _breakdown_sentence(plan, completed, arm) for arm in completed.broken_seeds}
    kinds = {each.arm: each.outcome.value for each in told}
    kinds |= dict.fromkeys(completed.broken_seeds, Outcome.BROKE_DOWN.value)
    return {
        "study_id": study_id,
        "task": plan.shared["task"],
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "budget": plan.budget,
        "margin": plan.margin,
        "margins_before": list(plan.margins),
        "exploratory": plan.exploratory_reasons + _unfinished_reason(plan, completed, kinds),
        "seeds": list(completed.counted_seeds),
        "runs_left": completed.runs_left,
        "verdict": kinds,
        "sentences": sentences,
        "saved": {arm: _variant_savings(completed, arm) for arm in plan.arms},
        "arms": [_variant_record(name, completed) for name in completed.snapshots],
        "diffs": [row for each in told for row in _difference_records(each)],
    }


def _unfinished_reason(
    plan: StudyPlan, found: CompletedRuns, kinds: Mapping[str, str]
) -> list[str]:
    """Return that a verdict is told before the study is over, where one is."""
    if not found.runs_left or set(kinds.values()) <= {Outcome.TOO_FEW_SEEDS.value}:
        return []
    planned = len(found.snapshots) * len(plan.seeds)
    return [
        f"The study is not over: {found.runs_left} of {planned} planned runs are missing. "
        "Who stops once the verdict pleases is shown what luck shows."
    ]


def difference_formatter(metric: Metric) -> tuple[Callable[[float], str], str]:
    """Return what writes a difference as a number, and the unit."""
    return lambda value: f"{metric.factor * value:+.{metric.digits}f}", metric.difference_unit


def _breakdown_sentence(plan: StudyPlan, found: CompletedRuns, arm: str) -> str:
    seeds = found.broken_seeds[arm]
    why = found.snapshots[arm][seeds[0]].reason
    return (
        f"It broke down on {len(seeds)} of {len(plan.seeds)} seeds where dense training did not, "
        f"and is not judged on the others. Seed {seeds[0]}: {why}"
    )


def _variant_record(name: str, found: CompletedRuns) -> dict[str, Any]:
    own, full, values = found.snapshots[name], found.snapshots[DENSE_FULL], found.metrics_of(name)
    pairs = [(end, full[s].end) for s in found.ended_seeds(name) if (end := own[s].end) is not None]
    shares = [end.flops_spent / of.flops_spent for end, of in pairs if of is not None]
    return {
        "name": name,
        "seeds": found.ended_seeds(name),
        "metrics": values,
        "metric_mean": float(np.mean(values)) if values else None,
        "skipped_compute_frac": 1.0 - float(np.mean(shares)) if shares else None,
        "seconds": float(np.mean([end.seconds for end, _ in pairs])) if pairs else None,
        "details": _mean_details([end.details for end, _ in pairs]),
        "energy": [energy_record(own[seed].energy) for seed in found.ended_seeds(name)],
        "runs": [
            _run_record(look, seed in found.counted_seeds) for seed, look in sorted(own.items())
        ],
        "failed": {
            str(seed): look.reason
            for seed, look in own.items()
            if not np.isfinite(_final_metric(look))
        },
    }


def _run_record(snapshot: Snapshot, counts: bool) -> dict[str, Any]:
    """Return a run, and whether its seed counts."""
    end, value = snapshot.end, _final_metric(snapshot)
    return {
        "run_id": snapshot.run_id,
        "seed": snapshot.config.seed,
        "counts": counts,
        "status": snapshot.status.value,
        "metric": value if np.isfinite(value) else None,
        "flops": end.flops_spent if end is not None else None,
        "seconds": end.seconds if end is not None else None,
        "details": dict(end.details) if end is not None else {},
        "energy": energy_record(snapshot.energy),
        "why": snapshot.reason,
    }


def _variant_savings(found: CompletedRuns, arm: str) -> dict[str, Any]:
    full = found.snapshots[DENSE_FULL]
    return savings_record(
        [(found.snapshots[arm][seed], full[seed]) for seed in found.ended_seeds(arm)]
    )


def _mean_details(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each detail over runs."""
    names = each[0].keys() if each else ()
    return {name: float(np.mean([own[name] for own in each])) for name in names}


def _difference_records(verdict: Verdict) -> list[dict[str, Any]]:
    rows = []
    for told, question in (
        (verdict.against_full, "noninferior"),
        (verdict.against_matched, "superior"),
    ):
        lo, hi = told.bca_interval()
        row = {
            "arm": verdict.arm,
            "against": told.against,
            "mean": told.paired.mean,
            "lo": told.paired.lo,
            "hi": told.paired.hi,
            "bound": told.paired.bound,
            "bca": [lo, hi],
            "sign_flip_p": told.sign_flip_p_value(),
            "p": told.p,
            "seeds_needed": told.pairs_needed(),
            "noninferior": None,
            "superior": None,
        }
        rows.append(row | {question: getattr(verdict, question)})
    return rows
