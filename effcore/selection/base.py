"""What every selection policy is: known scores in, inclusion probabilities out.

A pass over the data fixes one uniform number per example; an example is drawn in the
pass if its number falls below its inclusion probability. A policy only decides the
probabilities; order, packing and weighting are the same for all (``effcore.passes``).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from effcore.registry import Registry


@dataclass
class Pool:
    """What is known of each example, all on the training device.

    Attributes:
        last_loss_N: float32, not negative, the loss when last trained on; ``inf`` until then.
        pass_index: The pass about to be decided, from 0.
        loss_kind: ``cross_entropy`` or ``squared_error``.
        progress: Share of the run behind us, 0 to 1.
    """

    last_loss_N: torch.Tensor
    pass_index: int
    loss_kind: str
    progress: float = 0.0

    def by_loss(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the losses in ascending order and whose they are (int64); ties by index.

        Floats that are not negative are ordered as their bits are, and PyTorch sorts whole
        numbers ten times as fast on a CPU.
        """
        bits_N, order_N = torch.sort(self.last_loss_N.view(torch.int32), stable=True)
        return bits_N.view(torch.float32), order_N

    def gradient_size(self, loss_N: torch.Tensor) -> torch.Tensor:
        """Return float64 stand-ins for the gradient's size at each loss; 0 where unknown.

        Cross-entropy: the loss itself. Squared error: its square root, since the gradient
        of ``e**2`` is proportional to ``e``.
        """
        size = loss_N.sqrt() if self.loss_kind == "squared_error" else loss_N
        return torch.where(loss_N.isfinite(), size, 0.0).double()


@dataclass(frozen=True)
class Decision:
    """A policy's answer for one pass.

    Attributes:
        pi_N: float32 inclusion probabilities in [0, 1].
        threshold: 0-d tensor, the loss up to which examples count as easy; ``None``
            where the policy does not cut by loss.
        weight_N: float32 example weights, or ``None`` for 1 everywhere.
    """

    pi_N: torch.Tensor
    threshold: torch.Tensor | None = None
    weight_N: torch.Tensor | None = None


@dataclass(frozen=True)
class SelectionPolicy(ABC):
    """A rule that gives each example its inclusion probability; knobs are its fields.

    A policy that sets a probability of 0 is ``biased``: no weighting can make up for
    what it never draws. Others may declare a knob named ``correction``, c in [0, 1]; each
    drawn example is then weighted by pi**-c (:func:`correction_weights`).
    """

    id: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    rank: ClassVar[int] = 50
    biased: ClassVar[bool] = False

    @abstractmethod
    def inclusion(self, pool: Pool) -> Decision:
        """Return the inclusion probabilities for the pass; reads no value to the host."""

    def moments(self) -> tuple[float, ...]:
        """Return shares of the run, 0 to 1, at which to be asked again within a pass."""
        return ()

    def decision_flops(self, n: int) -> float:
        """Return the analytic cost of one decision over ``n`` examples, in FLOPs."""
        return float(n)


def correction_weights(pi_N: torch.Tensor, correction: float) -> torch.Tensor:
    """Return pi**-c: c = 1 is Horvitz-Thompson (1952), unbiased; c = 0 leaves all at 1."""
    return pi_N.clamp_min(torch.finfo(pi_N.dtype).tiny).pow(-correction)


def sorting_flops(n: int) -> float:
    """Return n log2 n, one comparison counted as one FLOP."""
    return n * math.log2(max(n, 2))


SELECTIONS: Registry[SelectionPolicy] = Registry("selection policy", "effcore.selection")
