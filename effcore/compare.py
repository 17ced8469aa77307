"""A study carried out: cells trained and stored, one by one, until all are there.

What is stored is never trained again, so that a study that was cut short goes on where it
was, and more seeds join it later.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed

from effcore.config import fingerprint
from effcore.energy.meter import RunMeter
from effcore.events import Quality, RunEnd, Snapshot
from effcore.runner import Run
from effcore.store import Store, new_run_id
from effcore.store.studies import StoredStudy, Studies
from effcore.study import (
    FULL,
    MATCHED,
    Cell,
    Plan,
    arms_of,
    cells,
    joined,
    plan_from_text,
    plan_to_text,
)
from effcore.summary import energy_record
from effcore.tasks.base import TASKS, Metric
from effcore.verdict import Verdict, sentence, verdicts
from effcore.warmup import warm_up

#: How often a run under way asks whether its study was cancelled, s.
_LOOK_S = 0.5


class Progress(NamedTuple):
    """How far a study has got.

    Attributes:
        done: Cells that are stored.
        total: Cells there are to be.
        seconds_left: About how long the rest takes; ``None`` before the first cell.
    """

    done: int
    total: int
    seconds_left: float | None


def open_study(store: Store, plan: Plan) -> tuple[StoredStudy, Plan]:
    """Return the study to go on with, or a new one, and its plan with all seeds.

    Raises:
        StoreError: The store cannot be read or written.
    """
    studies = Studies(store)
    known = studies.find(plan.key)
    if known is None:
        return studies.begin(plan.key, plan_to_text(plan)), plan
    whole = joined(plan_from_text(known.plan), plan)
    studies.replan(known.study_id, plan_to_text(whole))
    return known, whole


def missing(store: Store, study_id: str, plan: Plan) -> list[Cell]:
    """Return the cells that are not stored yet."""
    done = Studies(store).finished(study_id)
    return [cell for cell in cells(plan) if (cell.arm, cell.seed) not in done]


def carry_out(store: Store, study_id: str, plan: Plan, jobs: int) -> Iterator[Progress]:
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
    studies = Studies(store)
    studies.cancel(study_id, on=False)
    left = missing(store, study_id, plan)
    total = len(plan.seeds) * len(arms_of(plan))
    done, began = total - len(left), time.monotonic()
    yield Progress(done, total, None)
    count = 1 if left and measured(left[0].config.device) else jobs
    work = (delayed(_train)(store.home, study_id, cell) for cell in left)
    for place, _ in enumerate(Parallel(n_jobs=count, return_as="generator_unordered")(work), 1):
        if studies.cancelled(study_id):
            continue  # the rest comes back at once
        each = (time.monotonic() - began) / place
        yield Progress(done + place, total, each * (len(left) - place))


def measured(device: str) -> bool:
    """Return whether joules are measured there, so that one run at a time is all that goes."""
    meter = RunMeter.open(device, time.monotonic)
    meter.start()
    return meter.stop().quality in (Quality.MEASURED, Quality.MODELLED, Quality.SUSPECT)


@functools.cache
def _warmed() -> None:
    """Take the first step of the process, which imports much, and discard it."""
    warm_up()


def _train(home: Path, study_id: str, cell: Cell) -> None:
    """Train one cell and store it, unless the study is cancelled."""
    store = Store(home)
    studies = Studies(store)
    try:
        if studies.cancelled(study_id):
            return
        _warmed()
        run_id = new_run_id()
        create = functools.partial(
            store.create, cell.config, run_id=run_id, fingerprint=fingerprint(cell.config)
        )
        run = Run(run_id, cell.config, create)
        run.start()
        try:
            while not run.join(_LOOK_S):
                if studies.cancelled(study_id):
                    run.stop()
        finally:  # a person's interrupt ends the run, too
            run.stop()
            run.join()
        studies.note(study_id, cell.arm, cell.seed, run_id)
    finally:
        store.close()


class Results(NamedTuple):
    """What the cells came to: snapshots by arm and seed, the seeds that all arms have.

    Attributes:
        runs: By arm, then seed.
        seeds: Seeds for which every arm ended with a metric.
    """

    runs: Mapping[str, Mapping[int, Snapshot]]
    seeds: tuple[int, ...]

    def values(self, arm: str) -> list[float]:
        """Return an arm's metrics over the common seeds."""
        return [_metric(self.runs[arm][seed]) for seed in self.seeds]

    def ends(self, arm: str) -> list[RunEnd]:
        """Return how an arm's runs ended, over the common seeds."""
        return [end for seed in self.seeds if (end := self.runs[arm][seed].end) is not None]


def _metric(look: Snapshot) -> float:
    value = look.end.metric if look.end else None
    return float("nan") if value is None else value


def results(store: Store, study_id: str, plan: Plan) -> Results:
    """Read what is stored of a study.

    Raises:
        StoreError: The store cannot be read.
    """
    runs: dict[str, dict[int, Snapshot]] = {arm.name: {} for arm in arms_of(plan)}
    for (arm, seed), run_id in Studies(store).finished(study_id).items():
        if arm in runs and seed in plan.seeds:
            runs[arm][seed] = store.load(run_id)
    whole = [
        seed
        for seed in plan.seeds
        if all(seed in own and np.isfinite(_metric(own[seed])) for own in runs.values())
    ]
    return Results(runs, tuple(whole))


def judge(plan: Plan, found: Results) -> list[Verdict]:
    """Return the verdicts on the policies; none while fewer than two seeds are whole."""
    if len(found.seeds) < 2:
        return []
    way = 1.0 if _metric_of(plan).higher_is_better else -1.0
    better = {arm: [way * value for value in found.values(arm)] for arm in found.runs}
    arms = {name: better[name] for name in plan.arms}
    return verdicts(arms, better[FULL], better[MATCHED], plan.margin)


def _metric_of(plan: Plan) -> Metric:
    return TASKS.get(str(plan.shared["task"])).metric


def record(study_id: str, plan: Plan, found: Results) -> dict[str, Any]:
    """Return what ``compare --json`` prints."""
    told, metric = judge(plan, found), _metric_of(plan)
    write, unit = difference_writer(metric)
    return {
        "study_id": study_id,
        "task": plan.shared["task"],
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "budget": plan.budget,
        "margin": plan.margin,
        "margins_before": list(plan.margins),
        "seeds": list(found.seeds),
        "verdict": {each.arm: each.kind.value for each in told},
        "sentences": {each.arm: sentence(each, write, unit) for each in told},
        "arms": [_arm_record(name, found) for name in found.runs],
        "diffs": [row for each in told for row in _diff_records(each)],
    }


def difference_writer(metric: Metric) -> tuple[Callable[[float], str], str]:
    """Return what writes a difference as a number, and the unit: points for a fraction."""
    factor, unit = (100.0, "points") if metric.unit == "%" else (1.0, metric.unit)
    return lambda value: f"{factor * value:+.{metric.digits}f}", unit


def _arm_record(name: str, found: Results) -> dict[str, Any]:
    ends, values = found.ends(name), found.values(name)
    full = [end.flops_spent for end in found.ends(FULL)]
    shares = [end.flops_spent / of for end, of in zip(ends, full, strict=True)]
    failed = {
        str(seed): look.reason
        for seed, look in found.runs[name].items()
        if not np.isfinite(_metric(look))
    }
    return {
        "name": name,
        "seeds": list(found.seeds),
        "metrics": values,
        "metric_mean": float(np.mean(values)) if values else None,
        "skipped_compute_frac": 1.0 - float(np.mean(shares)) if shares else None,
        "seconds": float(np.mean([end.seconds for end in ends])) if ends else None,
        "details": _means([end.details for end in ends]),
        "energy": [energy_record(found.runs[name][seed].energy) for seed in found.seeds],
        "failed": failed,
    }


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
