"""A sweep carried out: dense curve first, then trials as Optuna suggests them, all stored.

What is stored is never trained again. The search has no state of its own: whatever it knows
is made anew of the stored runs, so that a sweep that was cut short goes on where it was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from joblib import Parallel, delayed

from effcore.cell import Cell, Progress, alone, jobs_for, train_cell
from effcore.compare import carry_out, judge, open_study, record, results
from effcore.events import KnobValue, RunStatus, Snapshot
from effcore.frontier import Confirmed, candidate, confirming, optuna_study
from effcore.points import Point, Rival, points_of, rival_of
from effcore.store import Store
from effcore.store.studies import StoredStudy, Studies
from effcore.study import Plan, plan_from_text
from effcore.sweep import (
    DENSE_BUDGETS,
    FIRST_BUDGETS,
    SweepPlan,
    defaults,
    dense_cells,
    sweep_from_text,
    sweep_to_text,
    trial_cells,
)


def open_sweep(store: Store, plan: SweepPlan) -> tuple[StoredStudy, SweepPlan]:
    """Return the sweep to go on with, or a new one; its trials are the most ever asked for.

    Raises:
        StoreError: The store cannot be read or written.
        ValueError: The plan that is stored is damaged.
    """

    def whole(known: str | None) -> str:
        before = 0 if known is None else sweep_from_text(known).trials
        return sweep_to_text(replace(plan, trials=max(before, plan.trials)))

    study = Studies(store).open(plan.key, whole)
    return study, sweep_from_text(study.plan)


def stored_points(store: Store, sweep_id: str, plan: SweepPlan) -> list[Point]:
    """Return what is stored of a sweep.

    Raises:
        StoreError: The store cannot be read.
    """
    runs: dict[str, dict[int, Snapshot]] = {}
    for (arm, seed), cell in Studies(store).ended(sweep_id, stopped=True).items():
        runs.setdefault(arm, {})[seed] = store.load(cell.run_id)
    return points_of(plan, runs)


def search(
    store: Store, sweep_id: str, plan: SweepPlan, jobs: int
) -> Generator[Progress, None, None]:
    """Train what is missing; yields once before, and after each dense run and trial.

    A sweep that is cancelled ends within a second; what was under way is not part of it.

    Args:
        store: Where runs go.
        sweep_id: The sweep.
        plan: Its plan.
        jobs: Runs at a time, each in a process of its own; one wherever energy is measured.

    Raises:
        StoreError: A run could not be stored.
    """
    jobs = jobs_for(str(plan.shared.get("device", "cpu")), jobs, plan.trials)
    total = len(DENSE_BUDGETS) * len(plan.seeds) + plan.trials
    with alone(store, sweep_id):
        began = time.monotonic()
        before = _done(plan, stored_points(store, sweep_id, plan))
        yield Progress(before, total, None)
        for done, _ in enumerate(_steps(store, sweep_id, plan, jobs), 1):
            each = (time.monotonic() - began) / done
            yield Progress(before + done, total, each * max(total - before - done, 0))


def _done(plan: SweepPlan, points: Sequence[Point]) -> int:
    dense = sum(len(point.looks) for point in points if point.dense)
    return dense + sum(not point.dense and not _to_do(plan, point) for point in points)


def _to_do(plan: SweepPlan, point: Point) -> bool:
    """Whether a trial was cut short."""
    return not (point.whole or point.stopped or point.failed)


def _steps(store: Store, sweep_id: str, plan: SweepPlan, jobs: int) -> Iterator[None]:
    """Carry the sweep out; yields after each dense run and trial."""
    known = Studies(store).ended(sweep_id, stopped=True)
    missing = [cell for cell in dense_cells(plan) if (cell.arm, cell.seed) not in known]
    work: list[Work] = [([cell], [None]) for cell in missing]
    yield from _all_of(store, sweep_id, work, jobs)
    while not Studies(store).cancelled(sweep_id):
        points = stored_points(store, sweep_id, plan)
        work = [_work(plan, points, *suggested) for suggested in suggestions(plan, points, jobs)]
        if not work:
            return
        yield from _all_of(store, sweep_id, work, jobs)


#: Runs of a trial, and what each must keep up with.
Work = tuple[list[Cell], list[Rival | None]]


def _work(
    plan: SweepPlan,
    points: Sequence[Point],
    number: int,
    budget: float,
    knobs: Mapping[str, KnobValue],
) -> Work:
    done = next((set(p.looks) for p in points if p.number == number), set())
    left = [c for c in trial_cells(plan, number, knobs, budget) if c.seed not in done]
    return left, [rival_of(plan, points, budget, cell.seed) for cell in left]


def _all_of(store: Store, sweep_id: str, work: Sequence[Work], jobs: int) -> Iterator[None]:
    tasks = (delayed(_train)(store.home, sweep_id, *each, os.getpid()) for each in work)
    for _ in Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks):
        if not Studies(store).cancelled(sweep_id):
            yield


def _train(
    home: Path, sweep_id: str, cells: Sequence[Cell], rivals: Sequence[Rival | None], owner: int
) -> None:
    """Train one seed after another; what is hopeless or broken on one is left."""
    for cell, rival in zip(cells, rivals, strict=True):
        hopeless = rival.hopeless if rival is not None else None
        if train_cell(home, sweep_id, cell, owner, hopeless) is not RunStatus.FINISHED:
            return


Suggestion = tuple[int, float, Mapping[str, KnobValue]]


def suggestions(plan: SweepPlan, points: Sequence[Point], count: int) -> list[Suggestion]:
    """Return what to try next, as number, budget and knobs; nothing once all was tried.

    Trials that were cut short come first, then the policy's own defaults, then what Optuna
    makes of those that are known.

    Args:
        plan: What is searched.
        points: What was tried.
        count: Most suggestions.
    """
    trials = [point for point in points if not point.dense]
    short = [(p.number, p.budget, p.knobs) for p in trials if _to_do(plan, p)]
    if short:
        return short[:count]
    following = max((p.number for p in trials), default=-1) + 1
    left = max(0, min(count, plan.trials - len(trials)))
    study, distributions = optuna_study(plan, points, following)
    found: list[Suggestion] = []
    for number in range(following, following + left):
        if number < len(FIRST_BUDGETS):
            found.append((number, FIRST_BUDGETS[number], defaults(plan)))
            continue
        asked = study.ask(distributions).params
        knobs = {n: _rounded(v) for n, v in asked.items() if n != "budget"}
        found.append((number, float(_rounded(asked["budget"])), knobs))
    return found


def _rounded(value: KnobValue) -> KnobValue:
    """Return a value that a person can type."""
    return value if isinstance(value, int) else float(f"{value:.3g}")


def confirming_study(
    store: Store, plan: SweepPlan, points: Sequence[Point], seeds: int
) -> tuple[StoredStudy, Plan] | None:
    """Open the study that confirms the candidate; ``None`` where there is no candidate.

    Raises:
        ConfigError: The number of seeds is not allowed.
        StoreError: The store cannot be read or written.
    """
    best = candidate(plan, points)
    return open_study(store, confirming(plan, best, seeds)) if best else None


def confirmation(store: Store, plan: SweepPlan, points: Sequence[Point]) -> Confirmed | None:
    """Return what the study of the candidate found, if there is a whole one in the store.

    Raises:
        StoreError: The store cannot be read.
    """
    best = candidate(plan, points)
    if best is None:
        return None
    key = confirming(plan, best, 1).key
    study = next((each for each in Studies(store).all() if each.key == key), None)
    if study is None:
        return None
    compared = plan_from_text(study.plan)
    if set(compared.seeds) & set(plan.seeds):
        return None  # not fresh
    found = results(store, study.study_id, compared)
    told = record(study.study_id, compared, found)
    verdicts = judge(compared, found)
    if plan.policy not in told["verdict"]:
        return None
    free = verdicts[0].noninferior if verdicts else False
    words = told["sentences"][plan.policy]
    return Confirmed(study.study_id, told["verdict"][plan.policy], free, words)


def confirm(
    store: Store, plan: SweepPlan, points: Sequence[Point], seeds: int, jobs: int
) -> Iterator[Progress]:
    """Carry out the study that confirms the candidate, where there is one.

    Raises:
        ConfigError: The number of seeds is not allowed.
        StoreError: The store cannot be read or written, or a run could not be stored.
    """
    opened = confirming_study(store, plan, points, seeds)
    if opened is not None:
        yield from carry_out(store, opened[0].study_id, opened[1], jobs)
