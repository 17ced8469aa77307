"""What a run's examples are, looked up in the data that its task makes anew."""

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
    """The data of a run cannot be made here, or is other data; the message says why."""


class ExampleCatalog:
    """The training examples of a run, by number.

    Args:
        task: The run's task with its data, on the CPU.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self.class_names = task.groups
        #: Whether the data is read from this machine, and may be another one's elsewhere.
        self.is_local_data = bool(task.provenance().hash)

    def portrait(self, number: int) -> ExampleDisplay:
        """Return what an example is."""
        return self._task.display_example(number)

    @property
    def is_tabular(self) -> bool:
        """Whether the examples are rows of a table."""
        return isinstance(self._task.display_example(0).item, Mapping)

    def picture_position(self, number: int) -> tuple[int, int] | None:
        """Return where an example lies in the picture that it is a part of, if in any."""
        return self._task.display_example(number).picture_position

    @functools.cached_property
    def group_N(self) -> NDArray[np.int64] | None:
        """The class of each example; ``None`` where there are none."""
        found = self._task.group_N
        return None if found is None else found.numpy()


def load_catalog(config: RunConfig, n: int) -> ExampleCatalog:
    """Return a run's examples.

    Args:
        config: What it trains.
        n: How many examples it trains on.

    Raises:
        AlbumError: Its data cannot be made here, or is other data.
    """
    data = tuple(sorted(config.data.items()))
    try:
        album, found = _build_catalog(config.task, config.seed, data)
    except (ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        raise ExampleDataError(
            f"the data of task {config.task!r} cannot be made here: {error}"
        ) from error
    if found != n:
        raise ExampleDataError(
            f"task {config.task!r} makes {found:,} examples here, and the run trained on {n:,}: "
            "its data has changed since"
        )
    return album


@functools.lru_cache(maxsize=2)
def _build_catalog(
    task: str, seed: int, data: tuple[tuple[str, KnobValue], ...]
) -> tuple[ExampleCatalog, int]:
    cls = TASKS.get(task)
    made = cls(seed, torch.device("cpu"), with_knobs(cls.settings(), dict(data)))
    return ExampleCatalog(made), made.n_train
