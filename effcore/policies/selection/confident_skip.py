"""Confident skip: skip learned examples, and train on each of them again every few epochs."""

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
    """Skip the easiest examples except in every ``revisit``-th epoch, staggered by index.

    By ``mass``, the easy examples are the largest set of lowest-loss examples that together
    hold at most that share of the gradient mass (the loss for cross-entropy, its square root
    for squared error). By ``loss_threshold``, they are those whose last loss lies below it.
    The losses come from the training steps themselves, so there are no scoring passes.

    Biased on purpose: it favours what is not yet learned and corrects no weights.
    """

    id = "confident-skip"
    title = "Confident skip"
    summary = "Skips examples already learned and trains on them again every few epochs."
    rank = 0
    tuning_grid = (
        {},
        {"mass": 0.2, "revisit": 4},
        {"mass": 0.35, "revisit": 4},
        {"mass": 0.5, "revisit": 8},
    )
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
        help="A skipped example is trained on again every this many epochs; 1 skips nothing.",
    )

    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        """Return 0 for easy examples that are not due in this epoch, 1 for all others.

        An unseen example has an infinite last loss and is never easy.
        """
        easy_N, threshold = self._easy_examples(examples)
        index_N = torch.arange(len(easy_N), device=easy_N.device)
        due_N = (index_N + examples.epoch_index) % self.revisit == 0
        return Decision((~easy_N | due_N).to(examples.last_loss_N.dtype), threshold)

    def decision_flops(self, n: int) -> float:
        """Return the cost of one sort, one running sum and a few comparisons per example."""
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
