"""Losses of real digits, one training under way: what the cut and the weights are shown on."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch

from effcore.explain.learner import EPOCHS, LOSS_KIND, Learner, steps_of
from effcore.selection.base import SELECTIONS, Pool

#: Passes after which the losses are looked at.
_LOOKS = (1, 2)
#: Gentle, so that the losses of so early a pass are spread as those of larger data are.
_RATE = 0.01


class Losses(NamedTuple):
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
def losses() -> Losses:
    """Train the small network densely for some passes; the same losses every time."""
    learner = Learner(SELECTIONS.get("dense")(), steps_of(1.0), _RATE)
    before, now = (_after(learner, passes) for passes in _LOOKS)
    return Losses(before, now, learner.steps)


def _after(learner: Learner, passes: int) -> torch.Tensor:
    while learner.steps < steps_of(passes / EPOCHS):
        learner.step()
    return learner.last_loss_SN[0].clone()


def pool_of(loss_N: torch.Tensor, pass_index: int = _LOOKS[-1]) -> Pool:
    """Return what a policy knows that knows these losses, half of its run behind it."""
    return Pool(loss_N, pass_index, LOSS_KIND, progress=0.5)
