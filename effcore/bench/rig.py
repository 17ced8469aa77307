"""What every published method trains with, and when it does what.

Shared with our runs are the task, how its batches are gathered, model, optimizer, the learning
rate's course and the seed; see :mod:`effcore.bench.peers` for the methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from effcore.events import RunConfig
from effcore.tasks.base import make_model, make_task
from effcore.training.optim import learning_rate_factor, make_optimizer


def shuffled(indices: Sequence[int], random: np.random.RandomState) -> list[int]:
    """Return the same, in another order."""
    return [indices[place] for place in random.permutation(len(indices)).tolist()]


class Rig:
    """What every published method trains with, and how much of it was done.

    Args:
        config: Its policies do not count.
    """

    def __init__(self, config: RunConfig) -> None:
        torch.set_num_threads(config.threads)
        self.config, self.device = config, torch.device(config.device)
        self.task = make_task(config)
        self.model = make_model(self.task, config)
        self.optimizer = make_optimizer(config, self.model)
        self.augment = torch.Generator(device=self.device).manual_seed(config.seed)
        self.random = np.random.RandomState(config.seed)
        self.n, self.batch_size = self.task.n_train, config.batch_size
        self.progress = 0.0  # in the middle of the loader's batch
        self.steps = self.trained = 0

    def batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets of these examples."""
        return self.task.batch(torch.tensor(indices, device=self.device), self.augment)

    def descend(self, loss: torch.Tensor, examples: int, factor: float = 1.0) -> None:
        """Take a step; the rate follows progress, times ``factor``."""
        factor *= learning_rate_factor(self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.steps += 1
        self.trained += examples


class Published(ABC):
    """A published method of selecting; :meth:`train` trains, the rest is what it does when.

    Args:
        rig: What it trains with.
    """

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.epoch = self.place = 0  # of the loader's batch; the place is within its epoch
        self.elapsed = 0.0  # the share of the run before it

    def train(self) -> Iterator[float]:
        """Train for all epochs; yields the progress after each of the loader's batches."""
        rig, epochs = self.rig, self.rig.config.epochs
        for self.epoch in range(epochs):
            order = self.order()
            share = 1.0 / len(order) / epochs
            for self.place, start in enumerate(range(0, len(order), rig.batch_size)):
                batch = order[start : start + rig.batch_size]
                self.elapsed = self.epoch / epochs + start * share
                rig.progress = self.elapsed + len(batch) / 2 * share
                self.visit(batch)
                yield self.elapsed + len(batch) * share
            self.end_epoch()

    def order(self) -> list[int]:
        """Return whom the epoch visits, shuffled."""
        return shuffled(range(self.rig.n), self.rig.random)

    @abstractmethod
    def visit(self, indices: Sequence[int]) -> None:
        """Do what is done with one of the loader's batches."""

    def end_epoch(self) -> None:
        """Do what is done when an epoch ends; by default nothing."""
        return None
