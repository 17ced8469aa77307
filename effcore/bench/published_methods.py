"""Selective training as its authors published it: what ours is raced against.

Each class follows a published code in what it does and in what that costs: objects and loops
in Python per example, losses copied to the host at every step, NumPy's choice, a second
forward pass. What is shared with our runs is the task, how its batches are gathered, model,
optimizer, the learning rate's course and the seed, so that nothing but the method differs.
Where a code spends time on what selection does not need (logging, a loader with one object
per example, tests for several processes), that is left out, in its favour.

A published code trains on the short batch that ends an epoch; NumPy's generator is private
here, so that nobody else's draws change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from effcore.bench.baseline_context import BaselineContext, PublishedMethod, shuffled

Floats = NDArray[np.floating[Any]]


class PublishedInfoBatch(PublishedMethod):
    """InfoBatch (Qin et al. 2024) by its authors' code.

    As there: scores live on the host and begin at 3, so every step copies its losses there;
    of the examples below the mean, exactly int(keep * how many) are chosen without
    replacement and weigh 1 / keep, keep being 1 - r and never below a tenth; the mean over
    the batch is not rescaled. NumPy is seeded with the epoch's number alone, so the draws
    among equal scores are the same in every run. Its epochs count from 1: all data is used
    once that count exceeds delta times the epochs, and the weights of the last choice are
    taken back only where that product is whole; otherwise they stay to the end.

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
        """Return who is learned well: whose score lies below the mean."""
        below: NDArray[np.bool_] = self.score_N < self.score_N.mean()
        return below

    def epoch_order(self) -> list[int]:
        """Return all that are hard and a part of the easy, or everybody near the end."""
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
        """Train on everyone, weighted, and copy the losses to the host."""
        rig = self.context
        inputs, targets = rig.batch(indices)
        losses_B = rig.task.losses(rig.model(inputs), targets)
        weight_B = torch.from_numpy(self.weight_N[indices]).to(rig.device)
        self.score_N[indices] = losses_B.detach().cpu().numpy()
        rig.optimizer_step((losses_B * weight_B).mean(), len(indices))


@dataclass
class ScoredExample:
    """One example on its way through Selective-Backprop, kept on the host."""

    inputs: torch.Tensor
    target: torch.Tensor
    loss: float = 0.0
    chosen: bool = True


class PublishedSelectiveBackprop(PublishedMethod):
    """Selective-Backprop (Jiang et al. 2019) by its authors' code.

    As there: each example is a Python object whose tensors are copied to the host and stacked
    again; all are scored in evaluation mode, each loss read alone; a deque holds the last 1024,
    in which a Python loop ranks every new one by counting the strictly lower, so that the
    lowest is never chosen; one uniform number per example decides. Who is chosen waits until
    a batch is full, or the epoch over, and is run forward again, unweighted. The first epoch
    scores everybody, too, but trains on all and remembers none.

    Args:
        prob_pow: beta, the power of the rank; about one in beta + 1 is trained on.
    """

    def __init__(self, context: BaselineContext, prob_pow: float = 3.0) -> None:
        super().__init__(context)
        self.prob_pow = prob_pow
        self.loss_history: deque[float] = deque(maxlen=1024)
        self.pending: list[ScoredExample] = []

    def process_batch(self, indices: Sequence[int]) -> None:
        """Score everyone, and train where a batch of the chosen is full."""
        rig = self.context
        inputs, targets = rig.batch(indices)
        examples = [ScoredExample(x.cpu(), y.cpu()) for x, y in zip(inputs, targets, strict=True)]
        self._score_examples(examples)
        if self.epoch:
            for example, chance in zip(
                examples, self.selection_probabilities(examples), strict=True
            ):
                example.chosen = rig.rng.uniform() < chance
        self.pending += [example for example in examples if example.chosen]
        if len(self.pending) >= rig.batch_size:
            self._train_on(self.pending[: rig.batch_size])
            self.pending = self.pending[rig.batch_size :]

    def _score_examples(self, examples: Sequence[ScoredExample]) -> None:
        rig = self.context
        inputs, targets = self._stack_batch(examples)
        rig.model.eval()
        with torch.no_grad():
            losses_B = rig.task.losses(rig.model(inputs), targets)
        rig.model.train()
        for example, loss in zip(examples, losses_B, strict=True):
            example.loss = loss.item()

    def selection_probabilities(self, examples: Sequence[ScoredExample]) -> list[float]:
        """Return each one's chance; all of them are part of the history by then."""
        self.loss_history.extend(example.loss for example in examples)
        return [self.loss_rank(example.loss) ** self.prob_pow for example in examples]

    def loss_rank(self, loss: float) -> float:
        """Return the share of the history that is strictly lower."""
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
        """Train on those that still wait."""
        if self.pending:
            self._train_on(self.pending)
        self.pending = []


class ComposerSelectiveBackprop(PublishedMethod):
    """Selective-Backprop as the library Composer has it.

    As there: it selects only between 0.5 and 0.9 of the run, and there in every second batch
    (each ``interrupt``-th is trained on whole, whatever its description says); the losses of
    the batch come from a forward pass in training mode, which moves normalisation statistics;
    int(keep * N) of N are drawn by NumPy on the host without replacement, the one of rank r
    with probability in proportion to ((r + 0.5) / N)**(1 / keep - 1); what is trained on is a
    smaller batch, unweighted. Of a batch of one, int() keeps nobody; here it stays.

    Args:
        keep: Share of a batch that is trained on.
    """

    start, end, interrupt = 0.5, 0.9, 2

    def __init__(self, context: BaselineContext, keep: float = 0.5) -> None:
        super().__init__(context)
        self.keep = keep

    def selects_in_batch(self) -> bool:
        """Whether to select from the batch."""
        return (
            self.batch_index + 1
        ) % self.interrupt > 0 and self.start <= self.elapsed_share < self.end

    def rank_probabilities(self, count: int) -> Floats:
        """Return the probability of each rank, the lowest loss first."""
        chance = ((np.arange(count) + 0.5) / count) ** (1.0 / self.keep - 1.0)
        scaled: Floats = chance / chance.sum()
        return scaled

    def choose_positions(self, losses: Floats) -> list[int]:
        """Return the places of those to train on."""
        count = len(losses)
        kept, chances = max(1, int(self.keep * count)), self.rank_probabilities(count)
        ranks = self.context.rng.choice(count, kept, replace=False, p=chances)
        places: list[int] = np.argsort(losses)[ranks].tolist()
        return places

    def process_batch(self, indices: Sequence[int]) -> None:
        """Train on the batch, or on what is kept of it."""
        rig = self.context
        inputs, targets = rig.batch(indices)
        if self.selects_in_batch():
            with torch.no_grad():
                losses_B = rig.task.losses(rig.model(inputs), targets)
            places = torch.tensor(self.choose_positions(losses_B.cpu().numpy()), device=rig.device)
            inputs, targets = inputs[places], targets[places]
        rig.optimizer_step(rig.task.losses(rig.model(inputs), targets).mean(), len(inputs))


class PublishedKakurenbo(PublishedMethod):
    """KAKURENBO (Nguyen et al. 2023) by its paper, at the cost of its authors' code.

    As in the code: loss, rightness and confidence of every example are read one by one,
    three times a step and example; who of the lowest losses stays hidden is told in a Python
    loop; hidden ones are run forward at the end of every epoch, the last included. As in the
    paper: confidence is a softmax over the classes, the rate is divided by 1 - F for the share
    F that is hidden, and refreshing moves no statistics. See :class:`CodedKakurenbo`.

    Args:
        fraction: Largest share that is hidden; falls as the run goes on.
        threshold: Confidence below which an example told right is not hidden.
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
        """Return the share that may be hidden in this epoch; it falls in steps."""
        elapsed = self.epoch / self.context.config.epochs
        return self.fraction * next(by for start, by in self.fraction_schedule if elapsed >= start)

    def epoch_order(self) -> list[int]:
        """Return whoever is not hidden."""
        self.hidden = self.choose_hidden()
        return shuffled(sorted({*range(self.context.n)} - {*self.hidden}), self.context.rng)

    def choose_hidden(self) -> list[int]:
        """Return those of the lowest losses that were told right with confidence."""
        lowest, hidden = np.argsort(self.last_loss, kind="stable"), []
        for index in lowest[: int(self.hideable_share() * self.context.n)].tolist():
            if self.correct[index] and self.confidence[index] >= self.threshold:
                hidden.append(index)  # others move back
        return hidden

    def lr_multiplier(self) -> float:
        """Return what the rate is multiplied by for the steps that are missing."""
        return 1.0 / (1.0 - len(self.hidden) / self.context.n)

    def process_batch(self, indices: Sequence[int]) -> None:
        """Train on everyone shown, and read what came of each."""
        rig = self.context
        inputs, targets = rig.batch(indices)
        outputs = rig.model(inputs)
        losses_B = rig.task.losses(outputs, targets)
        self.record_outcomes(
            indices, losses_B.detach(), self.confidence_and_correctness(outputs.detach(), targets)
        )
        rig.optimizer_step(losses_B.mean(), len(indices), self.lr_multiplier())

    def record_outcomes(
        self, indices: Sequence[int], loss_B: torch.Tensor, outcomes: tuple[torch.Tensor, ...]
    ) -> None:
        """Read loss, confidence and rightness (:meth:`has_joules`), example by example."""
        sure_B, right_B = outcomes
        for place, index in enumerate(indices):
            self.last_loss[index] = loss_B[place].item()
            self.confidence[index] = sure_B[place].item()
            self.correct[index] = bool(right_B[place].item())

    def confidence_and_correctness(
        self, outputs: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return how sure of each the model is, and whether it is right; of numbers, always."""
        if self.context.task.loss_kind == "squared_error":
            return (torch.ones(len(targets)),) * 2
        sure = outputs.float().softmax(self.softmax_dim).amax(-1)
        right = (outputs.argmax(-1) == targets).float()
        # A text has many predictions: their mean, and what most of them are.
        return sure.view(len(sure), -1).mean(-1), right.view(len(right), -1).mean(-1) > 0.5

    def on_epoch_end(self) -> None:
        """Run forward whoever was hidden, so that their losses stay fresh."""
        rig = self.context
        rig.model.train(self.refreshes_in_training_mode)
        for start in range(0, len(self.hidden), rig.batch_size):
            indices = self.hidden[start : start + rig.batch_size]
            inputs, targets = rig.batch(indices)
            with torch.no_grad():
                outputs = rig.model(inputs)
                losses_B = rig.task.losses(outputs, targets)
            self.record_outcomes(
                indices, losses_B, self.confidence_and_correctness(outputs, targets)
            )
        rig.model.train()


class CodedKakurenbo(PublishedKakurenbo):
    """KAKURENBO to the letter of its authors' code.

    There the softmax runs over the batch instead of the classes, which makes confidence a
    matter of who else is in it; from the second epoch on the rate is divided by one minus the
    largest share allowed in the epoch, hidden or not; and refreshing is done in training mode.
    """

    softmax_dim = 0
    refreshes_in_training_mode = True

    def lr_multiplier(self) -> float:
        """Return 1 / (1 - F) for the largest share F, except in the first epoch."""
        return 1.0 / (1.0 - self.hideable_share()) if self.epoch else 1.0
