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

from effcore.events import Snapshot
from effcore.store import Store
from effcore.store.codec import encode
from effcore.store.studies import StoredStudy, Studies
from effcore.studies.cell import Cell, Progress, alone, jobs_for, train_cell
from effcore.studies.saved import savings_record
from effcore.studies.study import (
    FULL,
    MATCHED,
    Plan,
    arms_of,
    cells,
    joined,
    plan_from_text,
    plan_to_text,
)
from effcore.summary import energy_record
from effcore.tasks.base import TASKS, Metric
from effcore.verdict import Kind, Verdict, sentence, verdicts


def open_study(store: Store, plan: Plan) -> tuple[StoredStudy, Plan]:
    """Return the study to go on with, or a new one, and its plan with all seeds.

    Raises:
        StoreError: The store cannot be read or written.
        ValueError: The plan that is stored is damaged.
    """
    studies = Studies(store)

    def whole(known: str | None) -> str:
        if known is None:
            return plan_to_text(plan)
        return plan_to_text(joined(plan_from_text(known), plan, studies.begun(plan.key)))

    study = studies.open(plan.key, whole)
    return study, plan_from_text(study.plan)


def stored_cells(store: Store, study_id: str, plan: Plan) -> dict[tuple[str, int], str]:
    """Return the runs by arm and seed that ended, and are still what the plan asks for.

    Where a default has changed since, the plan asks for another run.

    Raises:
        StoreError: The store cannot be read.
    """
    wanted = {(cell.arm, cell.seed): encode(cell.config) for cell in cells(plan)}
    ended = Studies(store).ended(study_id)
    return {
        place: cell.run_id
        for place, cell in ended.items()
        if place in wanted and json.loads(cell.config) == json.loads(wanted[place])
    }


def missing(store: Store, study_id: str, plan: Plan) -> list[Cell]:
    """Return the cells that are not stored yet."""
    done = stored_cells(store, study_id, plan)
    return [cell for cell in cells(plan) if (cell.arm, cell.seed) not in done]


def carry_out(
    store: Store, study_id: str, plan: Plan, jobs: int
) -> Generator[Progress, None, None]:
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
    with alone(store, study_id):
        left = missing(store, study_id, plan)
        total = len(plan.seeds) * len(arms_of(plan))
        done, began = total - len(left), time.monotonic()
        yield Progress(done, total, None)
        work = (delayed(train_cell)(store.home, study_id, cell, os.getpid()) for cell in left)
        jobs = jobs_for(left[0].config.device, jobs, len(left)) if left else 1
        trained = Parallel(n_jobs=jobs, return_as="generator_unordered")(work)
        for place, _ in enumerate(trained, 1):
            if Studies(store).cancelled(study_id):
                continue  # the rest comes back at once
            each = (time.monotonic() - began) / place
            yield Progress(done + place, total, each * (len(left) - place))


class Results(NamedTuple):
    """What the cells came to.

    Attributes:
        runs: Snapshots by arm, then seed.
        seeds: Seeds that count: both dense arms and every policy that never broke ended them.
        broke: Seeds by policy on which it broke down though both dense arms did not.
        left: Runs that are planned and have not ended.
    """

    runs: Mapping[str, Mapping[int, Snapshot]]
    seeds: tuple[int, ...]
    broke: Mapping[str, tuple[int, ...]]
    left: int = 0

    def values(self, arm: str) -> list[float]:
        """Return an arm's metrics over the seeds that count and that it ended."""
        return [_metric(self.runs[arm][seed]) for seed in self.whole(arm)]

    def whole(self, arm: str) -> list[int]:
        """Return the seeds that count and that an arm ended."""
        own = self.runs[arm]
        return [seed for seed in self.seeds if seed in own and np.isfinite(_metric(own[seed]))]


def _metric(look: Snapshot) -> float:
    value = look.end.metric if look.end else None
    return float("nan") if value is None else value


def results(store: Store, study_id: str, plan: Plan) -> Results:
    """Read what is stored of a study.

    Raises:
        StoreError: The store cannot be read.
    """
    runs: dict[str, dict[int, Snapshot]] = {arm.name: {} for arm in arms_of(plan)}
    for (arm, seed), run_id in stored_cells(store, study_id, plan).items():
        runs[arm][seed] = store.load(run_id)
    known = {
        arm: {seed: bool(np.isfinite(_metric(look))) for seed, look in own.items()}
        for arm, own in runs.items()
    }
    dense = [s for s in plan.seeds if all(known[arm].get(s, False) for arm in (FULL, MATCHED))]
    broke = {arm: tuple(s for s in dense if known[arm].get(s) is False) for arm in plan.arms}
    judged = [arm for arm in plan.arms if not broke[arm]]
    seeds = tuple(s for s in dense if all(known[arm].get(s, False) for arm in judged))
    left = len(runs) * len(plan.seeds) - sum(map(len, runs.values()))
    return Results(runs, seeds, {arm: lost for arm, lost in broke.items() if lost}, left)


def judge(plan: Plan, found: Results) -> list[Verdict]:
    """Return the verdicts on the policies that never broke; none of fewer than two seeds."""
    judged = [arm for arm in plan.arms if arm not in found.broke]
    if len(found.seeds) < 2 or not judged:
        return []
    way = 1.0 if _metric_of(plan).higher_is_better else -1.0
    better = {arm: [way * value for value in found.values(arm)] for arm in (FULL, MATCHED, *judged)}
    arms = {name: better[name] for name in judged}
    return verdicts(arms, better[FULL], better[MATCHED], plan.margin, planned=len(plan.arms))


def _metric_of(plan: Plan) -> Metric:
    return TASKS.get(str(plan.shared["task"])).metric


def record(study_id: str, plan: Plan, found: Results) -> dict[str, Any]:
    """Return what ``compare --json`` prints."""
    told, metric = judge(plan, found), _metric_of(plan)
    write, unit = difference_writer(metric)
    sentences = {each.arm: sentence(each, write, unit) for each in told}
    sentences |= {arm: _broke_words(plan, found, arm) for arm in found.broke}
    kinds = {each.arm: each.kind.value for each in told}
    kinds |= dict.fromkeys(found.broke, Kind.BROKE.value)
    return {
        "study_id": study_id,
        "task": plan.shared["task"],
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "budget": plan.budget,
        "margin": plan.margin,
        "margins_before": list(plan.margins),
        "exploratory": plan.exploratory + _early(plan, found, kinds),
        "seeds": list(found.seeds),
        "runs_left": found.left,
        "verdict": kinds,
        "sentences": sentences,
        "saved": {arm: _savings(found, arm) for arm in plan.arms},
        "arms": [_arm_record(name, found) for name in found.runs],
        "diffs": [row for each in told for row in _diff_records(each)],
    }


def _early(plan: Plan, found: Results, kinds: Mapping[str, str]) -> list[str]:
    """Return that a verdict is told before the study is over, where one is."""
    if not found.left or set(kinds.values()) <= {Kind.TOO_FEW.value}:
        return []
    planned = len(found.runs) * len(plan.seeds)
    return [
        f"The study is not over: {found.left} of {planned} planned runs are missing. "
        "Who stops once the verdict pleases is shown what luck shows."
    ]


def difference_writer(metric: Metric) -> tuple[Callable[[float], str], str]:
    """Return what writes a difference as a number, and the unit."""
    return lambda value: f"{metric.factor * value:+.{metric.digits}f}", metric.difference_unit


def _broke_words(plan: Plan, found: Results, arm: str) -> str:
    seeds = found.broke[arm]
    why = found.runs[arm][seeds[0]].reason
    return (
        f"It broke down on {len(seeds)} of {len(plan.seeds)} seeds where dense training did not, "
        f"and is not judged on the others. Seed {seeds[0]}: {why}"
    )


def _arm_record(name: str, found: Results) -> dict[str, Any]:
    own, full, values = found.runs[name], found.runs[FULL], found.values(name)
    pairs = [(end, full[s].end) for s in found.whole(name) if (end := own[s].end) is not None]
    shares = [end.flops_spent / of.flops_spent for end, of in pairs if of is not None]
    return {
        "name": name,
        "seeds": found.whole(name),
        "metrics": values,
        "metric_mean": float(np.mean(values)) if values else None,
        "skipped_compute_frac": 1.0 - float(np.mean(shares)) if shares else None,
        "seconds": float(np.mean([end.seconds for end, _ in pairs])) if pairs else None,
        "details": _means([end.details for end, _ in pairs]),
        "energy": [energy_record(own[seed].energy) for seed in found.whole(name)],
        "runs": [_run_record(look, seed in found.seeds) for seed, look in sorted(own.items())],
        "failed": {
            str(seed): look.reason for seed, look in own.items() if not np.isfinite(_metric(look))
        },
    }


def _run_record(look: Snapshot, counts: bool) -> dict[str, Any]:
    """Return a run, and whether its seed counts."""
    end, value = look.end, _metric(look)
    return {
        "run_id": look.run_id,
        "seed": look.config.seed,
        "counts": counts,
        "status": look.status.value,
        "metric": value if np.isfinite(value) else None,
        "flops": end.flops_spent if end is not None else None,
        "seconds": end.seconds if end is not None else None,
        "details": dict(end.details) if end is not None else {},
        "energy": energy_record(look.energy),
        "why": look.reason,
    }


def _savings(found: Results, arm: str) -> dict[str, Any]:
    full = found.runs[FULL]
    return savings_record([(found.runs[arm][seed], full[seed]) for seed in found.whole(arm)])


def _means(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each detail over runs."""
    names = each[0].keys() if each else ()
    return {name: float(np.mean([own[name] for own in each])) for name in names}


def _diff_records(verdict: Verdict) -> list[dict[str, Any]]:
    rows = []
    for told, question in ((verdict.full, "noninferior"), (verdict.matched, "superior")):
        lo, hi = told.bca()
        row = {
            "arm": verdict.arm,
            "against": told.against,
            "mean": told.paired.mean,
            "lo": told.paired.lo,
            "hi": told.paired.hi,
            "bound": told.paired.bound,
            "bca": [lo, hi],
            "sign_flip_p": told.sign_flip(),
            "p": told.p,
            "seeds_needed": told.needed(),
            "noninferior": None,
            "superior": None,
        }
        rows.append(row | {question: getattr(verdict, question)})
    return rows
