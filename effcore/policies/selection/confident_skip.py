"""Confident skip: leave out what is already learned, and look again every few passes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from effcore.knobs import knob
from effcore.policies.selection.base import (
    SELECTIONS,
    Decision,
    ExampleState,
    SelectionPolicy,
    sorting_flops,
)


@SELECTIONS.add
@dataclass(frozen=True)
class ConfidentSkip(SelectionPolicy):
    """Skip the easiest examples except in every ``revisit``-th pass, staggered by index.

    Easy is, by ``mass``, the largest set of lowest-loss examples that together hold at
    most that share of the gradient mass (the loss for cross-entropy, its square root for
    squared error); or, by ``loss_threshold``, every example whose last loss lies below
    it. Losses are those of the training passes themselves, so nothing is scored.

    Biased on purpose: it leans on what is not yet learned and reweights nothing.
    """

    id = "confident-skip"
    title = "Confident skip"
    summary = "Skips what is already learned and looks at it again every few passes."
    rank = 0
    biased = True

    mass: float | None = knob(
        0.35,
        lo=0.0,
        hi=0.95,
        step=0.01,
        label="Gradient mass",
        help="Skips the easiest examples that together hold at most this share of the gradient.",
        group="cut",
    )
    loss_threshold: float | None = knob(
        None,
        lo=1e-6,
        hi=10.0,
        step=0.01,
        label="Loss threshold",
        help="Skips every example whose last loss lies below this.",
        group="cut",
        log=True,
        start=0.01,
    )
    revisit: int = knob(
        4,
        lo=1,
        hi=32,
        step=1,
        label="Revisit period",
        help="A skipped example is trained on again every so many passes; 1 skips nothing.",
    )

    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        """Return 0 for easy examples that are not due, 1 for all others.

        An example never seen has an infinite last loss and is never easy.
        """
        easy_N, threshold = self._easy_examples(examples)
        index_N = torch.arange(len(easy_N), device=easy_N.device)
        due_N = (index_N + examples.epoch_index) % self.revisit == 0
        return Decision((~easy_N | due_N).to(examples.last_loss_N.dtype), threshold)

    def decision_flops(self, n: int) -> float:
        """Return one sort, one running sum and a few comparisons per example."""
        return sorting_flops(n) + 5.0 * n

    def _easy_examples(self, examples: ExampleState) -> tuple[torch.Tensor, torch.Tensor]:
        if self.loss_threshold is not None:
            threshold = torch.as_tensor(self.loss_threshold, device=examples.last_loss_N.device)
            return examples.last_loss_N < self.loss_threshold, threshold
        assert self.mass is not None, "one knob of the group 'cut' is always set"
        loss_N, order_N = examples.sorted_losses()
        running_N = examples.gradient_size(loss_N).cumsum(0)
        below_N = (running_N <= self.mass * running_N[-1]) & loss_N.isfinite()
        easy_N = torch.empty_like(below_N).index_copy_(0, order_N, below_N)
        return easy_N, torch.where(below_N, loss_N, -torch.inf).max()
