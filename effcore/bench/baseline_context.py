"""What every published method trains with, and when it does what.

Shared with our runs are the task, how its batches are gathered, model, optimizer, the learning
rate's course and the seed; see :mod:`effcore.bench.published_methods` for the methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from effcore.records import RunConfig
from effcore.tasks.base import make_model, make_task
from effcore.training.optimizer import learning_rate_factor, make_optimizer


def shuffled(indices: Sequence[int], rng: np.random.RandomState) -> list[int]:
    """Return the same, in another order."""
    return [indices[place] for place in rng.permutation(len(indices)).tolist()]


class BaselineContext:
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
        self.augment_generator = torch.Generator(device=self.device).manual_seed(config.seed)
        self.rng = np.random.RandomState(config.seed)
        self.n, self.batch_size = self.task.n_train, config.batch_size
        self.progress = 0.0  # in the middle of the loader's batch
        self.steps = self.examples_trained = 0

    def batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets of these examples."""
        return self.task.batch(torch.tensor(indices, device=self.device), self.augment_generator)

    def optimizer_step(self, loss: torch.Tensor, examples: int, lr_multiplier: float = 1.0) -> None:
        """Take a step; the rate follows progress, times ``lr_multiplier``."""
        lr_multiplier *= learning_rate_factor(self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * lr_multiplier
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.steps += 1
        self.examples_trained += examples


class PublishedMethod(ABC):
    """A published method of selecting; :meth:`train` trains, the rest is what it does when.

    Args:
        context: What it trains with.
    """

    def __init__(self, context: BaselineContext) -> None:
        self.context = context
        self.epoch = self.batch_index = 0  # of the loader's batch; the place is within its epoch
        self.elapsed_share = 0.0  # the share of the run before it

    def train(self) -> Iterator[float]:
        """Train for all epochs; yields the progress after each of the loader's batches."""
        rig, epochs = self.context, self.context.config.epochs
        for self.epoch in range(epochs):
            order = self.epoch_order()
            share = 1.0 / len(order) / epochs
            for self.batch_index, start in enumerate(range(0, len(order), rig.batch_size)):
                batch = order[start : start + rig.batch_size]
                self.elapsed_share = self.epoch / epochs + start * share
                rig.progress = self.elapsed_share + len(batch) / 2 * share
                self.process_batch(batch)
                yield self.elapsed_share + len(batch) * share
            self.on_epoch_end()

    def epoch_order(self) -> list[int]:
        """Return whom the epoch visits, shuffled."""
        return shuffled(range(self.context.n), self.context.rng)

    @abstractmethod
    def process_batch(self, indices: Sequence[int]) -> None:
        """Do what is done with one of the loader's batches."""

    def on_epoch_end(self) -> None:
        """Do what is done when an epoch ends; by default nothing."""
        return None
