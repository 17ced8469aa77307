"""Losses of real digits, one training under way: what the cut and the weights are shown on."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch

from effcore.insight.multi_seed_learner import EPOCHS, LOSS_KIND, MultiSeedLearner, steps_for_frac
from effcore.policies.selection.base import SELECTIONS, ExampleState

#: Passes after which the losses are looked at.
_SNAPSHOT_EPOCHS = (1, 2)
#: Gentle, so that the losses of so early a pass are spread as those of larger data are.
_PEAK_LR = 0.01


class EarlyLosses(NamedTuple):
    """The last loss of each example at two passes of a dense training of seed 0, float32 (N,).

    Attributes:
        before: As a policy knew them, one pass ago.
        now: As they turned out to be.
        steps: Steps taken by then.
    """

    before: torch.Tensor
    now: torch.Tensor
    steps: int


@functools.cache
def train_early_losses() -> EarlyLosses:
    """Train the small network densely for some passes; the same losses every time."""
    learner = MultiSeedLearner(SELECTIONS.get("dense")(), steps_for_frac(1.0), _PEAK_LR)
    before, now = (_losses_after(learner, passes) for passes in _SNAPSHOT_EPOCHS)
    return EarlyLosses(before, now, learner.steps)


def _losses_after(learner: MultiSeedLearner, epochs: int) -> torch.Tensor:
    while learner.steps < steps_for_frac(epochs / EPOCHS):
        learner.step()
    return learner.last_loss_SN[0].clone()


def example_state_of(loss_N: torch.Tensor, epoch_index: int = _SNAPSHOT_EPOCHS[-1]) -> ExampleState:
    """Return what a policy knows that knows these losses, half of its run behind it."""
    return ExampleState(loss_N, epoch_index, LOSS_KIND, progress=0.5)
