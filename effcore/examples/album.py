"""What a run's examples are, looked up in the data that its task makes anew."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from effcore.events import KnobValue, RunConfig
from effcore.knobs import with_knobs
from effcore.tasks.base import TASKS, Task
from effcore.views import Portrait


class AlbumError(ValueError):
    """The data of a run cannot be made here, or is other data; the message says why."""


class Album:
    """The training examples of a run, by number.

    Args:
        task: The run's task with its data, on the CPU.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self.names = task.groups
        #: Whether the data is read from this machine, and may be another one's elsewhere.
        self.local = bool(task.provenance().hash)

    def portrait(self, number: int) -> Portrait:
        """Return what an example is."""
        return self._task.portrait(number)

    @property
    def is_table(self) -> bool:
        """Whether the examples are rows of a table."""
        return isinstance(self._task.portrait(0).item, Mapping)

    def spot(self, number: int) -> tuple[int, int] | None:
        """Return where an example lies in the picture that it is a part of, if in any."""
        return self._task.portrait(number).spot

    @functools.cached_property
    def group_N(self) -> NDArray[np.int64] | None:
        """The class of each example; ``None`` where there are none."""
        found = self._task.group_N
        return None if found is None else found.numpy()


def album_of(config: RunConfig, n: int) -> Album:
    """Return a run's examples.

    Args:
        config: What it trains.
        n: How many examples it trains on.

    Raises:
        AlbumError: Its data cannot be made here, or is other data.
    """
    data = tuple(sorted(config.data.items()))
    try:
        album, found = _album(config.task, config.seed, data)
    except (ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        raise AlbumError(
            f"the data of task {config.task!r} cannot be made here: {error}"
        ) from error
    if found != n:
        raise AlbumError(
            f"task {config.task!r} makes {found:,} examples here, and the run trained on {n:,}: "
            "its data has changed since"
        )
    return album


@functools.lru_cache(maxsize=2)
def _album(task: str, seed: int, data: tuple[tuple[str, KnobValue], ...]) -> tuple[Album, int]:
    cls = TASKS.get(task)
    made = cls(seed, torch.device("cpu"), with_knobs(cls.settings(), dict(data)))
    return Album(made), made.n_train
