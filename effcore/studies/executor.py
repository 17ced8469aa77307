"""Training of a study's runs: each is trained and stored, usually in a process of its own."""

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

#: Interval at which an active run checks whether its study was cancelled, s.
_CANCEL_CHECK_S = 0.5
#: How long a study waits for its lock, which a mere check also holds for a moment, s.
_LOCK_TIMEOUT_S = 0.05
#: Qualities of metered joules. A meter cannot tell runs apart, so only one may train at a time.
METERED_QUALITIES = (EnergyQuality.MEASURED, EnergyQuality.MODELLED, EnergyQuality.SUSPECT)
#: Faults of the machine, which do not count against the variant that was trained.
_MACHINE_FAULTS = (OSError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError)
#: A run is given up after so many times the steps of full training. Where a step costs almost
#: nothing, a budget of FLOPs would last for hours.
MAX_STEPS_OVER_DENSE = 10


class StudyRun(NamedTuple):
    """One run of a study."""

    variant: str
    seed: int
    config: RunConfig


class StudyProgress(NamedTuple):
    """Progress of a study or a sweep.

    Attributes:
        done: Runs that are stored; a trial of a sweep counts as one.
        total: Runs that there will be; an upper limit for a sweep.
        seconds_left: Estimated remaining time; ``None`` before the first run has ended.
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
    """Train a run and store it, unless its study is cancelled or the study's process has ended.

    Args:
        home: Folder of the store.
        study_id: Id of the study.
        study_run: The run.
        owner_pid: Id of the process that runs the study.
        should_prune: Called with the run's snapshot while it trains. The run is stopped, and stored
            as stopped, once this returns true, or once it has taken far more steps than full
            training.

    Returns:
        The final status of the run; ``None`` where it does not count for the study.

    Raises:
        StoreError: The run cannot be stored, or it failed because of the machine.
        UncountedOperationError: It ran an operation whose FLOPs cannot be counted. This is a fault
            of the code, so nothing of the run is kept.
    """
    store = Store(home)
    studies = StudyTable(store)

    def is_abandoned() -> bool:
        return owner_pid not in (os.getpid(), os.getppid()) or studies.is_cancelled(study_id)

    try:
        if is_abandoned():
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
        was_stopped_early = _train_until_ended(run, is_abandoned, should_prune)
        if isinstance(run.unexpected_error, UncountedOperationError):
            store.delete_run(run_id)
            raise run.unexpected_error
        if isinstance(run.unexpected_error, _MACHINE_FAULTS):
            raise StoreError(
                f"run {run_id} failed because of the machine "
                f"({type(run.unexpected_error).__name__}), not because of {study_run.variant}: "
                "free memory or disk space and continue the study"
            )
        status = run.snapshot().status
        counted = {RunStatus.FINISHED, RunStatus.FAILED}
        if was_stopped_early:  # else a stopped run was abandoned
            counted.add(RunStatus.STOPPED)
        if status not in counted:
            return None
        record_origin(store, run_id, run_origin(study_run.config))
        studies.record_run(study_id, study_run.variant, study_run.seed, run_id)
        return status
    finally:
        store.close()


def _train_until_ended(
    run: Run, is_abandoned: Callable[[], bool], should_prune: Callable[[Snapshot], bool] | None
) -> bool:
    """Train a run until it ends or its study is abandoned; return whether it was stopped early.

    A run is stopped early if it is pruned or takes too many steps.
    """
    was_stopped_early = False
    run.start()
    try:
        while not run.join(_CANCEL_CHECK_S):
            if is_abandoned():
                run.stop()
            elif not was_stopped_early:
                snapshot = run.snapshot()
                if takes_too_many_steps(snapshot) or (
                    should_prune is not None and should_prune(snapshot)
                ):
                    was_stopped_early = True
                    run.stop()
    finally:  # a keyboard interrupt ends the run, too
        run.stop()
        run.join()
    return was_stopped_early


def takes_too_many_steps(snapshot: Snapshot) -> bool:
    """Return whether a run took many times the steps of full training."""
    if snapshot.start is None or not snapshot.steps.shape[1]:
        return False
    full_steps = snapshot.config.epochs * snapshot.start.n_train / snapshot.config.batch_size
    steps = float(snapshot.steps[STEP_COLUMNS.index("step"), -1])
    return steps > MAX_STEPS_OVER_DENSE * full_steps


def given_up_reason() -> str:
    """Return why a run that took too many steps has no result."""
    return f"given up after {MAX_STEPS_OVER_DENSE} times the steps of full training"


def train_runs(
    store: Store, study_id: str, runs: Sequence[StudyRun], jobs: int, code: str | None = None
) -> Iterator[StudyRun]:
    """Train runs, several at a time, and yield each once it has ended.

    A cancelled study ends within a second; runs that were under way are discarded.

    Args:
        store: Where runs go.
        study_id: Id of their study.
        runs: The runs, in the order in which they start.
        jobs: Runs at a time, each in a process of its own; one wherever energy is measured.
        code: The version of the code that must train them; any by default.

    Raises:
        StoreError: A run could not be stored.
        RuntimeError: The code was changed meanwhile.
    """
    if not runs:
        return
    work = (
        delayed(_train_numbered)(index, store.home, study_id, run, os.getpid(), code)
        for index, run in enumerate(runs)
    )
    jobs = parallel_jobs(runs[0].config.device, jobs, len(runs))
    for index in Parallel(n_jobs=jobs, return_as="generator_unordered")(work):
        if StudyTable(store).is_cancelled(study_id):
            continue  # the other runs return at once
        yield runs[index]


def _train_numbered(
    index: int, home: Path, study_id: str, run: StudyRun, owner_pid: int, code: str | None
) -> int:
    """Train a run and return its index, because parallel runs end in any order."""
    if code is not None:
        require_code_version(code)
    train_study_run(home, study_id, run, owner_pid)
    return index


def require_code_version(code: str) -> None:
    """Refuse to train with another version of the code, as after files changed during a study.

    Raises:
        RuntimeError: The files are of another version, so a run would be stored under the wrong
            one.
    """
    if code_version() != code:
        raise RuntimeError(
            "Effcore's files were changed while this measurement ran: start it again; finished "
            "runs are kept as results of the earlier version"
        )


def parallel_jobs(device: str, jobs: int, runs_left: int) -> int:
    """Return how many runs train at the same time: one wherever joules are measured."""
    if measures_joules(device):
        return 1
    return max(1, min(jobs, runs_left, os.cpu_count() or 1))


def measures_joules(device: str) -> bool:
    """Return whether a device's joules are measured, so that only one run at a time may train."""
    meter = RunMeter.open(device, time.monotonic)
    meter.start()
    return meter.stop().quality in METERED_QUALITIES


@contextmanager
def study_lock(store: Store, study_id: str) -> Iterator[None]:
    """Lock a study against other processes; the end of this process releases the lock.

    Raises:
        StoreError: Another process holds the lock.
    """
    folder = store.home / "studies"
    folder.mkdir(exist_ok=True)
    try:
        with FileLock(folder / f"{study_id}.lock", timeout=_LOCK_TIMEOUT_S, thread_local=False):
            yield
    except Timeout:
        raise study_in_use_error(study_id) from None
