"""KAKURENBO: hide the easiest examples for an epoch, unless the model is unsure of them.

Nguyen et al. 2023, *KAKURENBO: Adaptively Hiding Samples in Deep Neural Network Training*
(NeurIPS 2023, section 3 and algorithm 1): in each epoch the share F with the lowest losses
is hidden; an example of these that was predicted wrongly, or rightly with a confidence below
tau = 0.7, moves back; F falls in steps; hidden examples are run forward at the end of the epoch
to update their losses; and the learning rate is divided by 1 - F for the missing steps.

The authors' published code takes the softmax over the batch instead of over the classes,
divides the learning rate by one minus the largest F allowed, where here it is the share that
was hidden, and updates losses in training mode, which moves the normalisation statistics.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from effcore.knobs import knob
from effcore.policies.selection.base import (
    SELECTIONS,
    BatchOutputs,
    Decision,
    ExampleState,
    PolicyMemory,
    SelectionPolicy,
    sorting_flops,
)
from effcore.policies.selection.score_functions import confidence_and_correctness
from effcore.records.deprecation import with_old_names

#: (progress, factor): from this share of the run on, F is multiplied by this factor.
_HIDDEN_SHARE_SCHEDULE = ((0.3, 0.8), (0.6, 0.6), (0.8, 0.4))
_SOFTMAX_FLOPS = 4.0


@SELECTIONS.add
@with_old_names
@dataclass(frozen=True)
class Kakurenbo(SelectionPolicy):
    """Hide the easiest share of the examples, if the model predicts them rightly and surely.

    Biased: hidden examples are not drawn. They are still run forward, so that hiding a share F
    skips at most two thirds of F. Tasks without classes have no confidence; there the loss
    alone decides.
    """

    id = "kakurenbo"
    title = "KAKURENBO"
    summary = "Hides the easiest examples of each epoch, unless the model is unsure of them."
    rank = 9
    tuning_grid = (
        {},
        {"hidden_share": 0.3},
        {"hidden_share": 0.6},
        {"hidden_share": 0.4, "confidence": 0.9},
        {"hidden_share": 0.2},
        {"hidden_share": 0.5},
    )
    biased = True
    refreshes_skipped_losses = True

    hidden_share: float = knob(
        0.4,
        lo=0.0,
        hi=0.9,
        step=0.01,
        label="Hidden share",
        help="Largest share of an epoch to hide; it falls in steps during the run.",
    )
    confidence: float = knob(
        0.7,
        lo=0.0,
        hi=1.0,
        step=0.01,
        label="Confidence",
        help="An example is hidden only if it is predicted rightly with at least this probability.",
    )

    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        """Return 0 for hidden examples, 1 for all others."""
        loss_N, order_N = examples.sorted_losses()
        count = examples.count_of_share(self.hidden_share_at(examples.progress))
        place_N = torch.arange(len(loss_N), device=loss_N.device)
        lowest_N = (place_N < count) & loss_N.isfinite()
        easy_N = torch.empty_like(lowest_N).index_copy_(0, order_N, lowest_N)
        sure_N = examples.memory["sure_N"] >= self.confidence
        threshold = torch.where(lowest_N, loss_N, -torch.inf).max()
        return Decision((~(easy_N & sure_N)).float(), threshold)

    def hidden_share_at(self, progress: float) -> float:
        """Return F at this progress of the run."""
        factors = [factor for start, factor in _HIDDEN_SHARE_SCHEDULE if progress >= start]
        return self.hidden_share * (factors[-1] if factors else 1.0)

    def lr_multiplier(self, drawn_fraction: float) -> float:
        """Return 1 / (1 - F) for the share F that is hidden in the epoch."""
        return 1.0 / max(drawn_fraction, 0.05)

    def decision_flops(self, n: int) -> float:
        """Return the cost of one sort and a few comparisons per example."""
        return sorting_flops(n) + 4.0 * n

    def initial_memory(self, n: int, device: torch.device) -> PolicyMemory:
        """Return the model's confidence in each example; below 0 where its prediction was wrong."""
        return {"sure_N": torch.full((n,), -1.0, device=device)}

    def on_batch_end(self, memory: PolicyMemory, batch: BatchOutputs) -> None:
        """Store the confidence of right predictions, and -1 for wrong ones."""
        if batch.loss_kind == "squared_error":
            sure_B = torch.ones_like(batch.losses_B)
        else:
            confidence_B, right_B = confidence_and_correctness(batch.outputs, batch.targets)
            sure_B = torch.where(right_B, confidence_B, -1.0)
        memory["sure_N"].index_copy_(0, batch.idx_B, sure_B)

    def batch_end_flops(self, output_count: int) -> float:
        """Return the cost of a softmax and its maximum."""
        return _SOFTMAX_FLOPS * output_count
