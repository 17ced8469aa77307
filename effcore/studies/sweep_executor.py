"""Execution of a sweep: the dense curve, the trials that Optuna suggests, and the replications.

A stored run is never trained again. The search keeps no state of its own: it is rebuilt from the
stored runs, so an interrupted sweep continues where it stopped.
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
    candidates_rejected_on_test,
    confirmation_plan,
    optuna_study,
    sweep_result,
)
from effcore.studies.plan import StudyPlan, plan_from_json
from effcore.studies.sweep import (
    INITIAL_BUDGETS,
    SweepPlan,
    default_trial_knobs,
    dense_curve_runs,
    replication_seeds,
    sweep_from_json,
    sweep_to_json,
    trial_runs,
)
from effcore.studies.trials import PruningReference, SweepPoint, pruning_reference, sweep_points
from effcore.studies.verdict import Outcome


def open_sweep(store: Store, plan: SweepPlan) -> tuple[StoredStudy, SweepPlan]:
    """Return the stored sweep of a plan, or a new one, and its plan with the larger trial count.

    Raises:
        StoreError: The store cannot be read or written.
        ValueError: The stored plan is damaged.
    """

    def merged_plan(stored_plan: str | None) -> str:
        stored_trials = 0 if stored_plan is None else sweep_from_json(stored_plan).trials
        return sweep_to_json(replace(plan, trials=max(stored_trials, plan.trials)))

    study = StudyTable(store).create_or_replan_study(plan.key, merged_plan)
    return study, sweep_from_json(study.plan)


def load_sweep_points(store: Store, sweep_id: str, plan: SweepPlan) -> list[SweepPoint]:
    """Return the points of a sweep that have stored runs.

    Raises:
        StoreError: The store cannot be read.
    """
    runs: dict[str, dict[int, Snapshot]] = {}
    for (name, seed), run in StudyTable(store).ended_runs(sweep_id, include_stopped=True).items():
        runs.setdefault(name, {})[seed] = store.load_snapshot(run.run_id)
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
    """Train the missing runs; yields the progress before the first and after each step.

    A step is a trial, or a run of the dense curve or of a replication. The total is an upper limit,
    because the number of replications depends on their results. A cancelled sweep ends within a
    second; runs that were under way are discarded.

    Args:
        store: Where runs go.
        sweep_id: Id of the sweep.
        plan: Its plan.
        jobs: Runs at a time, each in a process of its own; one wherever energy is measured.

    Raises:
        StoreError: A run could not be stored.
    """
    jobs = parallel_jobs(
        str(plan.shared.get("device", "cpu")), jobs, max(plan.trials, len(replication_seeds(plan)))
    )
    with study_lock(store, sweep_id):
        started = time.monotonic()
        done_before = _completed_steps(load_sweep_points(store, sweep_id, plan))
        for done, steps_left in enumerate(_run_stages(store, sweep_id, plan, jobs)):
            seconds_left = (time.monotonic() - started) / done * steps_left if done else None
            total = done_before + done + steps_left
            yield StudyProgress(done_before + done, total, seconds_left)
        if not StudyTable(store).is_cancelled(sweep_id):
            yield StudyProgress(done_before + done, done_before + done, 0.0)


def _completed_steps(points: Sequence[SweepPoint]) -> int:
    dense_runs = sum(len(point.snapshots) for point in points if point.is_dense)
    replication_runs = sum(len(point.replication_snapshots) for point in points)
    ended_trials = sum(not point.is_dense and point.has_ended for point in points)
    return dense_runs + replication_runs + ended_trials


def _run_stages(store: Store, sweep_id: str, plan: SweepPlan, jobs: int) -> Iterator[int]:
    """Run the sweep; yields the largest number of steps left, before the first and after each."""
    ended = StudyTable(store).ended_runs(sweep_id, include_stopped=True)
    missing_dense = [run for run in dense_curve_runs(plan) if (run.variant, run.seed) not in ended]
    points = load_sweep_points(store, sweep_id, plan)
    steps_left = len(missing_dense) + _max_steps_left(plan, points)
    yield steps_left
    yield from _train_all(store, sweep_id, _unpruned_work(missing_dense), jobs, steps_left)
    while not StudyTable(store).is_cancelled(sweep_id):
        points = load_sweep_points(store, sweep_id, plan)
        work = [
            _trial_work(plan, points, *suggestion)
            for suggestion in suggest_trials(plan, points, jobs)
        ]
        if not work:
            break
        yield from _train_all(store, sweep_id, work, jobs, _max_steps_left(plan, points))
    while not StudyTable(store).is_cancelled(sweep_id):
        points = load_sweep_points(store, sweep_id, plan)
        rejected = candidates_rejected_on_test(load_confirmations(store, plan, points))
        work = _unpruned_work(missing_replication_runs(plan, points, rejected))
        if not work:
            return
        steps_left = replication_runs_left(plan, points, rejected)
        yield from _train_all(store, sweep_id, work, jobs, steps_left)


def _max_steps_left(plan: SweepPlan, points: Sequence[SweepPoint]) -> int:
    """Return the largest number of trials and replication runs that may be left."""
    trials = plan.trials - sum(not point.is_dense and point.has_ended for point in points)
    if trials <= 0:
        return replication_runs_left(plan, points)
    max_runs = (1 + MAX_REPLICATIONS) * len(replication_seeds(plan))
    return trials + max(0, max_runs - sum(len(p.replication_snapshots) for p in points))


#: Runs of one step, and the reference by which each may be pruned.
TrialWork = tuple[list[StudyRun], list[PruningReference | None]]


def _trial_work(
    plan: SweepPlan,
    points: Sequence[SweepPoint],
    number: int,
    budget: float,
    knobs: Mapping[str, KnobValue],
) -> TrialWork:
    done = next((set(p.snapshots) for p in points if p.trial_number == number), set())
    missing = [run for run in trial_runs(plan, number, knobs, budget) if run.seed not in done]
    return missing, [pruning_reference(plan, points, budget, run.seed) for run in missing]


def _unpruned_work(runs: Sequence[StudyRun]) -> list[TrialWork]:
    """Return a step for each run, which is trained to its end."""
    return [([run], [None]) for run in runs]


def _train_all(
    store: Store, sweep_id: str, work: Sequence[TrialWork], jobs: int, steps_left: int
) -> Iterator[int]:
    """Train all steps; yields the number of steps left after each."""
    tasks = (delayed(_train_trial)(store.home, sweep_id, *step, os.getpid()) for step in work)
    trained = Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks)
    for done, _ in enumerate(trained, 1):
        if not StudyTable(store).is_cancelled(sweep_id):
            yield steps_left - done


def _train_trial(
    home: Path,
    sweep_id: str,
    runs: Sequence[StudyRun],
    references: Sequence[PruningReference | None],
    owner_pid: int,
) -> None:
    """Train one seed after another; stop where one is pruned or breaks down."""
    for run, reference in zip(runs, references, strict=True):
        should_prune = reference.should_prune if reference is not None else None
        if train_study_run(home, sweep_id, run, owner_pid, should_prune) is not RunStatus.FINISHED:
            return


TrialSuggestion = tuple[int, float, Mapping[str, KnobValue]]


def suggest_trials(
    plan: SweepPlan, points: Sequence[SweepPoint], count: int
) -> list[TrialSuggestion]:
    """Return the next trials as number, budget and knobs; none once the plan's number is reached.

    Interrupted trials come first, then trials with the policy's default knobs, then those that
    Optuna suggests from the earlier ones.

    Args:
        plan: The sweep's plan.
        points: Its points with their runs.
        count: Largest number of suggestions.
    """
    trials = [point for point in points if not point.is_dense]
    interrupted = [(p.trial_number, p.budget, p.knobs) for p in trials if not p.has_ended]
    if interrupted:
        return interrupted[:count]
    first = max((p.trial_number for p in trials), default=-1) + 1
    new_trials = max(0, min(count, plan.trials - len(trials)))
    study, distributions = optuna_study(plan, points, seed=first)
    suggestions: list[TrialSuggestion] = []
    for number in range(first, first + new_trials):
        if number < len(INITIAL_BUDGETS):
            suggestions.append((number, INITIAL_BUDGETS[number], default_trial_knobs(plan)))
            continue
        params = study.ask(distributions).params
        knobs = {name: _rounded_knob(v) for name, v in params.items() if name != "budget"}
        suggestions.append((number, float(_rounded_knob(params["budget"])), knobs))
    return suggestions


def _rounded_knob(value: KnobValue) -> KnobValue:
    """Round a float to three significant digits, so that a person can type it."""
    return value if isinstance(value, int) else float(f"{value:.3g}")


def open_confirmation(
    store: Store, plan: SweepPlan, points: Sequence[SweepPoint], seeds: int
) -> tuple[StoredStudy, StudyPlan] | None:
    """Open the study that confirms the candidate; ``None`` where there is no candidate.

    Raises:
        ConfigError: The number of seeds is not allowed.
        StoreError: The store cannot be read or written.
    """
    rejected = candidates_rejected_on_test(load_confirmations(store, plan, points))
    candidate = find_candidate(plan, points, rejected)
    return open_study(store, confirmation_plan(plan, candidate, seeds)) if candidate else None


def load_confirmations(
    store: Store, plan: SweepPlan, points: Sequence[SweepPoint]
) -> dict[str, Confirmation]:
    """Return the results of the candidates' studies by the trial's name, oldest first.

    Raises:
        StoreError: The store cannot be read.
    """
    confirmations: dict[str, Confirmation] = {}
    while True:
        candidate = find_candidate(plan, points, candidates_rejected_on_test(confirmations))
        if candidate is None or candidate.name in confirmations:
            return confirmations
        confirmation = _load_confirmation(store, plan, candidate)
        if confirmation is None:
            return confirmations
        confirmations[candidate.name] = confirmation


def _load_confirmation(store: Store, plan: SweepPlan, candidate: SweepPoint) -> Confirmation | None:
    key = confirmation_plan(plan, candidate, 1).key
    study = next((stored for stored in StudyTable(store).list_studies() if stored.key == key), None)
    if study is None:
        return None
    for stage in _confirmation_stages(plan, plan_from_json(study.plan)):
        if missing_runs(store, study.study_id, stage):
            return None  # judging an incomplete study makes chance results likely
        completed = load_completed_runs(store, study.study_id, stage)
        result = study_result(study.study_id, stage, completed)
        for policy in result.policies:  # one policy, or none before two seeds count
            if policy.outcome is not Outcome.TOO_FEW_SEEDS:
                noninferior = policy.verdict.noninferior if policy.verdict else False
                sentence = policy_text(policy, result.metric)
                return Confirmation(study.study_id, policy.outcome, noninferior, sentence)
    return None


def _confirmation_stages(plan: SweepPlan, study_plan: StudyPlan) -> Iterator[StudyPlan]:
    """Yield the plan of a study before each time that seeds were added, and at last in full.

    The first stage with a verdict confirms or rejects the candidate. Seeds that were added when
    that verdict could be seen do not count, nor do seeds by which the candidate was chosen. The
    margin is the sweep's, even if it was changed in the study.
    """
    used = {*plan.seeds, *replication_seeds(plan)}
    for count in (*study_plan.extended, len(study_plan.seeds)):
        seeds = tuple(seed for seed in study_plan.seeds[:count] if seed not in used)
        if seeds:
            yield replace(study_plan, seeds=seeds, margin=plan.margin, margins=(), extended=())


def run_confirmation(
    store: Store, plan: SweepPlan, points: Sequence[SweepPoint], seeds: int, jobs: int
) -> Iterator[StudyProgress]:
    """Run the study that confirms the candidate, where there is one.

    Raises:
        ConfigError: The number of seeds is not allowed.
        StoreError: The store cannot be read or written, or a run could not be stored.
    """
    opened = open_confirmation(store, plan, points, seeds)
    if opened is not None:
        yield from run_study(store, opened[0].study_id, opened[1], jobs)
