"""Catalog of a run's training examples, from the data that its task builds again."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from effcore.knobs import with_knobs
from effcore.records import KnobValue, RunConfig
from effcore.records.views import ExampleDisplay
from effcore.tasks.base import TASKS, Task


class ExampleDataError(ValueError):
    """Raised if a run's data cannot be built here or has changed; the message says why."""


class ExampleCatalog:
    """The training examples of a run, by number.

    Args:
        task: The run's task with its data, on the CPU.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self.class_names = task.groups
        #: Whether the data are read from this machine, and may differ on another one.
        self.is_local_data = bool(task.provenance().hash)

    def portrait(self, number: int) -> ExampleDisplay:
        """Return an example for display."""
        return self._task.display_example(number)

    @property
    def is_tabular(self) -> bool:
        """Whether the examples are rows of a table."""
        return isinstance(self._task.display_example(0).item, Mapping)

    def picture_position(self, number: int) -> tuple[int, int] | None:
        """Return an example's row and column in its picture; ``None`` if it is no part of one."""
        return self._task.display_example(number).picture_position

    @functools.cached_property
    def group_N(self) -> NDArray[np.int64] | None:
        """The class of each example; ``None`` if the task has no classes."""
        group_N = self._task.group_N
        return None if group_N is None else group_N.numpy()


def load_catalog(config: RunConfig, n: int) -> ExampleCatalog:
    """Return the catalog of a run's examples.

    Args:
        config: The run's configuration.
        n: Number of examples that the run trains on.

    Raises:
        ExampleDataError: The data cannot be built here, or have another number of examples.
    """
    data = tuple(sorted(config.data.items()))
    try:
        catalog, found_n = _build_catalog(config.task, config.seed, data)
    except (ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        raise ExampleDataError(
            f"the data of task {config.task!r} cannot be built here: {error}"
        ) from error
    if found_n != n:
        raise ExampleDataError(
            f"task {config.task!r} has {found_n:,} examples here, but the run trained on {n:,}: "
            "the data have changed since then"
        )
    return catalog


@functools.lru_cache(maxsize=2)
def _build_catalog(
    task: str, seed: int, data: tuple[tuple[str, KnobValue], ...]
) -> tuple[ExampleCatalog, int]:
    task_class = TASKS.get(task)
    built_task = task_class(
        seed, torch.device("cpu"), with_knobs(task_class.settings(), dict(data))
    )
    return ExampleCatalog(built_task), built_task.n_train
