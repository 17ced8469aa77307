"""Base class of policies that score candidates by a forward pass and choose among them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from effcore.policies.selection.base import Decision, ExampleState, SelectionPolicy


@dataclass(frozen=True)
class ScoringPolicy(SelectionPolicy):
    """Score candidates without gradient and train on a batch of them; both count as FLOPs.

    Biased: the chosen examples are not weighted. A subclass says how many candidates are scored
    (``scoring_batch_size``), which are trained on (``choose_batch``), and what choosing costs
    (``choosing_flops``).
    """

    biased = True

    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        """Return 1 for every example: all are candidates."""
        return Decision(torch.ones_like(examples.last_loss_N))

    def decision_flops(self, n: int) -> float:
        """Return 0: the choice is made per step, see :meth:`choosing_flops`."""
        return 0.0
