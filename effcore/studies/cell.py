"""One run of a study, trained and stored, mostly in a process of its own."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock, Timeout

from effcore.config import fingerprint
from effcore.energy.meter import RunMeter
from effcore.events import Quality, RunConfig, RunStatus, Snapshot
from effcore.runs.runner import Run
from effcore.store import Store, StoreError, new_run_id
from effcore.store.studies import Studies, busy
from effcore.warmup import warm_up_once

#: How often a run under way asks whether its study was cancelled, s.
_LOOK_S = 0.5
#: How long a study waits for its lock, which somebody may hold who only asks, s.
_ALONE_S = 0.05
#: Qualities of joules that are the run's own, so that no other may train beside it.
MEASURED = (Quality.MEASURED, Quality.MODELLED, Quality.SUSPECT)


#: Faults of the machine, which say nothing of what was trained.
_MACHINE = (OSError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError)


class Cell(NamedTuple):
    """One run of a study."""

    arm: str
    seed: int
    config: RunConfig


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


def train_cell(
    home: Path,
    study_id: str,
    cell: Cell,
    owner: int,
    hopeless: Callable[[Snapshot], bool] | None = None,
) -> RunStatus | None:
    """Train one cell and store it, unless the study is cancelled or its process is gone.

    Args:
        home: Where the store is.
        study_id: The study that it is a cell of.
        cell: What to train.
        owner: The process that carries the study out.
        hopeless: Asked of the run on its way; it is stopped, and kept as such, where true.

    Returns:
        What became of the run; ``None`` where it is no part of the study.

    Raises:
        StoreError: The run cannot be stored, or the machine failed it.
    """
    store = Store(home)
    studies = Studies(store)

    def left_alone() -> bool:
        return owner not in (os.getpid(), os.getppid()) or studies.cancelled(study_id)

    try:
        if left_alone():
            return None
        warm_up_once(cell.config)
        run_id = new_run_id()
        create = functools.partial(
            store.create, cell.config, run_id=run_id, fingerprint=fingerprint(cell.config)
        )
        run = Run(run_id, cell.config, create)
        gave_up = _wait(run, left_alone, hopeless)
        if isinstance(run.fault, _MACHINE):
            raise StoreError(
                f"run {run_id} was failed by the machine ({type(run.fault).__name__}), which says "
                f"nothing of {cell.arm}: make room and go on with the study"
            )
        status = run.snapshot().status
        kept = (RunStatus.FINISHED, RunStatus.FAILED, *([RunStatus.STOPPED] if gave_up else ()))
        if status not in kept:
            return None
        studies.note(study_id, cell.arm, cell.seed, run_id)
        return status
    finally:
        store.close()


def _wait(
    run: Run, left_alone: Callable[[], bool], hopeless: Callable[[Snapshot], bool] | None
) -> bool:
    """Train to the end, or until nobody wants it; returns whether it was given up as hopeless."""
    gave_up = False
    run.start()
    try:
        while not run.join(_LOOK_S):
            if left_alone():
                run.stop()
            elif not gave_up and hopeless is not None and hopeless(run.snapshot()):
                gave_up = True
                run.stop()
    finally:  # a person's interrupt ends the run, too
        run.stop()
        run.join()
    return gave_up


def jobs_for(device: str, jobs: int, left: int) -> int:
    """Return how many runs go at a time: one wherever joules are measured."""
    if measured(device):
        return 1
    return max(1, min(jobs, left, os.cpu_count() or 1))


def measured(device: str) -> bool:
    """Return whether joules are measured there, so that one run at a time is all that goes."""
    meter = RunMeter.open(device, time.monotonic)
    meter.start()
    return meter.stop().quality in MEASURED


@contextmanager
def alone(store: Store, study_id: str) -> Iterator[None]:
    """Keep other processes from the same study; the lock is free once this one is gone.

    Raises:
        StoreError: Another process has it.
    """
    folder = store.home / "studies"
    folder.mkdir(exist_ok=True)
    try:
        with FileLock(folder / f"{study_id}.lock", timeout=_ALONE_S, thread_local=False):
            yield
    except Timeout:
        raise busy(study_id) from None
