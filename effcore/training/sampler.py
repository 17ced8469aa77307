"""The sampler of a run: the selection policy, its per-example state, and the epochs it draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, replace

import numpy as np
import torch
from numpy.typing import NDArray

from effcore.knobs import values_of, with_knob, with_knobs, with_own_knobs
from effcore.policies.selection.base import (
    SELECTIONS,
    BatchOutputs,
    BudgetState,
    Decision,
    ExampleState,
    SelectionPolicy,
)
from effcore.policies.update.base import UpdatePolicy
from effcore.records import KnobValue, RunConfig
from effcore.tasks.base import Task
from effcore.training.checkpoint import State
from effcore.training.checkpoint_tensors import (
    copy_arrays_into,
    optional_tensor_from_array,
    restore_generator,
)
from effcore.training.epoch_sampler import SEED_STRIDE, EpochSampler

#: Epochs in a row without a step after which training ends with an error.
MAX_EMPTY_EPOCHS = 1000


def stop_after_empty_epochs(policy: SelectionPolicy, empty_epochs: int) -> None:
    """Raise an error if the policy drew no full batch for too many epochs.

    Args:
        policy: The selection policy.
        empty_epochs: Epochs in a row without a step.

    Raises:
        RuntimeError: There were ``MAX_EMPTY_EPOCHS`` of them.
    """
    if empty_epochs >= MAX_EMPTY_EPOCHS:
        raise RuntimeError(
            f"policy {policy.id!r} drew less than one batch in {MAX_EMPTY_EPOCHS} epochs: let it "
            "skip less, or revisit sooner"
        )


def make_sampler(config: RunConfig, task: Task, device: torch.device) -> Sampler:
    """Return the sampler of a run at its start."""
    policy = with_own_knobs(SELECTIONS.get(config.selection)(), config.knobs)
    return Sampler(
        policy,
        task.n_train,
        config.batch_size,
        config.seed,
        loss_kind=task.loss_kind,
        group_N=task.group_N,
        device=device,
    )


class Sampler:
    """Draws the batches of a run by a selection policy.

    Args:
        policy: Decides the inclusion probability of each example.
        n: Number of training examples.
        batch_size: Examples per step.
        seed: Seed of orders and draws.
        loss_kind: ``cross_entropy`` or ``squared_error``.
        group_N: int64, class of each example; ``None`` for tasks without classes.
        device: Device of all tensors.
    """

    def __init__(
        self,
        policy: SelectionPolicy,
        n: int,
        batch_size: int,
        seed: int,
        *,
        loss_kind: str,
        group_N: torch.Tensor | None,
        device: torch.device,
    ) -> None:
        self.n, self.batch_size, self.policy = n, batch_size, policy
        self.memory = policy.initial_memory(n, device)
        self.epoch_sampler = EpochSampler(n, batch_size, seed, device)
        unseen_N = torch.full((n,), torch.inf, device=device)
        groups = 0 if group_N is None else int(group_N.max()) + 1
        self.example_state = ExampleState(
            unseen_N, 0, loss_kind, memory=self.memory, group_N=group_N, groups=groups
        )
        self.decision = Decision(torch.ones_like(unseen_N))
        self.trained_N = torch.zeros_like(unseen_N)
        self.last_batch_B = torch.arange(batch_size, device=device)  # examples of the last step
        self.redecide_progress = math.inf  # progress at which to decide again within the epoch
        self.lr_multiplier = 1.0
        #: Whether the policy uses more of a step than its losses.
        self.needs_batch_outputs = (
            type(self.policy).on_batch_end is not SelectionPolicy.on_batch_end
        )
        self._choice_generator = torch.Generator(device=device)
        self._choice_generator.manual_seed(seed * SEED_STRIDE - 1)

    def state(self) -> State:
        """Return the current draw, the per-example state, and the policy's memory."""
        examples = self.example_state
        return {
            "knobs": values_of(self.policy),
            "memory": self.memory,
            "passes": self.epoch_sampler.state(),
            "pool": [examples.epoch_index, examples.progress, astuple(examples.budget_state)],
            "examples": self._example_tensors(),
            "threshold": self.decision.threshold,
            "ask_again_at": self.redecide_progress,
            "rate_factor": self.lr_multiplier,
            "open_N": examples.active_mask_N,
            "random": self._choice_generator.get_state(),
        }

    def restore(self, state: State) -> None:
        """Resume from a state of a run of the same configuration."""
        device = self.last_batch_B.device
        self.policy = with_own_knobs(self.policy, state["knobs"])
        if self.policy.needs_irreducible:  # computed before the first epoch
            self.memory.setdefault("irreducible_N", torch.empty_like(self.trained_N))
        copy_arrays_into(self.memory, state["memory"])
        self.epoch_sampler.restore(state["passes"])
        epoch_index, progress, budget_fields = state["pool"]
        self.example_state = replace(
            self.example_state,
            epoch_index=epoch_index,
            progress=progress,
            budget_state=BudgetState(*budget_fields),
            active_mask_N=optional_tensor_from_array(state["open_N"], device),
        )
        copy_arrays_into(self._example_tensors(), state["examples"])
        threshold = optional_tensor_from_array(state["threshold"], device)
        self.decision = replace(self.decision, threshold=threshold)
        self.redecide_progress, self.lr_multiplier = state["ask_again_at"], state["rate_factor"]
        restore_generator(self._choice_generator, state["random"])

    def _example_tensors(self) -> dict[str, torch.Tensor]:
        return {
            "last_loss_N": self.example_state.last_loss_N,
            "trained_N": self.trained_N,
            "batch_B": self.last_batch_B,
        }

    def set_knob(self, name: str, value: KnobValue) -> None:
        """Replace the policy by a copy with the new value."""
        self.policy = with_knob(self.policy, name, value)

    @property
    def scoring_batch_size(self) -> int:
        """Examples taken per step; more than a batch if the policy scores candidates."""
        return min(self.policy.scoring_batch_size(self.batch_size), self.n)

    def begin_epoch(self, progress: float, budget_state: BudgetState) -> None:
        """Fix a new order; :meth:`decide_epoch` must follow."""
        self.trained_N += self.epoch_sampler.drawn_N
        self.epoch_sampler.begin_epoch()
        self.policy.on_epoch_start(self.memory, self.current_example_state(progress, budget_state))

    def current_example_state(self, progress: float, budget_state: BudgetState) -> ExampleState:
        """Return the per-example state, with the current epoch, progress and budget."""
        index = max(self.epoch_sampler.epoch_index, 0)
        return replace(
            self.example_state, epoch_index=index, progress=progress, budget_state=budget_state
        )

    def decide_epoch(
        self,
        progress: float,
        budget_state: BudgetState,
        update_policy: UpdatePolicy,
        active_mask_N: torch.Tensor | None,
    ) -> tuple[NDArray[np.uint8], int]:
        """Decide and draw the part of the epoch that is not yet visited.

        Args:
            progress: Share of the run completed.
            budget_state: Compute spent and allowed.
            update_policy: May skip whole batches of the drawn examples.
            active_mask_N: bool, the examples that represent others at the current resolution;
                ``None`` if each represents itself.

        Returns:
            The drawn examples as packed bits (``numpy.packbits``), and their number.
        """
        self.example_state = replace(
            self.current_example_state(progress, budget_state), active_mask_N=active_mask_N
        )
        self.decision = _mask_decision(
            self.policy.inclusion_probabilities(self.example_state), active_mask_N
        )
        later = (point for point in self.policy.redecide_at() if point > progress)
        self.redecide_progress = min(later, default=math.inf)
        self.epoch_sampler.apply_decision(self.decision)
        drawn = self.epoch_sampler.drawn_N.cpu().numpy()
        n_active = self.n if active_mask_N is None else int(active_mask_N.sum())
        # If the resolution changed within the epoch, more examples may be drawn than are active.
        self.lr_multiplier = self.policy.lr_multiplier(min(1.0, drawn.sum() / n_active))
        if update_policy.skips_batches:
            self.epoch_sampler.skip_batches(
                update_policy.skipped_batches, self.example_state.last_loss_N
            )
            drawn = self.epoch_sampler.drawn_N.cpu().numpy()
        return np.packbits(drawn), int(drawn.sum())

    def preview_threshold(
        self, knob_values: Mapping[str, KnobValue], progress: float, budget_state: BudgetState
    ) -> torch.Tensor | None:
        """Return the loss threshold under other knob values, 0-d; changes nothing."""
        return (
            with_knobs(self.policy, knob_values)
            .inclusion_probabilities(self.current_example_state(progress, budget_state))
            .threshold
        )

    def next_batch(self) -> torch.Tensor | None:
        """Return the indices of the next batch or its candidates; ``None`` at the epoch's end."""
        return self.epoch_sampler.next_batch(self.scoring_batch_size)

    def choose_batch(self, candidates: BatchOutputs) -> torch.Tensor:
        """Return the positions of the candidates to train on."""
        uniform = torch.rand(
            (),
            generator=self._choice_generator,
            device=candidates.idx_B.device,
            dtype=torch.float64,
        )
        positions = self.policy.choose_batch(
            self.example_state, candidates, self.batch_size, uniform
        )
        self.policy.on_candidates_scored(self.memory, candidates)
        self.epoch_sampler.mark_chosen(
            candidates.idx_B, candidates.idx_B.index_select(0, positions)
        )
        return positions

    def record_batch_outputs(self, batch: BatchOutputs) -> None:
        """Store the losses of a forward pass and pass its outputs to the policy."""
        self.record_losses(batch.idx_B, batch.losses_B)
        self.policy.on_batch_end(self.memory, batch)

    def record_losses(self, idx_B: torch.Tensor, losses_B: torch.Tensor) -> None:
        """Store the losses of a step."""
        self.example_state.last_loss_N.index_copy_(0, idx_B, losses_B)

    def skipped_indices(self) -> torch.Tensor:
        """Return the indices that the finished epoch skipped, int64; reads the device."""
        skipped_N = ~self.epoch_sampler.drawn_N
        if self.example_state.active_mask_N is not None:
            skipped_N = skipped_N & self.example_state.active_mask_N
        return skipped_N.nonzero()[:, 0]


def _mask_decision(decision: Decision, active_mask_N: torch.Tensor | None) -> Decision:
    if active_mask_N is None:
        return decision
    return replace(decision, pi_N=decision.pi_N * active_mask_N)
