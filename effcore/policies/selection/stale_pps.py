"""Stale PPS: draw in proportion to a running mean of past losses, without scoring passes.

Sampling in proportion to the loss, which approximates the gradient's norm: Loshchilov and
Hutter 2016, *Online Batch Selection for Faster Training of Neural Networks*, and
Katharopoulos and Fleuret 2018, *Not All Samples Are Created Equal*. The running mean is
that of Evolved Sampling (2025, arXiv 2509.23461, equation 3.1, with one smoothing factor
in place of two); the uniform share bounds the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from effcore.knobs import knob
from effcore.policies.selection.base import SELECTIONS, BatchOutputs, ExampleState, PolicyMemory
from effcore.policies.selection.proportional_policy import ProportionalPolicy


@SELECTIONS.add
@dataclass(frozen=True)
class StalePPS(ProportionalPolicy):
    """Draw by an exponential mean of the loss, raised for examples not seen recently.

    The loss approximates the gradient's size; for a squared error its square root does.
    """

    id = "stale-pps"
    title = "Stale PPS"
    summary = "Draws in proportion to past losses, raised for examples not seen recently."
    rank = 5

    smoothing: float = knob(
        0.3,
        lo=0.05,
        hi=1.0,
        step=0.05,
        label="Smoothing",
        help="Weight of the newest loss in the running mean; 1 uses only the newest.",
    )
    age_weight: float = knob(
        0.1,
        lo=0.0,
        hi=1.0,
        step=0.05,
        label="Weight of age",
        help="Relative growth of a score with each epoch that skips its example.",
    )

    def scores(self, examples: ExampleState) -> torch.Tensor:
        """Return the running mean, raised by the number of epochs since the example was seen."""
        age_N = (examples.epoch_index - 1 - examples.memory["pass_N"]).clamp_min(0.0)
        return examples.memory["score_N"] * (1.0 + self.age_weight * age_N)

    def scores_from_outputs(self, batch: BatchOutputs) -> torch.Tensor:
        """Return the loss; for a squared error its square root."""
        return batch.losses_B.sqrt() if batch.loss_kind == "squared_error" else batch.losses_B

    def merge_scores(self, before_B: torch.Tensor, fresh_B: torch.Tensor) -> torch.Tensor:
        """Return the running mean; an example's first score is taken unchanged."""
        mean_B = torch.lerp(before_B, fresh_B, self.smoothing)
        return torch.where(before_B.isfinite(), mean_B, fresh_B)

    def initial_memory(self, n: int, device: torch.device) -> PolicyMemory:
        """Return the scores, and the epoch in which each example was last trained on."""
        return super().initial_memory(n, device) | {"pass_N": torch.zeros(n, device=device)}

    def on_batch_end(self, memory: PolicyMemory, batch: BatchOutputs) -> None:
        """Store the scores and the current epoch."""
        super().on_batch_end(memory, batch)
        memory["pass_N"].index_fill_(0, batch.idx_B, float(max(batch.epoch_index, 0)))
