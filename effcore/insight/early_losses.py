"""Per-example losses early in a real training on digits, for the cut and weight explanations."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch

from effcore.insight.multi_seed_learner import EPOCHS, LOSS_KIND, MultiSeedLearner, steps_for_frac
from effcore.policies.selection.base import SELECTIONS, ExampleState

#: Epochs after which the losses are copied.
_SNAPSHOT_EPOCHS = (1, 2)
#: Low, so that losses of these early epochs are spread like those of larger data sets.
_PEAK_LR = 0.01


class EarlyLosses(NamedTuple):
    """Last loss of each example after two successive epochs of dense training, float32 (N,).

    Attributes:
        before: Losses after the earlier epoch, which a policy would know.
        now: Losses after the later epoch.
        steps: Steps taken by then.
    """

    before: torch.Tensor
    now: torch.Tensor
    steps: int


@functools.cache
def train_early_losses() -> EarlyLosses:
    """Train the small network densely for a few epochs; the result is deterministic."""
    learner = MultiSeedLearner(SELECTIONS.get("dense")(), steps_for_frac(1.0), _PEAK_LR)
    before, now = (_losses_after(learner, epochs) for epochs in _SNAPSHOT_EPOCHS)
    return EarlyLosses(before, now, learner.steps)


def _losses_after(learner: MultiSeedLearner, epochs: int) -> torch.Tensor:
    while learner.steps < steps_for_frac(epochs / EPOCHS):
        learner.step()
    return learner.last_loss_SN[0].clone()


def example_state_of(loss_N: torch.Tensor, epoch_index: int = _SNAPSHOT_EPOCHS[-1]) -> ExampleState:
    """Return the example state with these losses, halfway through a run."""
    return ExampleState(loss_N, epoch_index, LOSS_KIND, progress=0.5)
