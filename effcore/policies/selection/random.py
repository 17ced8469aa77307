"""Random skipping: a fresh random subset in each epoch.

The baseline that many published selectors fail to beat (Okanovic et al. 2024, *Repeated
Random Sampling for Minimizing the Time-to-Accuracy of Learning*).
"""

from dataclasses import dataclass

import torch

from effcore.knobs import knob
from effcore.policies.selection.base import SELECTIONS, Decision, ExampleState, SelectionPolicy


@SELECTIONS.add
@dataclass(frozen=True)
class Random(SelectionPolicy):
    """Skip each example with the same probability, drawn anew in every epoch."""

    id = "random"
    title = "Random"
    summary = "Skips a fresh random part of the examples in each epoch; needs no scores."
    rank = 3
    tuning_grid = (
        {},
        {"skip_fraction": 0.2},
        {"skip_fraction": 0.6},
        {"skip_fraction": 0.8},
    )

    skip_fraction: float = knob(
        0.4,
        lo=0.0,
        hi=0.95,
        step=0.01,
        label="Skip fraction",
        help="Share of the examples to skip in each epoch.",
    )

    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        """Return 1 − ``skip_fraction`` for every example; unbiased without weights."""
        return Decision(torch.full_like(examples.last_loss_N, 1.0 - self.skip_fraction))
