"""Warm-up: imports and data loading done before the first timed run."""

from __future__ import annotations

import contextlib
import functools

from effcore.config import resolve
from effcore.records import RunConfig, StepBlock
from effcore.tasks.base import make_task
from effcore.training.trainer import train


def warm_up_once(config: RunConfig) -> None:
    """Warm up for a run's task, once per process.

    A task loads its libraries and data at first use (for some, scikit-learn), which takes a
    second or more. In a study that time would count towards the first full training, the
    reference of all savings.
    """
    _warm_up_cached(config.task, config.model, config.size, config.device, config.threads)


@functools.cache
def _warm_up_cached(task: str, model: str, size: str, device: str, threads: int) -> None:
    with contextlib.suppress(Exception):  # the run itself reports the same failure
        warm_up(task=task, model=model, size=size, device=device, threads=threads)


@functools.cache
def load_task_once(task: str) -> None:
    """Load a task's libraries and data, once per process; trains nothing.

    The app calls it so that the first run begins without this delay.
    """
    with contextlib.suppress(Exception):  # the run itself reports the same failure
        make_task(resolve({"task": task, "device": "cpu"}))


def warm_up(**settings: str | int) -> None:
    """Take one step of dense training; ``settings`` are those of :func:`effcore.config.resolve`."""
    for event in train(resolve({**settings, "selection": "dense", "epochs": 1})):
        if isinstance(event, StepBlock):
            break
