"""Published methods of selective training, which Effcore's policies are compared with.

Each class follows a published code in what it does and in what that costs: objects and loops
in Python per example, losses copied to the host at every step, choices by NumPy, a second
forward pass. Task, batches, model, optimizer, learning-rate schedule and seed are those of
Effcore's runs, so that only the method differs. What a code spends on other things than
selection (logging, a loader with one object per example, tests for several processes) is left
out, in its favour.

A published code also trains on the short batch that ends an epoch. NumPy's generator is private
here, so that other draws do not change it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from effcore.records import RunConfig
from effcore.tasks.base import make_model, make_task
from effcore.training.optimizer import learning_rate_factor, make_optimizer

Floats = NDArray[np.floating[Any]]


def shuffled(indices: Sequence[int], rng: np.random.RandomState) -> list[int]:
    """Return the indices in random order."""
    return [indices[place] for place in rng.permutation(len(indices)).tolist()]


class BaselineContext:
    """What a published method trains with, and how much it has trained.

    Args:
        config: Configuration; its policies are ignored.
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
        """Take a step with the scheduled learning rate times ``lr_multiplier``."""
        lr_multiplier *= learning_rate_factor(self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * lr_multiplier
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.steps += 1
        self.examples_trained += examples


class PublishedMethod(ABC):
    """A published method of selection; subclasses say what happens to each batch and epoch.

    Args:
        context: What it trains with.
    """

    def __init__(self, context: BaselineContext) -> None:
        self.context = context
        self.epoch = self.batch_index = 0  # the index is within the epoch
        self.elapsed_share = 0.0  # share of the run before the batch

    def train(self) -> Iterator[float]:
        """Train for all epochs; yields the progress after each of the loader's batches."""
        context, epochs = self.context, self.context.config.epochs
        for self.epoch in range(epochs):
            order = self.epoch_order()
            share = 1.0 / len(order) / epochs
            for self.batch_index, start in enumerate(range(0, len(order), context.batch_size)):
                batch = order[start : start + context.batch_size]
                self.elapsed_share = self.epoch / epochs + start * share
                context.progress = self.elapsed_share + len(batch) / 2 * share
                self.process_batch(batch)
                yield self.elapsed_share + len(batch) * share
            self.on_epoch_end()

    def epoch_order(self) -> list[int]:
        """Return the examples of the epoch, shuffled."""
        return shuffled(range(self.context.n), self.context.rng)

    @abstractmethod
    def process_batch(self, indices: Sequence[int]) -> None:
        """Process one of the loader's batches."""

    def on_epoch_end(self) -> None:
        """Finish an epoch; by default, do nothing."""
        return None


class PublishedInfoBatch(PublishedMethod):
    """InfoBatch (Qin et al. 2024) by its authors' code.

    Scores are on the host and begin at 3, so every step copies its losses there. Of the examples
    below the mean, exactly int(keep * count) are chosen without replacement and weigh 1 / keep;
    keep is 1 - r, but at least a tenth. The mean over the batch is not rescaled. NumPy is seeded
    with the number of the epoch alone, so the draws among equal scores are the same in every
    run. Epochs count from 1. All data is used once that count exceeds delta times the epochs.
    The weights of the last choice are reset only where that product is whole; otherwise they
    stay to the end.

    Args:
        prune_ratio: r.
        delta: Share of the epochs that prune.
    """

    def __init__(
        self, context: BaselineContext, prune_ratio: float = 0.5, delta: float = 0.875
    ) -> None:
        super().__init__(context)
        self.keep_fraction = min(1.0, max(0.1, 1.0 - prune_ratio))
        self.last_pruning_epoch = delta * context.config.epochs
        self.score_N = np.full(context.n, 3.0, dtype=np.float32)
        self.weight_N = np.ones(context.n, dtype=np.float32)

    def well_learned(self) -> NDArray[np.bool_]:
        """Return which examples have a score below the mean."""
        below: NDArray[np.bool_] = self.score_N < self.score_N.mean()
        return below

    def epoch_order(self) -> list[int]:
        """Return all hard examples and a part of the easy ones; near the end, all examples."""
        count = self.epoch + 1
        random = np.random.RandomState(count)
        if count <= self.last_pruning_epoch:
            return shuffled(self._pruned_order(random), random)
        if count == self.last_pruning_epoch + 1:
            self.weight_N[:] = 1.0
        return shuffled(range(self.context.n), random)

    def _pruned_order(self, random: np.random.RandomState) -> list[int]:
        easy, hard = np.flatnonzero(self.well_learned()), np.flatnonzero(~self.well_learned())
        kept = random.choice(easy, int(self.keep_fraction * len(easy)), replace=False)
        self.weight_N[:] = 1.0
        self.weight_N[kept] = 1.0 / self.keep_fraction
        indices: list[int] = [*hard.tolist(), *kept.tolist()]
        return indices

    def process_batch(self, indices: Sequence[int]) -> None:
        """Train on the whole batch, weighted, and copy the losses to the host."""
        context = self.context
        inputs, targets = context.batch(indices)
        losses_B = context.task.losses(context.model(inputs), targets)
        weight_B = torch.from_numpy(self.weight_N[indices]).to(context.device)
        self.score_N[indices] = losses_B.detach().cpu().numpy()
        context.optimizer_step((losses_B * weight_B).mean(), len(indices))


@dataclass
class ScoredExample:
    """An example of Selective-Backprop, on the host."""

    inputs: torch.Tensor
    target: torch.Tensor
    loss: float = 0.0
    chosen: bool = True


class PublishedSelectiveBackprop(PublishedMethod):
    """Selective-Backprop (Jiang et al. 2019) by its authors' code.

    Each example is a Python object whose tensors are copied to the host and stacked again. All
    are scored in evaluation mode, and each loss is read alone. A deque holds the last 1024
    losses. A Python loop ranks each new loss in it by counting the strictly lower ones, so that
    the lowest is never chosen. One uniform number per example decides. Chosen examples wait
    until a batch is full or the epoch ends, and are run forward again, unweighted. The first
    epoch scores all examples as well, but trains on all and keeps no losses.

    Args:
        prob_pow: beta, the power of the rank; about one example in beta + 1 is trained on.
    """

    def __init__(self, context: BaselineContext, prob_pow: float = 3.0) -> None:
        super().__init__(context)
        self.prob_pow = prob_pow
        self.loss_history: deque[float] = deque(maxlen=1024)
        self.pending: list[ScoredExample] = []

    def process_batch(self, indices: Sequence[int]) -> None:
        """Score all examples, and train once a batch of chosen ones is full."""
        context = self.context
        inputs, targets = context.batch(indices)
        examples = [ScoredExample(x.cpu(), y.cpu()) for x, y in zip(inputs, targets, strict=True)]
        self._score_examples(examples)
        if self.epoch:
            probabilities = self.selection_probabilities(examples)
            for example, probability in zip(examples, probabilities, strict=True):
                example.chosen = context.rng.uniform() < probability
        self.pending += [example for example in examples if example.chosen]
        if len(self.pending) >= context.batch_size:
            self._train_on(self.pending[: context.batch_size])
            self.pending = self.pending[context.batch_size :]

    def _score_examples(self, examples: Sequence[ScoredExample]) -> None:
        context = self.context
        inputs, targets = self._stack_batch(examples)
        context.model.eval()
        with torch.no_grad():
            losses_B = context.task.losses(context.model(inputs), targets)
        context.model.train()
        for example, loss in zip(examples, losses_B, strict=True):
            example.loss = loss.item()

    def selection_probabilities(self, examples: Sequence[ScoredExample]) -> list[float]:
        """Return the probability of each example, after adding all of them to the history."""
        self.loss_history.extend(example.loss for example in examples)
        return [self.loss_rank(example.loss) ** self.prob_pow for example in examples]

    def loss_rank(self, loss: float) -> float:
        """Return the share of the history that is strictly lower than the loss."""
        return sum(1 for other in self.loss_history if other < loss) / len(self.loss_history)

    def _stack_batch(self, examples: Sequence[ScoredExample]) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = torch.stack([example.inputs for example in examples])
        targets = torch.stack([example.target for example in examples])
        return inputs.to(self.context.device), targets.to(self.context.device)

    def _train_on(self, examples: Sequence[ScoredExample]) -> None:
        inputs, targets = self._stack_batch(examples)
        losses_B = self.context.task.losses(self.context.model(inputs), targets)
        self.context.optimizer_step(losses_B.mean(), len(examples))

    def on_epoch_end(self) -> None:
        """Train on the examples that still wait."""
        if self.pending:
            self._train_on(self.pending)
        self.pending = []


class ComposerSelectiveBackprop(PublishedMethod):
    """Selective-Backprop by the code of the library Composer.

    It selects only between 0.5 and 0.9 of the run, and there in every second batch: each
    ``interrupt``-th batch is trained on whole, whatever Composer's documentation says. The
    losses of the batch come from a forward pass in training mode, which changes normalisation
    statistics. NumPy draws int(keep * N) of N examples on the host without replacement; rank r
    has a probability in proportion to ((r + 0.5) / N)**(1 / keep - 1). The smaller batch is
    unweighted. Of a batch of one, int() would keep no example; here it stays.

    Args:
        keep: Share of a batch that is trained on.
    """

    start, end, interrupt = 0.5, 0.9, 2

    def __init__(self, context: BaselineContext, keep: float = 0.5) -> None:
        super().__init__(context)
        self.keep = keep

    def selects_in_batch(self) -> bool:
        """Whether to select from the batch."""
        is_interrupted = (self.batch_index + 1) % self.interrupt == 0
        return not is_interrupted and self.start <= self.elapsed_share < self.end

    def rank_probabilities(self, count: int) -> Floats:
        """Return the probability of each rank, lowest loss first."""
        weight = ((np.arange(count) + 0.5) / count) ** (1.0 / self.keep - 1.0)
        probability: Floats = weight / weight.sum()
        return probability

    def choose_positions(self, losses: Floats) -> list[int]:
        """Return the places in the batch of the examples to train on."""
        count = len(losses)
        kept, probability = max(1, int(self.keep * count)), self.rank_probabilities(count)
        ranks = self.context.rng.choice(count, kept, replace=False, p=probability)
        places: list[int] = np.argsort(losses)[ranks].tolist()
        return places

    def process_batch(self, indices: Sequence[int]) -> None:
        """Train on the batch or on the selected part of it."""
        context = self.context
        inputs, targets = context.batch(indices)
        if self.selects_in_batch():
            with torch.no_grad():
                losses_B = context.task.losses(context.model(inputs), targets)
            places = self.choose_positions(losses_B.cpu().numpy())
            chosen = torch.tensor(places, device=context.device)
            inputs, targets = inputs[chosen], targets[chosen]
        losses_B = context.task.losses(context.model(inputs), targets)
        context.optimizer_step(losses_B.mean(), len(inputs))


class PublishedKakurenbo(PublishedMethod):
    """KAKURENBO (Nguyen et al. 2023) by its paper, at the cost of its authors' code.

    As in the code, loss, correctness and confidence of every example are read one by one: three
    reads per step and example. A Python loop decides which examples of the lowest losses stay
    hidden. Hidden examples are run forward at the end of every epoch, including the last. As in
    the paper, confidence is a softmax over the classes, the learning rate is divided by 1 - F
    for the hidden share F, and refreshing changes no statistics. See :class:`CodedKakurenbo`.

    Args:
        fraction: Largest hidden share; it falls during the run.
        threshold: Least confidence of a correct example that is hidden.
    """

    softmax_dim = -1
    refreshes_in_training_mode = False
    fraction_schedule = ((0.8, 0.4), (0.6, 0.6), (0.3, 0.8), (0.0, 1.0))

    def __init__(
        self, context: BaselineContext, fraction: float = 0.3, threshold: float = 0.7
    ) -> None:
        super().__init__(context)
        self.fraction, self.threshold = fraction, threshold
        self.last_loss, self.confidence = [0.0] * context.n, [0.0] * context.n
        self.correct = [False] * context.n
        self.hidden: list[int] = []

    def hideable_share(self) -> float:
        """Return the largest hidden share of this epoch; it falls in steps."""
        elapsed = self.epoch / self.context.config.epochs
        return self.fraction * next(by for start, by in self.fraction_schedule if elapsed >= start)

    def epoch_order(self) -> list[int]:
        """Return the examples that are not hidden."""
        self.hidden = self.choose_hidden()
        return shuffled(sorted({*range(self.context.n)} - {*self.hidden}), self.context.rng)

    def choose_hidden(self) -> list[int]:
        """Return the examples of the lowest losses that were correct with confidence."""
        lowest, hidden = np.argsort(self.last_loss, kind="stable"), []
        for index in lowest[: int(self.hideable_share() * self.context.n)].tolist():
            if self.correct[index] and self.confidence[index] >= self.threshold:
                hidden.append(index)  # the others are trained on
        return hidden

    def lr_multiplier(self) -> float:
        """Return 1 / (1 - F) for the hidden share F."""
        return 1.0 / (1.0 - len(self.hidden) / self.context.n)

    def process_batch(self, indices: Sequence[int]) -> None:
        """Train on the whole batch, and read the outcome of each example."""
        context = self.context
        inputs, targets = context.batch(indices)
        outputs = context.model(inputs)
        losses_B = context.task.losses(outputs, targets)
        self.record_outcomes(
            indices, losses_B.detach(), self.confidence_and_correctness(outputs.detach(), targets)
        )
        context.optimizer_step(losses_B.mean(), len(indices), self.lr_multiplier())

    def record_outcomes(
        self, indices: Sequence[int], loss_B: torch.Tensor, outcomes: tuple[torch.Tensor, ...]
    ) -> None:
        """Read loss, confidence and correctness, example by example."""
        confidence_B, correct_B = outcomes
        for place, index in enumerate(indices):
            self.last_loss[index] = loss_B[place].item()
            self.confidence[index] = confidence_B[place].item()
            self.correct[index] = bool(correct_B[place].item())

    def confidence_and_correctness(
        self, outputs: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return the model's confidence in each example, and whether it is correct.

        In regression, every example counts as correct with confidence.
        """
        if self.context.task.loss_kind == "squared_error":
            return (torch.ones(len(targets)),) * 2
        confidence = outputs.float().softmax(self.softmax_dim).amax(-1)
        correct = (outputs.argmax(-1) == targets).float()
        # A text has many predictions: mean confidence, and correct where most of them are.
        confidence_B = confidence.view(len(confidence), -1).mean(-1)
        return confidence_B, correct.view(len(correct), -1).mean(-1) > 0.5

    def on_epoch_end(self) -> None:
        """Run the hidden examples forward, so that their losses are up to date."""
        context = self.context
        context.model.train(self.refreshes_in_training_mode)
        for start in range(0, len(self.hidden), context.batch_size):
            indices = self.hidden[start : start + context.batch_size]
            inputs, targets = context.batch(indices)
            with torch.no_grad():
                outputs = context.model(inputs)
                losses_B = context.task.losses(outputs, targets)
            self.record_outcomes(
                indices, losses_B, self.confidence_and_correctness(outputs, targets)
            )
        context.model.train()


class CodedKakurenbo(PublishedKakurenbo):
    """KAKURENBO to the letter of its authors' code.

    The softmax runs over the batch instead of the classes, so confidence depends on the rest of
    the batch. From the second epoch on, the learning rate is divided by one minus the largest
    share allowed in the epoch, hidden or not. Refreshing is done in training mode.
    """

    softmax_dim = 0
    refreshes_in_training_mode = True

    def lr_multiplier(self) -> float:
        """Return 1 / (1 - F) for the largest share F, except in the first epoch."""
        return 1.0 / (1.0 - self.hideable_share()) if self.epoch else 1.0
