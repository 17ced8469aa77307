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

from effcore.bench.rig import Published, Rig, shuffled

Floats = NDArray[np.floating[Any]]


class PublishedInfoBatch(Published):
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

    def __init__(self, rig: Rig, prune_ratio: float = 0.5, delta: float = 0.875) -> None:
        super().__init__(rig)
        self.keep = min(1.0, max(0.1, 1.0 - prune_ratio))
        self.last_pruned = delta * rig.config.epochs
        self.score_N = np.full(rig.n, 3.0, dtype=np.float32)
        self.weight_N = np.ones(rig.n, dtype=np.float32)

    def easy(self) -> NDArray[np.bool_]:
        """Return who is learned well: whose score lies below the mean."""
        below: NDArray[np.bool_] = self.score_N < self.score_N.mean()
        return below

    def order(self) -> list[int]:
        """Return all that are hard and a part of the easy, or everybody near the end."""
        count = self.epoch + 1
        random = np.random.RandomState(count)
        if count <= self.last_pruned:
            return shuffled(self._pruned(random), random)
        if count == self.last_pruned + 1:
            self.weight_N[:] = 1.0
        return shuffled(range(self.rig.n), random)

    def _pruned(self, random: np.random.RandomState) -> list[int]:
        easy, hard = np.flatnonzero(self.easy()), np.flatnonzero(~self.easy())
        kept = random.choice(easy, int(self.keep * len(easy)), replace=False)
        self.weight_N[:] = 1.0
        self.weight_N[kept] = 1.0 / self.keep
        indices: list[int] = [*hard.tolist(), *kept.tolist()]
        return indices

    def visit(self, indices: Sequence[int]) -> None:
        """Train on everyone, weighted, and copy the losses to the host."""
        rig = self.rig
        inputs, targets = rig.batch(indices)
        losses_B = rig.task.losses(rig.model(inputs), targets)
        weight_B = torch.from_numpy(self.weight_N[indices]).to(rig.device)
        self.score_N[indices] = losses_B.detach().cpu().numpy()
        rig.descend((losses_B * weight_B).mean(), len(indices))


@dataclass
class Example:
    """One example on its way through Selective-Backprop, kept on the host."""

    inputs: torch.Tensor
    target: torch.Tensor
    loss: float = 0.0
    chosen: bool = True


class PublishedSelectiveBackprop(Published):
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

    def __init__(self, rig: Rig, prob_pow: float = 3.0) -> None:
        super().__init__(rig)
        self.prob_pow = prob_pow
        self.history: deque[float] = deque(maxlen=1024)
        self.waiting: list[Example] = []

    def visit(self, indices: Sequence[int]) -> None:
        """Score everyone, and train where a batch of the chosen is full."""
        rig = self.rig
        inputs, targets = rig.batch(indices)
        examples = [Example(x.cpu(), y.cpu()) for x, y in zip(inputs, targets, strict=True)]
        self._score(examples)
        if self.epoch:
            for example, chance in zip(examples, self.chances(examples), strict=True):
                example.chosen = rig.random.uniform() < chance
        self.waiting += [example for example in examples if example.chosen]
        if len(self.waiting) >= rig.batch_size:
            self._train(self.waiting[: rig.batch_size])
            self.waiting = self.waiting[rig.batch_size :]

    def _score(self, examples: Sequence[Example]) -> None:
        rig = self.rig
        inputs, targets = self._stacked(examples)
        rig.model.eval()
        with torch.no_grad():
            losses_B = rig.task.losses(rig.model(inputs), targets)
        rig.model.train()
        for example, loss in zip(examples, losses_B, strict=True):
            example.loss = loss.item()

    def chances(self, examples: Sequence[Example]) -> list[float]:
        """Return each one's chance; all of them are part of the history by then."""
        self.history.extend(example.loss for example in examples)
        return [self.rank(example.loss) ** self.prob_pow for example in examples]

    def rank(self, loss: float) -> float:
        """Return the share of the history that is strictly lower."""
        return sum(1 for other in self.history if other < loss) / len(self.history)

    def _stacked(self, examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = torch.stack([example.inputs for example in examples])
        targets = torch.stack([example.target for example in examples])
        return inputs.to(self.rig.device), targets.to(self.rig.device)

    def _train(self, examples: Sequence[Example]) -> None:
        inputs, targets = self._stacked(examples)
        losses_B = self.rig.task.losses(self.rig.model(inputs), targets)
        self.rig.descend(losses_B.mean(), len(examples))

    def end_epoch(self) -> None:
        """Train on those that still wait."""
        if self.waiting:
            self._train(self.waiting)
        self.waiting = []


class ComposerSelectiveBackprop(Published):
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

    def __init__(self, rig: Rig, keep: float = 0.5) -> None:
        super().__init__(rig)
        self.keep = keep

    def selects(self) -> bool:
        """Whether to select from the batch."""
        return (self.place + 1) % self.interrupt > 0 and self.start <= self.elapsed < self.end

    def chances(self, count: int) -> Floats:
        """Return the probability of each rank, the lowest loss first."""
        chance = ((np.arange(count) + 0.5) / count) ** (1.0 / self.keep - 1.0)
        scaled: Floats = chance / chance.sum()
        return scaled

    def choose(self, losses: Floats) -> list[int]:
        """Return the places of those to train on."""
        count = len(losses)
        kept, chances = max(1, int(self.keep * count)), self.chances(count)
        ranks = self.rig.random.choice(count, kept, replace=False, p=chances)
        places: list[int] = np.argsort(losses)[ranks].tolist()
        return places

    def visit(self, indices: Sequence[int]) -> None:
        """Train on the batch, or on what is kept of it."""
        rig = self.rig
        inputs, targets = rig.batch(indices)
        if self.selects():
            with torch.no_grad():
                losses_B = rig.task.losses(rig.model(inputs), targets)
            places = torch.tensor(self.choose(losses_B.cpu().numpy()), device=rig.device)
            inputs, targets = inputs[places], targets[places]
        rig.descend(rig.task.losses(rig.model(inputs), targets).mean(), len(inputs))


class PublishedKakurenbo(Published):
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

    softmax_over = -1
    refreshes_in_training_mode = False
    falls = ((0.8, 0.4), (0.6, 0.6), (0.3, 0.8), (0.0, 1.0))

    def __init__(self, rig: Rig, fraction: float = 0.3, threshold: float = 0.7) -> None:
        super().__init__(rig)
        self.fraction, self.threshold = fraction, threshold
        self.loss, self.sure = [0.0] * rig.n, [0.0] * rig.n
        self.right = [False] * rig.n
        self.hidden: list[int] = []

    def share(self) -> float:
        """Return the share that may be hidden in this epoch; it falls in steps."""
        elapsed = self.epoch / self.rig.config.epochs
        return self.fraction * next(by for start, by in self.falls if elapsed >= start)

    def order(self) -> list[int]:
        """Return whoever is not hidden."""
        self.hidden = self.hide()
        return shuffled(sorted({*range(self.rig.n)} - {*self.hidden}), self.rig.random)

    def hide(self) -> list[int]:
        """Return those of the lowest losses that were told right with confidence."""
        lowest, hidden = np.argsort(self.loss, kind="stable"), []
        for index in lowest[: int(self.share() * self.rig.n)].tolist():
            if self.right[index] and self.sure[index] >= self.threshold:
                hidden.append(index)  # others move back
        return hidden

    def rate_factor(self) -> float:
        """Return what the rate is multiplied by for the steps that are missing."""
        return 1.0 / (1.0 - len(self.hidden) / self.rig.n)

    def visit(self, indices: Sequence[int]) -> None:
        """Train on everyone shown, and read what came of each."""
        rig = self.rig
        inputs, targets = rig.batch(indices)
        outputs = rig.model(inputs)
        losses_B = rig.task.losses(outputs, targets)
        self.note(indices, losses_B.detach(), self.told(outputs.detach(), targets))
        rig.descend(losses_B.mean(), len(indices), self.rate_factor())

    def note(
        self, indices: Sequence[int], loss_B: torch.Tensor, told: tuple[torch.Tensor, ...]
    ) -> None:
        """Read loss, confidence and rightness (:meth:`has_joules`), example by example."""
        sure_B, right_B = told
        for place, index in enumerate(indices):
            self.loss[index] = loss_B[place].item()
            self.sure[index] = sure_B[place].item()
            self.right[index] = bool(right_B[place].item())

    def told(self, outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return how sure of each the model is, and whether it is right; of numbers, always."""
        if self.rig.task.loss_kind == "squared_error":
            return (torch.ones(len(targets)),) * 2
        sure = outputs.float().softmax(self.softmax_over).amax(-1)
        right = (outputs.argmax(-1) == targets).float()
        # A text has many predictions: their mean, and what most of them are.
        return sure.view(len(sure), -1).mean(-1), right.view(len(right), -1).mean(-1) > 0.5

    def end_epoch(self) -> None:
        """Run forward whoever was hidden, so that their losses stay fresh."""
        rig = self.rig
        rig.model.train(self.refreshes_in_training_mode)
        for start in range(0, len(self.hidden), rig.batch_size):
            indices = self.hidden[start : start + rig.batch_size]
            inputs, targets = rig.batch(indices)
            with torch.no_grad():
                outputs = rig.model(inputs)
                losses_B = rig.task.losses(outputs, targets)
            self.note(indices, losses_B, self.told(outputs, targets))
        rig.model.train()


class CodedKakurenbo(PublishedKakurenbo):
    """KAKURENBO to the letter of its authors' code.

    There the softmax runs over the batch instead of the classes, which makes confidence a
    matter of who else is in it; from the second epoch on the rate is divided by one minus the
    largest share allowed in the epoch, hidden or not; and refreshing is done in training mode.
    """

    softmax_over = 0
    refreshes_in_training_mode = True

    def rate_factor(self) -> float:
        """Return 1 / (1 - F) for the largest share F, except in the first epoch."""
        return 1.0 / (1.0 - self.share()) if self.epoch else 1.0
