"""What every selection policy is: known scores in, inclusion probabilities out.

An epoch fixes one uniform number per example; an example is drawn in the epoch if its
number falls below its inclusion probability. A policy only decides the probabilities; order,
packing and weighting are the same for all (``effcore.training.epoch_sampler``).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from effcore.knobs import knob
from effcore.registry import Registry

#: Tensors by name that a policy keeps between decisions, all on the training device.
PolicyMemory = dict[str, torch.Tensor]
#: How losses may be measured, which decides how large a gradient they stand for.
LOSS_KINDS = ("cross_entropy", "squared_error")
#: Smallest share of the examples that a budget lets a pass draw.
_MIN_KEEP_FRACTION = 0.02


@dataclass(frozen=True, slots=True)
class BudgetState:
    """What a run has considered and spent, and where it ends; the unit is one example.

    Attributes:
        considered: Examples considered so far.
        spent: What was spent so far, selecting included, in dense training of so many examples.
        total: Examples that the run will consider, where it ends after its passes.
        budget: What the run may spend, where it ends by that.
    """

    considered: float = 0.0
    spent: float = 0.0
    total: float | None = None
    budget: float | None = None

    def keep_fraction(self, skip_fraction: float, dense_end: float = 0.0) -> float:
        """Return which share of examples to draw from now on, so that the run skips so much.

        What was drawn too much or too little so far is made up for until the dense end.

        Args:
            skip_fraction: Share of the compute, over the whole run, to be skipped.
            dense_end: Share of the run, at its end, in which nothing is skipped.
        """
        keep = 1.0 - skip_fraction
        if self.budget is None:
            considers = self.total or 0.0
            spends = keep * considers
            at_the_end = dense_end * considers
        else:
            spends, considers = self.budget, self.budget / keep
            at_the_end = dense_end * spends
        left = considers - at_the_end - self.considered
        if left <= 0:
            return keep
        return min(1.0, max(_MIN_KEEP_FRACTION, (spends - at_the_end - self.spent) / left))


@dataclass
class ExampleState:
    """What is known of each example, all on the training device.

    Attributes:
        last_loss_N: float32, not negative, the loss when last trained on; ``inf`` until then.
        epoch_index: The pass about to be decided, from 0.
        loss_kind: ``cross_entropy`` or ``squared_error``.
        progress: Share of the run behind us, 0 to 1.
        memory: What the policy itself has kept.
        budget_state: What was spent and what may be.
        group_N: int64, the class of each example; ``None`` where there are none.
        groups: Number of classes.
        active_mask_N: bool, who can be drawn at the present resolution; ``None`` for all.
    """

    last_loss_N: torch.Tensor
    epoch_index: int
    loss_kind: str
    progress: float = 0.0
    memory: Mapping[str, torch.Tensor] = field(default_factory=dict)
    budget_state: BudgetState = BudgetState(total=1.0)
    group_N: torch.Tensor | None = None
    groups: int = 0
    active_mask_N: torch.Tensor | None = None

    def sorted_losses(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the losses in ascending order and whose they are (int64); ties by index.

        Whoever cannot be drawn counts as unknown. Floats that are not negative are ordered as
        their bits are, and PyTorch sorts whole numbers ten times as fast on a CPU.
        """
        loss_N = self.last_loss_N
        if self.active_mask_N is not None:
            loss_N = torch.where(self.active_mask_N, loss_N, torch.inf)
        bits_N, order_N = torch.sort(loss_N.view(torch.int32), stable=True)
        return bits_N.view(torch.float32), order_N

    def count_of_share(self, share: float) -> int | torch.Tensor:
        """Return how many a share of those who can be drawn are, rounded down."""
        if self.active_mask_N is None:
            return int(share * len(self.last_loss_N))
        return (share * self.active_mask_N.sum().double()).floor()

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
class BatchOutputs:
    """What a forward pass showed of some examples, without graph.

    Attributes:
        idx_B: int64, who they are.
        losses_B: float32, their losses.
        outputs: What the model answered, shape (B, ...).
        targets: What it should have answered.
        epoch_index: The pass under way.
        loss_kind: As in :class:`ExampleState`.
    """

    idx_B: torch.Tensor
    losses_B: torch.Tensor
    outputs: torch.Tensor
    targets: torch.Tensor
    epoch_index: int
    loss_kind: str


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
    #: Whether what a pass skipped is run forward at its end, to know its loss; billed.
    refreshes_skipped_losses: ClassVar[bool] = False
    #: Whether the policy needs each example's irreducible loss, kept as ``irreducible_N``.
    needs_irreducible: ClassVar[bool] = False

    @abstractmethod
    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        """Return the inclusion probabilities for the pass; reads no value to the host."""

    def redecide_at(self) -> tuple[float, ...]:
        """Return shares of the run, 0 to 1, at which to be asked again within a pass."""
        return ()

    def decision_flops(self, n: int) -> float:
        """Return the analytic cost of one decision over ``n`` examples, in FLOPs."""
        return float(n)

    def initial_memory(self, n: int, device: torch.device) -> PolicyMemory:
        """Return what the policy keeps besides the last losses, as it is at first."""
        return {}

    def on_batch_end(self, memory: PolicyMemory, batch: BatchOutputs) -> None:
        """Keep what a step showed, in place; reads no value to the host."""
        return None

    def batch_end_flops(self, output_count: int) -> float:
        """Return the analytic cost of :meth:`observe` for so many numbers put out."""
        return 0.0

    def on_epoch_start(self, memory: PolicyMemory, examples: ExampleState) -> None:
        """Keep what matters when a pass begins, in place, before it is decided."""
        return None

    def scoring_batch_size(self, batch_size: int) -> int:
        """Return how many drawn examples are scored for a batch; ``batch_size`` scores none."""
        return batch_size

    def on_candidates_scored(self, memory: PolicyMemory, candidates: BatchOutputs) -> None:
        """Keep what scoring showed, in place, before the next choice."""
        return None

    def choose_batch(
        self, examples: ExampleState, candidates: BatchOutputs, count: int, uniform: torch.Tensor
    ) -> torch.Tensor:
        """Return the places, among the scored, of the ``count`` that are trained on.

        Args:
            examples: What is known of all examples.
            candidates: What a forward pass showed of the candidates.
            count: Examples per step.
            uniform: float64, 0-d, a number drawn for this choice.
        """
        raise NotImplementedError(f"{self.id!r} scores no candidates")

    def needs_extra_forward(self) -> bool:
        """Whether the policy needs forward passes besides those that train."""
        scores = self.scoring_batch_size(1000) > 1000
        return scores or self.refreshes_skipped_losses or self.needs_irreducible

    def choosing_flops(self, candidates: int) -> float:
        """Return the analytic cost of choosing a batch among so many, in FLOPs."""
        return 0.0

    def lr_multiplier(self, drawn_fraction: float) -> float:
        """Return what the learning rate is multiplied by where a pass draws this share."""
        return 1.0


def correction_weights(pi_N: torch.Tensor, correction: float) -> torch.Tensor:
    """Return pi**-c: c = 1 is Horvitz-Thompson (1952), unbiased; c = 0 leaves all at 1."""
    return pi_N.clamp_min(torch.finfo(pi_N.dtype).tiny).pow(-correction)


def correction_knob() -> float:
    """Declare the correction exponent, off at first, of a policy that scales its weights."""
    exponent: float = knob(
        0.0,
        lo=0.0,
        hi=1.0,
        step=0.05,
        label="Correction",
        help="At 1 what is drawn rarely weighs more for it, without bias; at 0 all weigh alike.",
    )
    return exponent


def normalised_correction_weights(
    pi_N: torch.Tensor, correction: float, active_mask_N: torch.Tensor | None = None
) -> torch.Tensor | None:
    """Return (pi / mean(pi))**-c: the mean over a batch then keeps its size.

    With c = 1 the expected mean of a batch's weighted losses is the mean of all; with c = 0
    there are no weights.

    Args:
        pi_N: Inclusion probabilities.
        correction: c.
        active_mask_N: bool, who can be drawn, which is what the mean is over; ``None`` for all.
    """
    if correction == 0.0:
        return None
    mean = (
        pi_N.mean()
        if active_mask_N is None
        else (pi_N * active_mask_N).sum() / active_mask_N.sum().clamp_min(1)
    )
    return correction_weights(pi_N, correction) * mean**correction


def sorting_flops(n: int) -> float:
    """Return n log2 n, one comparison counted as one FLOP."""
    return n * math.log2(max(n, 2))


SELECTIONS: Registry[SelectionPolicy] = Registry("selection policy", "effcore.policies.selection")
