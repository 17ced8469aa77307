"""Batch selection for training loops outside Effcore.

It uses the same code as Effcore's own runs: with the same policy, knobs, seed and losses, a
:class:`Selector` yields exactly the batches of a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from effcore.knobs import with_knobs
from effcore.policies.selection.base import (
    LOSS_KINDS,
    SELECTIONS,
    BatchOutputs,
    BudgetState,
    SelectionPolicy,
)
from effcore.policies.update.every_step import EveryStep
from effcore.training.checkpoint_tensors import copy_state_to_host
from effcore.training.sampler import Sampler, stop_after_empty_epochs


class Selector:
    """Yields the batches to train on, by a selection policy, until the training is over.

    Iterating yields int64 indices, always a full batch; one loop covers all epochs, and examples
    that do not fill the last batch of an epoch are carried into the next. Call :meth:`loss`
    after each forward pass: it stores the losses, which decide the next epoch, and returns
    their mean. The device is read once per epoch, never per step.

    Args:
        policy: Id of a selection policy that needs no scoring passes, additional forward passes or
            other models (all but ``selective-backprop``, ``rho-loss``, ``kakurenbo``).
        examples: Number of training examples.
        batch_size: Examples per step.
        epochs: Epochs of full training, the 100% of the compute. Training ends after as many.
        budget: If given, training ends at this share of the steps of full training instead, so
            that skipping allows more epochs. The cost of selection is not counted here.
        seed: Seed of orders and draws.
        loss_kind: ``cross_entropy`` or ``squared_error``.
        classes: int64, shape (examples,), class of each example, for policies with a class floor.
        device: Device of the stored losses and the indices.
        knobs: The policy's knobs by name.

    Attributes:
        progress: Share of the training completed in the middle of the current step, 0 to 1. A
            learning-rate schedule should follow it.
        steps: Batches yielded so far.

    Raises:
        ValueError: An argument is not allowed; the message says what is.
    """

    def __init__(
        self,
        policy: str,
        *,
        examples: int,
        batch_size: int,
        epochs: int,
        budget: float | None = None,
        seed: int = 0,
        loss_kind: str = "cross_entropy",
        classes: torch.Tensor | None = None,
        device: str | torch.device = "cpu",
        **knobs: Any,
    ) -> None:
        _check_whole_number("examples", examples, 1, None)
        _check_whole_number("batch_size", batch_size, 1, examples)
        _check_whole_number("epochs", epochs, 1, None)
        chosen = with_knobs(selector_policy(policy), knobs)
        _check_arguments(examples, budget, loss_kind, classes)
        device = torch.device(device)
        self._sampler = Sampler(
            chosen,
            examples,
            batch_size,
            seed,
            loss_kind=loss_kind,
            group_N=None if classes is None else classes.to(device, torch.int64),
            device=device,
        )
        self._total_examples = float(epochs * examples)
        self._budget_examples = None if budget is None else budget * self._total_examples
        if self._budget_examples is not None and self._budget_examples < batch_size:
            raise ValueError(
                f"budget={budget:g} is not allowed here: one batch costs more than that; choose at "
                f"least {batch_size / self._total_examples:.2g}"
            )
        self._weight_N = torch.ones(examples, device=device)  # weight when last drawn
        self._last_batch: torch.Tensor | None = None
        self._epoch_under_way = False
        self._considered = 0  # examples, at the last step
        self._empty_epochs = 0
        self.progress, self.steps = 0.0, 0

    @property
    def skip_fraction(self) -> float:
        """Share of the considered examples that was skipped so far, 0 to 1."""
        considered = self._sampler.epoch_sampler.considered
        return 1.0 - self._spent_examples / considered if considered else 0.0

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Yield the indices of each batch, int64, shape (batch_size,).

        A second iteration continues where the first one stopped.
        """
        while self._begin_or_resume_epoch():
            before = self.steps
            while (batch := self._next_batch()) is not None:
                yield batch
            self._epoch_under_way = False
            self._empty_epochs = 0 if self.steps > before else self._empty_epochs + 1
            stop_after_empty_epochs(self._sampler.policy, self._empty_epochs)

    def loss(
        self,
        idx_B: torch.Tensor,
        losses_B: torch.Tensor,
        outputs: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Store the losses of a batch and return the loss to call ``backward`` on, 0-d.

        Args:
            idx_B: The yielded indices, int64. A loader that prefetches may return them as another
                tensor. If an example is then in a batch two times, drawn in two epochs, the
                later weight applies to both.
            losses_B: The loss of each example, not negative (``reduction="none"``).
            outputs: The model's outputs, shape (B, ...); needed by ``stale-pps``,
                ``el2n-pps`` and ``mastered`` only.
            targets: The targets; needed by the same policies.

        Returns:
            The mean of the losses, weighted if the policy sets weights.

        Raises:
            ValueError: Shapes do not match, or outputs and targets are missing.
        """
        sampler, detached_losses_B = self._sampler, losses_B.detach().float()
        if losses_B.shape != idx_B.shape or idx_B.ndim != 1:
            raise ValueError(
                f"losses_B of shape {tuple(losses_B.shape)} is not allowed: expected one loss for "
                f'each of the {idx_B.numel()} indices; compute them with reduction="none"'
            )
        if not sampler.needs_batch_outputs:
            sampler.record_losses(idx_B, detached_losses_B)
        elif outputs is None or targets is None:
            raise ValueError(
                f"policy {sampler.policy.id!r} needs outputs and targets, which are missing: pass "
                "the model's outputs and the targets to loss()"
            )
        else:
            kind, epoch_index = sampler.example_state.loss_kind, sampler.epoch_sampler.epoch_index
            sampler.record_batch_outputs(
                BatchOutputs(idx_B, detached_losses_B, outputs.detach(), targets, epoch_index, kind)
            )
        return (losses_B * self._batch_weights(idx_B)).mean()

    def state_dict(self) -> dict[str, Any]:
        """Return the state, as tensors and plain values that ``torch.save`` accepts.

        Call it between two steps.
        """
        own = {
            "steps": self.steps,
            "progress": self.progress,
            "under_way": self._epoch_under_way,
            "considered": self._considered,
        }
        state = copy_state_to_host(self._sampler.state()) | {
            "weight_N": copy_state_to_host(self._weight_N)
        }
        tensors: dict[str, Any] = _map_leaves(state, np.ndarray, torch.from_numpy)
        return {**own, "chooser": tensors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` of a selector with the same arguments returned."""
        sampler_state = _map_leaves(
            state["chooser"], torch.Tensor, lambda tensor: tensor.cpu().numpy()
        )
        self._weight_N.copy_(torch.from_numpy(sampler_state.pop("weight_N")))
        self._sampler.restore(sampler_state)
        self.steps, self.progress = state["steps"], state["progress"]
        self._epoch_under_way, self._considered = state["under_way"], state["considered"]

    # Progress, counted in examples -----------------------------------------------------------

    @property
    def _spent_examples(self) -> float:
        return float(self.steps * self._sampler.batch_size)

    def _budget_state(self) -> BudgetState:
        total = self._total_examples if self._budget_examples is None else None
        return BudgetState(
            self._sampler.epoch_sampler.considered,
            self._spent_examples,
            total,
            self._budget_examples,
        )

    def _progress_at(self, considered: float, spent: float) -> float:
        if self._budget_examples is None:
            return considered / self._total_examples
        return min(1.0, spent / self._budget_examples)

    def _progress_now(self) -> float:
        return self._progress_at(self._sampler.epoch_sampler.considered, self._spent_examples)

    def _budget_exhausted(self) -> bool:
        """Return whether the budget does not allow another step; ``False`` without a budget."""
        remaining = (
            np.inf
            if self._budget_examples is None
            else self._budget_examples * (1 + 1e-12) - self._spent_examples
        )
        return bool(remaining < self._sampler.batch_size)

    def _begin_or_resume_epoch(self) -> bool:
        """Begin an epoch or continue the current one; returns whether the training goes on."""
        sampler = self._sampler
        if self._epoch_under_way:
            return True
        if self._budget_exhausted() or (
            self._budget_examples is None and self._progress_now() >= 1.0
        ):
            return False
        sampler.begin_epoch(self._progress_now(), self._budget_state())
        self._decide_epoch()
        self._epoch_under_way = True
        return True

    def _decide_epoch(self) -> None:
        self._sampler.decide_epoch(self._progress_now(), self._budget_state(), EveryStep(), None)

    def _batch_weights(self, idx_B: torch.Tensor) -> torch.Tensor:
        weight_B = self._sampler.epoch_sampler.weight_B
        if weight_B is not None and idx_B is self._last_batch:
            return weight_B
        return self._weight_N.index_select(0, idx_B)

    def _next_batch(self) -> torch.Tensor | None:
        sampler = self._sampler
        if self._progress_now() >= sampler.redecide_progress:
            self._decide_epoch()
        batch = None if self._budget_exhausted() else sampler.next_batch()
        if batch is None:
            return None
        before, self._considered = self._considered, sampler.epoch_sampler.considered
        middle = (before + self._considered) / 2
        self.progress = self._progress_at(middle, self._spent_examples + sampler.batch_size / 2)
        self.steps += 1
        self._last_batch = batch
        weight_B = sampler.epoch_sampler.weight_B
        if weight_B is None:
            self._weight_N.index_fill_(0, batch, 1.0)
        else:
            self._weight_N.index_copy_(0, batch, weight_B)
        return batch


def selector_policy(policy: str) -> SelectionPolicy:
    """Return a selection policy that a training loop outside Effcore can use.

    Raises:
        ValueError: It does not exist, or needs forward passes besides those of training steps.
    """
    chosen = SELECTIONS.get(policy)()
    if chosen.needs_extra_forward():
        others = ", ".join(cls.id for cls in SELECTIONS if not cls().needs_extra_forward())
        raise ValueError(
            f"policy {policy!r} is not allowed here: it needs forward passes besides those that "
            f"train; choose one of {others}"
        )
    return chosen


def _check_arguments(
    examples: int, budget: float | None, loss_kind: str, classes: torch.Tensor | None
) -> None:
    if loss_kind not in LOSS_KINDS:
        raise ValueError(
            f"loss_kind={loss_kind!r} is not allowed: choose one of {', '.join(LOSS_KINDS)}"
        )
    if budget is not None and not 0.0 < budget < np.inf:
        raise ValueError(
            f"budget={budget} is not allowed: expected a share of the steps of full training, "
            "above 0; 0.6 spends 60% of them"
        )
    if classes is not None and classes.shape != (examples,):
        raise ValueError(
            f"classes of shape {tuple(classes.shape)} is not allowed: expected one class for each "
            f"of the {examples} examples"
        )


def _check_whole_number(name: str, value: Any, lo: int, hi: int | None) -> None:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or value < lo or (hi is not None and value > hi):
        upper = "" if hi is None else f" to {hi}"
        raise ValueError(
            f"{name}={value!r} is not allowed: expected a whole number from {lo}{upper}; choose one"
        )


def _map_leaves(node: Any, kind: type, change: Any) -> Any:
    """Return a nested state with every leaf of type ``kind`` converted by ``change``."""
    if isinstance(node, kind):
        return change(node)
    if isinstance(node, dict):
        return {name: _map_leaves(child, kind, change) for name, child in node.items()}
    if isinstance(node, list | tuple):
        return [_map_leaves(child, kind, change) for child in node]
    return node
