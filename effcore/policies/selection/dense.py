"""Dense training: every example in every epoch, the reference for all savings."""

from dataclasses import dataclass

import torch

from effcore.policies.selection.base import SELECTIONS, Decision, ExampleState, SelectionPolicy


@SELECTIONS.add
@dataclass(frozen=True)
class Dense(SelectionPolicy):
    """Skip nothing."""

    id = "dense"
    title = "Dense"
    summary = "Trains on every example in every epoch: the reference."
    rank = 2

    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        """Return 1 for every example."""
        return Decision(torch.ones_like(examples.last_loss_N))

    def decision_flops(self, n: int) -> float:
        """Return 0: nothing is decided."""
        return 0.0
