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

from effcore.records import KnobValue, RunStatus, Snapshot
from effcore.store import Store
from effcore.store.study_table import StoredStudy, StudyTable
from effcore.studies.candidates import (
    MAX_REPLICATIONS,
    find_candidate,
    missing_replication_runs,
    replication_runs_left,
)
from effcore.studies.comparison import (
    load_completed_runs,
    missing_runs,
    open_study,
    policy_text,
    run_study,
    study_result,
)
from effcore.studies.executor import (
    StudyProgress,
    StudyRun,
    parallel_jobs,
    study_lock,
    train_study_run,
)
from effcore.studies.frontier import (
    Confirmation,
    SweepResult,
    confirmation_plan,
    optuna_study,
    rejected_candidates,
    sweep_result,
)
from effcore.studies.plan import StudyPlan, plan_from_json
from effcore.studies.sweep import (
    INITIAL_BUDGETS,
    SweepPlan,
    default_knobs,
    dense_curve_runs,
    replication_seeds,
    sweep_from_json,
    sweep_to_json,
    trial_runs,
)
from effcore.studies.trials import PruningReference, SweepPoint, pruning_reference, sweep_points
from effcore.studies.verdict import Outcome


def open_sweep(store: Store, plan: SweepPlan) -> tuple[StoredStudy, SweepPlan]:
    """Return the sweep to go on with, or a new one; its trials are the most ever asked for.

    Raises:
        StoreError: The store cannot be read or written.
        ValueError: The plan that is stored is damaged.
    """

    def whole(known: str | None) -> str:
        before = 0 if known is None else sweep_from_json(known).trials
        return sweep_to_json(replace(plan, trials=max(before, plan.trials)))

    study = StudyTable(store).open_or_create(plan.key, whole)
    return study, sweep_from_json(study.plan)


def load_sweep_points(store: Store, sweep_id: str, plan: SweepPlan) -> list[SweepPoint]:
    """Return what is stored of a sweep.

    Raises:
        StoreError: The store cannot be read.
    """
    runs: dict[str, dict[int, Snapshot]] = {}
    for (arm, seed), cell in StudyTable(store).ended_runs(sweep_id, include_stopped=True).items():
        runs.setdefault(arm, {})[seed] = store.load_snapshot(cell.run_id)
    return sweep_points(plan, runs)


def load_sweep_result(store: Store, sweep_id: str, plan: SweepPlan) -> SweepResult:
    """Return the result of a sweep from its stored runs.

    Raises:
        StoreError: The store cannot be read.
    """
    points = load_sweep_points(store, sweep_id, plan)
    return sweep_result(sweep_id, plan, points, load_confirmations(store, plan, points))


def run_sweep(
    store: Store, sweep_id: str, plan: SweepPlan, jobs: int
) -> Generator[StudyProgress, None, None]:
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
    jobs = parallel_jobs(
        str(plan.shared.get("device", "cpu")), jobs, max(plan.trials, len(replication_seeds(plan)))
    )
    with study_lock(store, sweep_id):
        began = time.monotonic()
        before = _completed_steps(load_sweep_points(store, sweep_id, plan))
        for done, left in enumerate(_run_stages(store, sweep_id, plan, jobs)):
            seconds = (time.monotonic() - began) / done * left if done else None
            yield StudyProgress(before + done, before + done + left, seconds)
        if not StudyTable(store).is_cancelled(sweep_id):
            yield StudyProgress(before + done, before + done, 0.0)


def _completed_steps(points: Sequence[SweepPoint]) -> int:
    dense = sum(len(point.snapshots) for point in points if point.is_dense)
    again = sum(len(point.replication_snapshots) for point in points)
    return dense + again + sum(not point.is_dense and point.has_ended for point in points)


def _run_stages(store: Store, sweep_id: str, plan: SweepPlan, jobs: int) -> Iterator[int]:
    """Carry the sweep out; yields how many steps may be left, before and after each."""
    known = StudyTable(store).ended_runs(sweep_id, include_stopped=True)
    dense = [cell for cell in dense_curve_runs(plan) if (cell.variant, cell.seed) not in known]
    points = load_sweep_points(store, sweep_id, plan)
    left = len(dense) + _max_steps_left(plan, points)
    yield left
    yield from _train_all(store, sweep_id, [_single_run_work(cell) for cell in dense], jobs, left)
    while not StudyTable(store).is_cancelled(sweep_id):
        points = load_sweep_points(store, sweep_id, plan)
        work = [
            _trial_work(plan, points, *suggested)
            for suggested in suggest_trials(plan, points, jobs)
        ]
        if not work:
            break
        yield from _train_all(store, sweep_id, work, jobs, _max_steps_left(plan, points))
    while not StudyTable(store).is_cancelled(sweep_id):
        points = load_sweep_points(store, sweep_id, plan)
        lost = rejected_candidates(load_confirmations(store, plan, points))
        again = [_single_run_work(cell) for cell in missing_replication_runs(plan, points, lost)]
        if not again:
            return
        yield from _train_all(
            store, sweep_id, again, jobs, replication_runs_left(plan, points, lost)
        )


def _max_steps_left(plan: SweepPlan, points: Sequence[SweepPoint]) -> int:
    """Return how many trials, and runs of the second look, are to come at most."""
    trials = plan.trials - sum(not point.is_dense and point.has_ended for point in points)
    if trials <= 0:
        return replication_runs_left(plan, points)
    most = (1 + MAX_REPLICATIONS) * len(replication_seeds(plan))
    return trials + max(0, most - sum(len(p.replication_snapshots) for p in points))


#: Runs of a trial, and what each must keep up with.
TrialWork = tuple[list[StudyRun], list[PruningReference | None]]


def _trial_work(
    plan: SweepPlan,
    points: Sequence[SweepPoint],
    number: int,
    budget: float,
    knobs: Mapping[str, KnobValue],
) -> TrialWork:
    done = next((set(p.snapshots) for p in points if p.trial_number == number), set())
    left = [c for c in trial_runs(plan, number, knobs, budget) if c.seed not in done]
    return left, [pruning_reference(plan, points, budget, cell.seed) for cell in left]


def _single_run_work(cell: StudyRun) -> TrialWork:
    return [cell], [None]


def _train_all(
    store: Store, sweep_id: str, work: Sequence[TrialWork], jobs: int, left: int
) -> Iterator[int]:
    """Train all of it; yields after each what is left of so many steps."""
    tasks = (delayed(_train_trial)(store.home, sweep_id, *each, os.getpid()) for each in work)
    trained = Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks)
    for place, _ in enumerate(trained, 1):
        if not StudyTable(store).is_cancelled(sweep_id):
            yield left - place


def _train_trial(
    home: Path,
    sweep_id: str,
    cells: Sequence[StudyRun],
    references: Sequence[PruningReference | None],
    owner_pid: int,
) -> None:
    """Train one seed after another; what is hopeless or broken on one is left."""
    for cell, rival in zip(cells, references, strict=True):
        hopeless = rival.should_prune if rival is not None else None
        if train_study_run(home, sweep_id, cell, owner_pid, hopeless) is not RunStatus.FINISHED:
            return


TrialSuggestion = tuple[int, float, Mapping[str, KnobValue]]


def suggest_trials(
    plan: SweepPlan, points: Sequence[SweepPoint], count: int
) -> list[TrialSuggestion]:
    """Return what to try next, as number, budget and knobs; nothing once all was tried.

    Trials that were cut short come first, then the policy's own defaults, then what Optuna
    makes of those that are known.

    Args:
        plan: What is searched.
        points: What was tried.
        count: Most suggestions.
    """
    trials = [point for point in points if not point.is_dense]
    short = [(p.trial_number, p.budget, p.knobs) for p in trials if not p.has_ended]
    if short:
        return short[:count]
    following = max((p.trial_number for p in trials), default=-1) + 1
    left = max(0, min(count, plan.trials - len(trials)))
    study, distributions = optuna_study(plan, points, following)
    found: list[TrialSuggestion] = []
    for number in range(following, following + left):
        if number < len(INITIAL_BUDGETS):
            found.append((number, INITIAL_BUDGETS[number], default_knobs(plan)))
            continue
        asked = study.ask(distributions).params
        knobs = {n: _rounded_knob(v) for n, v in asked.items() if n != "budget"}
        found.append((number, float(_rounded_knob(asked["budget"])), knobs))
    return found


def _rounded_knob(value: KnobValue) -> KnobValue:
    """Return a value that a person can type."""
    return value if isinstance(value, int) else float(f"{value:.3g}")


def open_confirmation(
    store: Store, plan: SweepPlan, points: Sequence[SweepPoint], seeds: int
) -> tuple[StoredStudy, StudyPlan] | None:
    """Open the study that confirms the candidate; ``None`` where there is no candidate.

    Raises:
        ConfigError: The number of seeds is not allowed.
        StoreError: The store cannot be read or written.
    """
    best = find_candidate(
        plan, points, rejected_candidates(load_confirmations(store, plan, points))
    )
    return open_study(store, confirmation_plan(plan, best, seeds)) if best else None


def load_confirmations(
    store: Store, plan: SweepPlan, points: Sequence[SweepPoint]
) -> dict[str, Confirmation]:
    """Return what the studies of candidates found, in the order of their turns, by name.

    Raises:
        StoreError: The store cannot be read.
    """
    tried: dict[str, Confirmation] = {}
    while (
        best := find_candidate(plan, points, rejected_candidates(tried))
    ) is not None and best.name not in tried:
        told = _load_confirmation(store, plan, best)
        if told is None:
            break
        tried[best.name] = told
    return tried


def _load_confirmation(store: Store, plan: SweepPlan, best: SweepPoint) -> Confirmation | None:
    key = confirmation_plan(plan, best, 1).key
    study = next((each for each in StudyTable(store).list_studies() if each.key == key), None)
    if study is None:
        return None
    for part in _confirmation_stages(plan, plan_from_json(study.plan)):
        if missing_runs(store, study.study_id, part):
            return None  # a study that is judged before its end shows chance results
        completed = load_completed_runs(store, study.study_id, part)
        result = study_result(study.study_id, part, completed)
        for policy in result.policies:  # one, or none before two seeds count
            if policy.outcome is not Outcome.TOO_FEW_SEEDS:
                noninferior = policy.verdict.noninferior if policy.verdict else False
                sentence = policy_text(policy, result.metric)
                return Confirmation(study.study_id, policy.outcome, noninferior, sentence)
    return None


def _confirmation_stages(plan: SweepPlan, compared: StudyPlan) -> Iterator[StudyPlan]:
    """Yield what was planned of a study each time that seeds joined, fresh seeds alone.

    The first that decides anything is what confirms: seeds that joined when a verdict could be
    seen are no part of it, nor are those that chose the candidate. The margin is the sweep's,
    whatever it became in the study.
    """
    used = {*plan.seeds, *replication_seeds(plan)}
    for count in (*compared.extended, len(compared.seeds)):
        seeds = tuple(seed for seed in compared.seeds[:count] if seed not in used)
        if seeds:
            yield replace(compared, seeds=seeds, margin=plan.margin, margins=(), extended=())


def run_confirmation(
    store: Store, plan: SweepPlan, points: Sequence[SweepPoint], seeds: int, jobs: int
) -> Iterator[StudyProgress]:
    """Carry out the study that confirms the candidate, where there is one.

    Raises:
        ConfigError: The number of seeds is not allowed.
        StoreError: The store cannot be read or written, or a run could not be stored.
    """
    opened = open_confirmation(store, plan, points, seeds)
    if opened is not None:
        yield from run_study(store, opened[0].study_id, opened[1], jobs)
