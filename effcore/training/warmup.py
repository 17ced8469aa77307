"""Work done once, so that the first run begins at once and is not timed loading."""

from __future__ import annotations

import contextlib
import functools

from effcore.config import resolve
from effcore.records import RunConfig, StepBlock
from effcore.tasks.base import make_task
from effcore.training.trainer import train


def warm_up_once(config: RunConfig) -> None:
    """Warm up for a run's task where this process has not done so.

    What a task needs is loaded with it, scikit-learn for some, which takes a second or more: of a
    study that would be the first seed's full dense training each time, from which all else
    is then said to have saved.
    """
    _warm_up_cached(config.task, config.model, config.size, config.device, config.threads)


@functools.cache
def _warm_up_cached(task: str, model: str, size: str, device: str, threads: int) -> None:
    with contextlib.suppress(Exception):  # what fails here fails in the run, which then says so
        warm_up(task=task, model=model, size=size, device=device, threads=threads)


@functools.cache
def load_task_once(task: str) -> None:
    """Load what a task needs where this process has not done so; trains nothing.

    For the app, where the first run is to begin at once, but not to be timed loading.
    """
    with contextlib.suppress(Exception):  # as above
        make_task(resolve({"task": task, "device": "cpu"}))


def warm_up(**settings: str | int) -> None:
    """Take one dense step, of the default task where none is given."""
    for event in train(resolve({**settings, "selection": "dense", "epochs": 1})):
        if isinstance(event, StepBlock):
            break
