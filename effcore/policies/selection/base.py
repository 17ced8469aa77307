"""Base class of selection policies: past losses and scores in, inclusion probabilities out.

Each epoch fixes one uniform number per example; an example is drawn in the epoch if its
number is below its inclusion probability. A policy decides only the probabilities. Order,
packing into batches and weighting are the same for all (``effcore.training.epoch_sampler``).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from effcore.knobs import knob
from effcore.records.deprecation import with_old_keywords, with_old_names
from effcore.records.settings import Settings
from effcore.registry import Registry

#: A policy's tensors by name, stored between decisions, all on the training device.
PolicyMemory = dict[str, torch.Tensor]
#: Kinds of loss; the kind decides how the gradient's size follows from the loss.
LOSS_KINDS = ("cross_entropy", "squared_error")
#: Smallest share of the examples that an epoch draws to hold a budget.
_MIN_KEEP_FRACTION = 0.02


@with_old_names
@dataclass(frozen=True, slots=True)
class BudgetState:
    """What a run has considered and spent so far, and where it ends.

    The unit is one example: of compute, the FLOPs of dense training on one example.

    Attributes:
        considered: Examples considered so far.
        spent: Compute spent so far, selection included.
        total: Examples the run will consider, if it ends after its epochs; else ``None``.
        budget: Compute the run may spend, if it ends by a budget; else ``None``.
    """

    considered: float = 0.0
    spent: float = 0.0
    total: float | None = None
    budget: float | None = None

    def keep_fraction(self, skip_fraction: float, dense_end: float = 0.0) -> float:
        """Return the share of examples to draw from now on to reach ``skip_fraction`` over the run.

        A deviation so far is corrected before the dense end begins.

        Args:
            skip_fraction: Share of the compute to skip, over the whole run.
            dense_end: Share of the run, at its end, in which nothing is skipped.
        """
        keep = 1.0 - skip_fraction
        if self.budget is None:
            total_considered = self.total or 0.0
            total_spent = keep * total_considered
            dense_examples = dense_end * total_considered
        else:
            total_spent, total_considered = self.budget, self.budget / keep
            dense_examples = dense_end * total_spent
        remaining = total_considered - dense_examples - self.considered
        if remaining <= 0:
            return keep
        affordable = total_spent - dense_examples - self.spent
        return min(1.0, max(_MIN_KEEP_FRACTION, affordable / remaining))


@with_old_names
@dataclass
class ExampleState:
    """Per-example state that policies decide by; all tensors on the training device.

    Attributes:
        last_loss_N: float32, not negative, loss when last trained on; ``inf`` if unseen.
        epoch_index: The epoch about to be decided, from 0.
        loss_kind: ``cross_entropy`` or ``squared_error``.
        progress: Share of the run completed, 0 to 1.
        memory: The policy's own tensors.
        budget_state: Compute spent and allowed.
        group_N: int64, class of each example; ``None`` for tasks without classes.
        groups: Number of classes.
        active_mask_N: bool, examples that can be drawn at the current resolution; ``None`` for
            all.
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
        """Return the losses in ascending order and the examples' indices (int64); ties by index.

        The loss of an example that cannot be drawn is ``inf``. Sorting uses the bits as int32:
        for floats that are not negative the order is the same, and PyTorch sorts integers ten
        times as fast on a CPU.
        """
        loss_N = self.last_loss_N
        if self.active_mask_N is not None:
            loss_N = torch.where(self.active_mask_N, loss_N, torch.inf)
        bits_N, order_N = torch.sort(loss_N.view(torch.int32), stable=True)
        return bits_N.view(torch.float32), order_N

    def count_of_share(self, share: float) -> int | torch.Tensor:
        """Return ``share`` times the number of examples that can be drawn, rounded down."""
        if self.active_mask_N is None:
            return int(share * len(self.last_loss_N))
        return (share * self.active_mask_N.sum().double()).floor()

    def gradient_size(self, loss_N: torch.Tensor) -> torch.Tensor:
        """Return an approximate gradient size for each loss, float64; 0 where the loss is unknown.

        Cross-entropy: the loss itself. Squared error: its square root, since the gradient
        of ``e**2`` is proportional to ``e``.
        """
        size = loss_N.sqrt() if self.loss_kind == "squared_error" else loss_N
        return torch.where(loss_N.isfinite(), size, 0.0).double()


@dataclass(frozen=True)
class Decision:
    """A policy's decision for one epoch.

    Attributes:
        pi_N: float32 inclusion probabilities in [0, 1].
        threshold: 0-d tensor, the loss up to which examples count as easy; ``None``
            if the policy does not cut by loss.
        weight_N: float32 example weights, or ``None`` for 1 everywhere.
    """

    pi_N: torch.Tensor
    threshold: torch.Tensor | None = None
    weight_N: torch.Tensor | None = None


@with_old_names
@dataclass(frozen=True)
class BatchOutputs:
    """Losses and outputs of a forward pass over some examples, without graph.

    Attributes:
        idx_B: int64, the examples' indices.
        losses_B: float32, the examples' losses.
        outputs: Outputs of the model, shape (B, ...).
        targets: Targets of the examples.
        epoch_index: The current epoch.
        loss_kind: As in :class:`ExampleState`.
    """

    idx_B: torch.Tensor
    losses_B: torch.Tensor
    outputs: torch.Tensor
    targets: torch.Tensor
    epoch_index: int
    loss_kind: str


@with_old_names
@dataclass(frozen=True)
class SelectionPolicy(ABC):
    """A rule that gives each example its inclusion probability; knobs are its fields.

    A policy that sets a probability of 0 is ``biased``: no weighting corrects for examples
    that are never drawn. Others may declare a knob named ``correction``, c in [0, 1]; each
    drawn example is then weighted by pi**-c (:func:`correction_weights`).
    """

    id: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    rank: ClassVar[int] = 50
    #: Knob values that ``bench savings`` tries on the validation split, the defaults first.
    tuning_grid: ClassVar[tuple[Settings, ...]] = ({},)
    biased: ClassVar[bool] = False
    #: Whether examples that an epoch skipped are run forward at its end to update their losses;
    #: these FLOPs are counted.
    refreshes_skipped_losses: ClassVar[bool] = False
    #: Whether the policy needs each example's irreducible loss, in memory as ``irreducible_N``.
    needs_irreducible: ClassVar[bool] = False

    @abstractmethod
    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        """Return the inclusion probabilities for the epoch; reads no value to the host."""

    def redecide_at(self) -> tuple[float, ...]:
        """Return the progress values, 0 to 1, at which to decide again within an epoch."""
        return ()

    def decision_flops(self, n: int) -> float:
        """Return the analytic cost of one decision over ``n`` examples, in FLOPs."""
        return float(n)

    def initial_memory(self, n: int, device: torch.device) -> PolicyMemory:
        """Return the initial values of the tensors that the policy stores besides last losses."""
        return {}

    def on_batch_end(self, memory: PolicyMemory, batch: BatchOutputs) -> None:
        """Update the memory after a step, in place; reads no value to the host."""
        return None

    def batch_end_flops(self, output_count: int) -> float:
        """Return the analytic cost of :meth:`on_batch_end` for so many output numbers, in FLOPs."""
        return 0.0

    def on_epoch_start(self, memory: PolicyMemory, examples: ExampleState) -> None:
        """Update the memory at the start of an epoch, in place, before its decision."""
        return None

    def scoring_batch_size(self, batch_size: int) -> int:
        """Return how many drawn examples are scored per batch; ``batch_size`` means no scoring."""
        return batch_size

    def on_candidates_scored(self, memory: PolicyMemory, candidates: BatchOutputs) -> None:
        """Update the memory after candidates were scored, in place, before the next choice."""
        return None

    def choose_batch(
        self, examples: ExampleState, candidates: BatchOutputs, count: int, uniform: torch.Tensor
    ) -> torch.Tensor:
        """Return the positions, among the candidates, of the ``count`` examples to train on.

        Args:
            examples: State of all examples.
            candidates: Losses and outputs of the scored candidates.
            count: Examples per step.
            uniform: float64, 0-d, a uniform number in [0, 1) drawn for this choice.
        """
        raise NotImplementedError(f"{self.id!r} scores no candidates")

    def needs_extra_forward(self) -> bool:
        """Return whether the policy needs forward passes besides those of training steps."""
        scores = self.scoring_batch_size(1000) > 1000
        return scores or self.refreshes_skipped_losses or self.needs_irreducible

    def choosing_flops(self, candidates: int) -> float:
        """Return the analytic cost of choosing a batch among so many candidates, in FLOPs."""
        return 0.0

    def lr_multiplier(self, drawn_fraction: float) -> float:
        """Return the factor on the learning rate for an epoch that draws this share."""
        return 1.0


def correction_weights(pi_N: torch.Tensor, correction: float) -> torch.Tensor:
    """Return pi**-c: c = 1 is Horvitz-Thompson (1952), unbiased; c = 0 leaves all at 1."""
    return pi_N.clamp_min(torch.finfo(pi_N.dtype).tiny).pow(-correction)


def correction_knob() -> float:
    """Declare the correction exponent of a policy with normalised weights; 0 by default."""
    exponent: float = knob(
        0.0,
        lo=0.0,
        hi=1.0,
        step=0.05,
        label="Correction",
        help="At 1 rarely drawn examples weigh more, which removes the bias; at 0 all weigh alike.",
    )
    return exponent


@with_old_keywords
def normalised_correction_weights(
    pi_N: torch.Tensor, correction: float, active_mask_N: torch.Tensor | None = None
) -> torch.Tensor | None:
    """Return (pi / mean(pi))**-c, which keeps the scale of a batch's mean loss.

    With c = 1 the expected mean of a batch's weighted losses is the mean over all examples;
    with c = 0 there are no weights and the result is ``None``.

    Args:
        pi_N: Inclusion probabilities.
        correction: c.
        active_mask_N: bool, examples that can be drawn, over which the mean is taken; ``None``
            for all.
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
