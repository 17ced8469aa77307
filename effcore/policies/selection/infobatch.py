"""InfoBatch: drop some of the easy examples and raise the weight of the others.

Qin et al. 2024, *InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning*
(its "soft pruning" and "expectation rescaling"): an example whose last loss lies below the
mean is dropped from an epoch with probability r; one that is kept has weight 1 / (1 - r). The
last part of the run trains on every example, which removes the remaining bias. That part
begins at its exact point of the run, even within an epoch.
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

    An example is easy if its loss lies below a multiple of the mean loss, or below a quantile.
    As published, the mean over a batch is not rescaled although the batch holds fewer easy
    examples, so the expected step is longer by N over the number drawn; AdamW cancels most of
    that. The authors' code differs: it keeps a fixed number of the easy examples where the paper
    draws each independently, drops at most nine in ten, and resets its weights for the dense end
    only if that begins with an epoch.
    """

    id = "infobatch"
    title = "InfoBatch"
    summary = "Drops some of the easy examples at random and raises the weight of the others."
    rank = 4
    tuning_grid = (
        {},
        {"drop_probability": 0.7},
        {"mean_multiple": 1.5},
        {"drop_probability": 0.7, "correction": 0.0},
    )

    mean_multiple: float | None = knob(
        1.0,
        lo=0.05,
        hi=4.0,
        step=0.05,
        label="Multiple of the mean",
        help="An example is easy if its loss is below this many times the mean loss.",
        group="cut",
    )
    loss_quantile: float | None = knob(
        None,
        lo=0.0,
        hi=0.95,
        step=0.01,
        label="Loss quantile",
        help="Share of the examples that counts as easy, lowest loss first.",
        group="cut",
        start=0.6,
    )
    drop_probability: float = knob(
        0.5,
        lo=0.0,
        hi=0.95,
        step=0.01,
        label="Drop probability",
        help="Probability that an easy example is left out of an epoch.",
    )
    correction: float = knob(
        1.0,
        lo=0.0,
        hi=1.0,
        step=0.05,
        label="Correction",
        help="At 1 the easy examples that stay are weighted for those dropped; at 0 they are not.",
    )
    dense_end: float = knob(
        0.125,
        lo=0.0,
        hi=1.0,
        step=0.005,
        label="Dense end",
        help="Share of the run, at its end, that trains on every example.",
    )

    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        """Return 1 - ``drop_probability`` for easy examples, 1 for all others and at the end."""
        if examples.progress >= 1.0 - self.dense_end:
            return Decision(torch.ones_like(examples.last_loss_N))
        easy_N, threshold = self._easy_examples(examples)
        pi_N = torch.where(easy_N, 1.0 - self.drop_probability, 1.0)
        weight_N = correction_weights(pi_N, self.correction) if self.correction else None
        return Decision(pi_N, threshold, weight_N)

    def redecide_at(self) -> tuple[float, ...]:
        """Return the progress at which the dense end begins; it may be within an epoch."""
        return (1.0 - self.dense_end,)

    def decision_flops(self, n: int) -> float:
        """Return the cost of a mean or a sort, and of a few operations per example."""
        cut = 2.0 * n if self.loss_quantile is None else sorting_flops(n)
        return cut + 4.0 * n

    def _easy_examples(self, examples: ExampleState) -> tuple[torch.Tensor, torch.Tensor]:
        """Return which examples of known loss are easy, bool (N,), and the threshold, 0-d."""
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
