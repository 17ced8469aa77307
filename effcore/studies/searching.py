"""A sweep carried out: the dense curve, trials as Optuna suggests them, and the second look.

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

from effcore.events import KnobValue, RunStatus, Snapshot
from effcore.store import Store
from effcore.store.studies import StoredStudy, Studies
from effcore.studies.candidates import MOST_AGAIN, again_left, again_missing, candidate
from effcore.studies.cell import Cell, Progress, alone, jobs_for, train_cell
from effcore.studies.compare import carry_out, judge, missing, open_study, record, results
from effcore.studies.frontier import Confirmed, confirming, lost_of, optuna_study
from effcore.studies.points import Point, Rival, points_of, rival_of
from effcore.studies.study import Plan, plan_from_text
from effcore.studies.sweep import (
    FIRST_BUDGETS,
    SweepPlan,
    again_seeds,
    defaults,
    dense_cells,
    sweep_from_text,
    sweep_to_text,
    trial_cells,
)
from effcore.verdict import Kind


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
    """Train what is missing; yields once before, and after each trial and each other run.

    The total is the most that it may come to: how much the second look takes is known at its
    end. A sweep that is cancelled ends within a second; what was under way is not part of it.

    Args:
        store: Where runs go.
        sweep_id: The sweep.
        plan: Its plan.
        jobs: Runs at a time, each in a process of its own; one wherever energy is measured.

    Raises:
        StoreError: A run could not be stored.
    """
    jobs = jobs_for(
        str(plan.shared.get("device", "cpu")), jobs, max(plan.trials, len(again_seeds(plan)))
    )
    with alone(store, sweep_id):
        began = time.monotonic()
        before = _done(stored_points(store, sweep_id, plan))
        for done, left in enumerate(_steps(store, sweep_id, plan, jobs)):
            seconds = (time.monotonic() - began) / done * left if done else None
            yield Progress(before + done, before + done + left, seconds)
        if not Studies(store).cancelled(sweep_id):
            yield Progress(before + done, before + done, 0.0)


def _done(points: Sequence[Point]) -> int:
    dense = sum(len(point.looks) for point in points if point.dense)
    again = sum(len(point.again) for point in points)
    return dense + again + sum(not point.dense and point.ended for point in points)


def _steps(store: Store, sweep_id: str, plan: SweepPlan, jobs: int) -> Iterator[int]:
    """Carry the sweep out; yields how many steps may be left, before and after each."""
    known = Studies(store).ended(sweep_id, stopped=True)
    dense = [cell for cell in dense_cells(plan) if (cell.arm, cell.seed) not in known]
    points = stored_points(store, sweep_id, plan)
    left = len(dense) + _later(plan, points)
    yield left
    yield from _all_of(store, sweep_id, [_alone(cell) for cell in dense], jobs, left)
    while not Studies(store).cancelled(sweep_id):
        points = stored_points(store, sweep_id, plan)
        work = [_work(plan, points, *suggested) for suggested in suggestions(plan, points, jobs)]
        if not work:
            break
        yield from _all_of(store, sweep_id, work, jobs, _later(plan, points))
    while not Studies(store).cancelled(sweep_id):
        points = stored_points(store, sweep_id, plan)
        lost = lost_of(confirmations(store, plan, points))
        again = [_alone(cell) for cell in again_missing(plan, points, lost)]
        if not again:
            return
        yield from _all_of(store, sweep_id, again, jobs, again_left(plan, points, lost))


def _later(plan: SweepPlan, points: Sequence[Point]) -> int:
    """Return how many trials, and runs of the second look, are to come at most."""
    trials = plan.trials - sum(not point.dense and point.ended for point in points)
    if trials <= 0:
        return again_left(plan, points)
    most = (1 + MOST_AGAIN) * len(again_seeds(plan))
    return trials + max(0, most - sum(len(p.again) for p in points))


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


def _alone(cell: Cell) -> Work:
    return [cell], [None]


def _all_of(
    store: Store, sweep_id: str, work: Sequence[Work], jobs: int, left: int
) -> Iterator[int]:
    """Train all of it; yields after each what is left of so many steps."""
    tasks = (delayed(_train)(store.home, sweep_id, *each, os.getpid()) for each in work)
    trained = Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks)
    for place, _ in enumerate(trained, 1):
        if not Studies(store).cancelled(sweep_id):
            yield left - place


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
    short = [(p.number, p.budget, p.knobs) for p in trials if not p.ended]
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
    best = candidate(plan, points, lost_of(confirmations(store, plan, points)))
    return open_study(store, confirming(plan, best, seeds)) if best else None


def confirmations(store: Store, plan: SweepPlan, points: Sequence[Point]) -> dict[str, Confirmed]:
    """Return what the studies of candidates found, in the order of their turns, by name.

    Raises:
        StoreError: The store cannot be read.
    """
    tried: dict[str, Confirmed] = {}
    while (best := candidate(plan, points, lost_of(tried))) is not None and best.name not in tried:
        told = _confirmation(store, plan, best)
        if told is None:
            break
        tried[best.name] = told
    return tried


def _confirmation(store: Store, plan: SweepPlan, best: Point) -> Confirmed | None:
    key = confirming(plan, best, 1).key
    study = next((each for each in Studies(store).all() if each.key == key), None)
    if study is None:
        return None
    for part in _parts(plan, plan_from_text(study.plan)):
        if missing(store, study.study_id, part):
            return None  # who looks before the end and stops there sees what luck shows
        found = results(store, study.study_id, part)
        told, verdicts = record(study.study_id, part, found), judge(part, found)
        kind = told["verdict"].get(plan.policy, Kind.TOO_FEW)
        if kind != Kind.TOO_FEW:
            free = verdicts[0].noninferior if verdicts else False
            return Confirmed(study.study_id, kind, free, told["sentences"][plan.policy])
    return None


def _parts(plan: SweepPlan, compared: Plan) -> Iterator[Plan]:
    """Yield what was planned of a study each time that seeds joined, fresh seeds alone.

    The first that decides anything is what confirms: seeds that joined when a verdict could be
    seen are no part of it, nor are those that chose the candidate. The margin is the sweep's,
    whatever it became in the study.
    """
    used = {*plan.seeds, *again_seeds(plan)}
    for count in (*compared.extended, len(compared.seeds)):
        seeds = tuple(seed for seed in compared.seeds[:count] if seed not in used)
        if seeds:
            yield replace(compared, seeds=seeds, margin=plan.margin, margins=(), extended=())


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
