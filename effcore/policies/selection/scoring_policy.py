"""What the policies share that run candidates forward before they choose among them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from effcore.policies.selection.base import Decision, ExampleState, SelectionPolicy


@dataclass(frozen=True)
class ScoringPolicy(SelectionPolicy):
    """Score candidates without gradient, and train on a batch of them; both are billed.

    Biased: what is chosen is not weighted for it. A policy says how many it scores
    (``candidates``), whom it takes (``choose``), and what that costs (``choosing_flops``).
    """

    biased = True

    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        """Return 1 for every example: all are candidates."""
        return Decision(torch.ones_like(examples.last_loss_N))

    def decision_flops(self, n: int) -> float:
        """Return 0: who is trained on is decided step by step, see :meth:`choosing_flops`."""
        return 0.0
