"""One run of a study, trained and stored, mostly in a process of its own."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock, Timeout
from joblib import Parallel, delayed

from effcore.config import model_data_fingerprint
from effcore.energy.meter import RunMeter
from effcore.records import STEP_COLUMNS, EnergyQuality, RunConfig, RunStatus, Snapshot
from effcore.runs.run import Run
from effcore.store import Store, StoreError, new_run_id
from effcore.store.study_table import StudyTable, study_in_use_error
from effcore.studies.run_origin import code_version, record_origin, run_origin
from effcore.training.ledger import UncountedOperationError
from effcore.training.warmup import warm_up_once

#: How often a run under way asks whether its study was cancelled, s.
_CANCEL_CHECK_S = 0.5
#: How long a study waits for its lock, which somebody may hold who only asks, s.
_LOCK_TIMEOUT_S = 0.05
#: Qualities of joules that are the run's own, so that no other may train beside it.
METERED_QUALITIES = (EnergyQuality.MEASURED, EnergyQuality.MODELLED, EnergyQuality.SUSPECT)


#: Faults of the machine, which say nothing of what was trained.
_MACHINE_FAULTS = (OSError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError)
#: A run that takes more than so many times the steps of dense training is given up: where a step
#: costs next to nothing, a budget of FLOPs lasts for hours.
MAX_STEPS_OVER_DENSE = 10


class StudyRun(NamedTuple):
    """One run of a study."""

    variant: str
    seed: int
    config: RunConfig


class StudyProgress(NamedTuple):
    """How far a study has got.

    Attributes:
        done: Cells that are stored.
        total: Cells there are to be.
        seconds_left: About how long the rest takes; ``None`` before the first cell.
    """

    done: int
    total: int
    seconds_left: float | None


def train_study_run(
    home: Path,
    study_id: str,
    study_run: StudyRun,
    owner_pid: int,
    should_prune: Callable[[Snapshot], bool] | None = None,
) -> RunStatus | None:
    """Train one cell and store it, unless the study is cancelled or its process is gone.

    Args:
        home: Where the store is.
        study_id: The study that it is a cell of.
        study_run: What to train.
        owner_pid: The process that carries the study out.
        should_prune: Asked of the run on its way; it is stopped, and kept as such, where true. A
            run that takes far more steps than dense training is stopped likewise.

    Returns:
        What became of the run; ``None`` where it is no part of the study.

    Raises:
        StoreError: The run cannot be stored, or the machine failed it.
        UncountedOperationError: It runs an operation that nobody accounts for, which is a fault
            of the code: nothing of the run is kept.
    """
    store = Store(home)
    studies = StudyTable(store)

    def left_alone() -> bool:
        return owner_pid not in (os.getpid(), os.getppid()) or studies.is_cancelled(study_id)

    try:
        if left_alone():
            return None
        warm_up_once(study_run.config)
        run_id = new_run_id()
        create = functools.partial(
            store.create_run,
            study_run.config,
            run_id=run_id,
            fingerprint=model_data_fingerprint(study_run.config),
        )
        run = Run(run_id, study_run.config, create)
        gave_up = _train_until_ended(run, left_alone, should_prune)
        if isinstance(run.unexpected_error, UncountedOperationError):
            store.delete_run(run_id)
            raise run.unexpected_error
        if isinstance(run.unexpected_error, _MACHINE_FAULTS):
            raise StoreError(
                f"run {run_id} was failed by the machine ({type(run.unexpected_error).__name__}), "
                "which says "
                f"nothing of {study_run.variant}: make room and go on with the study"
            )
        status = run.snapshot().status
        kept = (RunStatus.FINISHED, RunStatus.FAILED, *([RunStatus.STOPPED] if gave_up else ()))
        if status not in kept:
            return None
        record_origin(store, run_id, run_origin(study_run.config))
        studies.record_run(study_id, study_run.variant, study_run.seed, run_id)
        return status
    finally:
        store.close()


def _train_until_ended(
    run: Run, is_abandoned: Callable[[], bool], should_prune: Callable[[Snapshot], bool] | None
) -> bool:
    """Train to the end, or until nobody wants it; returns whether it was given up as hopeless."""
    gave_up = False
    run.start()
    try:
        while not run.join(_CANCEL_CHECK_S):
            if is_abandoned():
                run.stop()
            elif not gave_up:
                look = run.snapshot()
                if takes_too_many_steps(look) or (should_prune is not None and should_prune(look)):
                    gave_up = True
                    run.stop()
    finally:  # a person's interrupt ends the run, too
        run.stop()
        run.join()
    return gave_up


def takes_too_many_steps(snapshot: Snapshot) -> bool:
    """Return whether a run took many times the steps that dense training takes."""
    if snapshot.start is None or not snapshot.steps.shape[1]:
        return False
    dense = snapshot.config.epochs * snapshot.start.n_train / snapshot.config.batch_size
    steps = float(snapshot.steps[STEP_COLUMNS.index("step"), -1])
    return steps > MAX_STEPS_OVER_DENSE * dense


def given_up_reason() -> str:
    """Return why a run that took too many steps has no result."""
    return f"given up after {MAX_STEPS_OVER_DENSE} times the steps of the dense run"


def train_runs(
    store: Store, study_id: str, runs: Sequence[StudyRun], jobs: int, code: str | None = None
) -> Iterator[StudyRun]:
    """Train runs, several at a time, and yield each once it has ended.

    A study that is cancelled ends within a second; what was under way is not part of it.

    Args:
        store: Where runs go.
        study_id: The study that they are part of.
        runs: What to train, in this order where it is one at a time.
        jobs: Runs at a time, each in a process of its own; one wherever energy is measured.
        code: The version of the code that they are to be trained by; any where not given.

    Raises:
        StoreError: A run could not be stored.
        RuntimeError: The code was changed meanwhile.
    """
    if not runs:
        return
    work = (
        delayed(_train_numbered)(place, store.home, study_id, run, os.getpid(), code)
        for place, run in enumerate(runs)
    )
    jobs = parallel_jobs(runs[0].config.device, jobs, len(runs))
    for place in Parallel(n_jobs=jobs, return_as="generator_unordered")(work):
        if StudyTable(store).is_cancelled(study_id):
            continue  # the rest comes back at once
        yield runs[place]


def _train_numbered(
    place: int, home: Path, study_id: str, run: StudyRun, owner_pid: int, code: str | None
) -> int:
    if code is not None:
        require_code_version(code)
    train_study_run(home, study_id, run, owner_pid)
    return place


def require_code_version(code: str) -> None:
    """Refuse to train by another version of the code; a process may begin after files changed.

    Raises:
        RuntimeError: The files are of another version: what came of it would be kept under this.
    """
    if code_version() != code:
        raise RuntimeError(
            "Effcore's files were changed while this measurement ran: start it again; what was "
            "done before is kept, and holds for the version before"
        )


def parallel_jobs(device: str, jobs: int, runs_left: int) -> int:
    """Return how many runs go at a time: one wherever joules are measured."""
    if measures_joules(device):
        return 1
    return max(1, min(jobs, runs_left, os.cpu_count() or 1))


def measures_joules(device: str) -> bool:
    """Return whether joules are measured there, so that one run at a time is all that goes."""
    meter = RunMeter.open(device, time.monotonic)
    meter.start()
    return meter.stop().quality in METERED_QUALITIES


@contextmanager
def study_lock(store: Store, study_id: str) -> Iterator[None]:
    """Keep other processes from the same study; the lock is free once this one is gone.

    Raises:
        StoreError: Another process has it.
    """
    folder = store.home / "studies"
    folder.mkdir(exist_ok=True)
    try:
        with FileLock(folder / f"{study_id}.lock", timeout=_LOCK_TIMEOUT_S, thread_local=False):
            yield
    except Timeout:
        raise study_in_use_error(study_id) from None
