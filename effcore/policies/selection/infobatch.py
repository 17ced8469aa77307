"""InfoBatch: drop some of the easy examples and let the others stand in for them.

Qin et al. 2024, *InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning*
(its "soft pruning" and "expectation rescaling"): an example whose last loss lies below the
mean is dropped from a pass with probability r; one that is kept weighs 1 / (1 - r). The
last part of the run is trained on everything, so that what is left of the bias is
forgotten; it begins where it is due, not with the next pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from effcore.knobs import knob
from effcore.policies.selection.base import (
    SELECTIONS,
    Decision,
    ExampleState,
    SelectionPolicy,
    correction_weights,
    sorting_flops,
)


@SELECTIONS.add
@dataclass(frozen=True)
class InfoBatch(SelectionPolicy):
    """Drop each easy example with the same probability, and weight those that stay.

    Easy is what lies below a multiple of the mean loss, or below a quantile. As published,
    the mean over a batch is not rescaled for the batch holding fewer easy examples, so the
    expected step is longer by N over the number drawn; AdamW cancels most of that. The
    authors' code keeps a fixed number of the easy ones where the paper draws each by itself,
    drops at most nine in ten, and resets its weights for the dense end only where that begins
    with a whole epoch.
    """

    id = "infobatch"
    title = "InfoBatch"
    summary = "Drops some of the easy examples at random and weights the others for them."
    rank = 4

    mean_multiple: float | None = knob(
        1.0,
        lo=0.05,
        hi=4.0,
        step=0.05,
        label="Multiple of the mean",
        help="Easy is a loss below this many times the mean loss.",
        group="cut",
    )
    loss_quantile: float | None = knob(
        None,
        lo=0.0,
        hi=0.95,
        step=0.01,
        label="Loss quantile",
        help="Easy is this share of the examples, those of the lowest loss.",
        group="cut",
        start=0.6,
    )
    drop_probability: float = knob(
        0.5,
        lo=0.0,
        hi=0.95,
        step=0.01,
        label="Drop probability",
        help="Chance of an easy example to be left out of a pass.",
    )
    correction: float = knob(
        1.0,
        lo=0.0,
        hi=1.0,
        step=0.05,
        label="Correction",
        help="At 1 the easy examples that stay make up for those dropped; at 0 they do not.",
    )
    dense_end: float = knob(
        0.125,
        lo=0.0,
        hi=1.0,
        step=0.005,
        label="Dense end",
        help="Share of the run, at its end, that trains on everything.",
    )

    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        """Return 1 - ``drop_probability`` for the easy, 1 for all others and at the end."""
        if examples.progress >= 1.0 - self.dense_end:
            return Decision(torch.ones_like(examples.last_loss_N))
        easy_N, threshold = self._easy_examples(examples)
        pi_N = torch.where(easy_N, 1.0 - self.drop_probability, 1.0)
        weight_N = correction_weights(pi_N, self.correction) if self.correction else None
        return Decision(pi_N, threshold, weight_N)

    def redecide_at(self) -> tuple[float, ...]:
        """Return where the dense end begins, be it in the middle of a pass."""
        return (1.0 - self.dense_end,)

    def decision_flops(self, n: int) -> float:
        """Return a mean or a sort, and a few operations per example."""
        cut = 2.0 * n if self.loss_quantile is None else sorting_flops(n)
        return cut + 4.0 * n

    def _easy_examples(self, examples: ExampleState) -> tuple[torch.Tensor, torch.Tensor]:
        """Return who is easy among those whose loss is known, and the cut."""
        known_N = examples.last_loss_N.isfinite()
        if self.loss_quantile is None:
            assert self.mean_multiple is not None, "one knob of the group 'cut' is always set"
            mean = torch.where(known_N, examples.last_loss_N, 0.0).sum() / known_N.sum()
            threshold = self.mean_multiple * mean
            return examples.last_loss_N < threshold, threshold
        loss_N, order_N = examples.sorted_losses()
        place_N = torch.arange(len(loss_N), device=loss_N.device)
        below_N = (place_N < self.loss_quantile * known_N.sum()) & loss_N.isfinite()
        easy_N = torch.empty_like(below_N).index_copy_(0, order_N, below_N)
        return easy_N, torch.where(below_N, loss_N, -torch.inf).max()
