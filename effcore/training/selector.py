"""Who is trained on next, for a training loop of one's own.

The page's runs and a loop written elsewhere choose by the same code: with the same policy, knobs
and seed, and losses that are the same, a :class:`Selector` hands out the very batches of a run.
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
    """Hands out the batches to train on, by a selection policy, until the training is over.

    Iterating yields int64 indices, always a full batch of them; all passes are in the one loop,
    and what does not fill the last batch of a pass is carried into the next. After each forward
    pass :meth:`last_loss` keeps the losses, by which the next pass is decided, and returns their
    mean. The device is read once a pass, never per step.

    Args:
        policy: Id of a selection policy that neither scores candidates first nor needs other models
            or more forward passes (all but ``selective-backprop``, ``rho-loss``, ``kakurenbo``).
        examples: Number of training examples.
        batch_size: Examples per step.
        epochs: Passes of the dense training that is 100%. Training ends after as many.
        budget: Where given, training ends at this share of the dense steps instead, so that
            skipping buys more passes. What selecting itself costs is not counted here.
        seed: Of orders and draws.
        loss_kind: ``cross_entropy`` or ``squared_error``.
        classes: int64, shape (examples,), the class of each, for policies with a floor per class.
        device: Where losses are kept and indices live.
        knobs: The policy's knobs by name.

    Attributes:
        progress: Share of the training that is behind us in the middle of the step under way, 0 to
            1: what a learning rate's schedule should follow.
        steps: Batches handed out so far.

    Raises:
        ValueError: Something cannot be used; the message says what is allowed.
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
                f"budget={budget:g} is not allowed here: it would not pay for one batch; choose at "
                f"least {batch_size / self._total_examples:.2g}"
            )
        self._weight_N = torch.ones(examples, device=device)  # as last drawn
        self._last_batch: torch.Tensor | None = None  # handed out last
        self._epoch_under_way = False  # a pass
        self._considered = 0  # by the last step
        self._empty_epochs = 0
        self.progress, self.steps = 0.0, 0

    @property
    def skip_fraction(self) -> float:
        """Examples left out so far ÷ examples considered, 0 to 1."""
        considered = self._sampler.epoch_sampler.considered
        return 1.0 - self._spent_examples / considered if considered else 0.0

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Yield the indices of each batch, int64, shape (batch_size,); goes on where it was."""
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
        """Keep the losses of a batch and return what to call ``backward`` on, a scalar.

        Args:
            idx_B: The indices that were handed out, int64. A loader that asks ahead may return
                them as another tensor; of an example that is then twice in a batch, drawn in
                two passes, the later weight counts for both.
            losses_B: Each one's own loss, not negative (``reduction="none"``).
            outputs: What the model answered, shape (B, ...); needed by ``stale-pps``,
                ``el2n-pps`` and ``mastered`` only.
            targets: What it should have answered; likewise.

        Returns:
            The mean of the losses, weighted where the policy weighs.

        Raises:
            ValueError: Shapes do not fit, or outputs and targets are missing.
        """
        chooser, plain_B = self._sampler, losses_B.detach().float()
        if losses_B.shape != idx_B.shape or idx_B.ndim != 1:
            raise ValueError(
                f"losses_B of shape {tuple(losses_B.shape)} is not allowed: expected one loss for "
                f'each of the {idx_B.numel()} indices; compute them with reduction="none"'
            )
        if not chooser.needs_batch_outputs:
            chooser.record_losses(idx_B, plain_B)
        elif outputs is None or targets is None:
            raise ValueError(
                f"policy {chooser.policy.id!r} needs outputs and targets, which are missing: pass "
                "what the model answered, and what it should have, to loss()"
            )
        else:
            kind, index = chooser.example_state.loss_kind, chooser.epoch_sampler.epoch_index
            chooser.record_batch_outputs(
                BatchOutputs(idx_B, plain_B, outputs.detach(), targets, index, kind)
            )
        return (losses_B * self._batch_weights(idx_B)).mean()

    def state_dict(self) -> dict[str, Any]:
        """Return where the training is, tensors and plain values, as ``torch.save`` takes it.

        To be taken between two steps.
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
        """Go on from what :meth:`state_dict` returned of a selector like this one."""
        chooser = _map_leaves(state["chooser"], torch.Tensor, lambda tensor: tensor.cpu().numpy())
        self._weight_N.copy_(torch.from_numpy(chooser.pop("weight_N")))
        self._sampler.restore(chooser)
        self.steps, self.progress = state["steps"], state["progress"]
        self._epoch_under_way, self._considered = state["under_way"], state["considered"]

    # The way of the training, counted in examples -------------------------------------------

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
        """Whether the budget, if there is one, has no room for one more step."""
        left = (
            np.inf
            if self._budget_examples is None
            else self._budget_examples * (1 + 1e-12) - self._spent_examples
        )
        return bool(left < self._sampler.batch_size)

    def _begin_or_resume_epoch(self) -> bool:
        """Begin a pass, or go on in the one under way; whether there is any left."""
        chooser = self._sampler
        if self._epoch_under_way:
            return True
        if self._budget_exhausted() or (
            self._budget_examples is None and self._progress_now() >= 1.0
        ):
            return False
        chooser.begin_epoch(self._progress_now(), self._budget_state())
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
        chooser = self._sampler
        if self._progress_now() >= chooser.redecide_progress:
            self._decide_epoch()
        batch = None if self._budget_exhausted() else chooser.next_batch()
        if batch is None:
            return None
        before, self._considered = self._considered, chooser.epoch_sampler.considered
        middle = (before + self._considered) / 2
        self.progress = self._progress_at(middle, self._spent_examples + chooser.batch_size / 2)
        self.steps += 1
        self._last_batch = batch
        weight_B = chooser.epoch_sampler.weight_B
        if weight_B is None:
            self._weight_N.index_fill_(0, batch, 1.0)
        else:
            self._weight_N.index_copy_(0, batch, weight_B)
        return batch


def selector_policy(policy: str) -> SelectionPolicy:
    """Return a policy that a loop of one's own can follow.

    Raises:
        ValueError: It does not exist, or needs more forward passes than such a loop has.
    """
    chosen = SELECTIONS.get(policy)()
    if chosen.needs_extra_forward():
        others = ", ".join(each.id for each in SELECTIONS if not each().needs_extra_forward())
        raise ValueError(
            f"policy {policy!r} is not allowed here: it needs forward passes besides those that "
            f"train; choose of {others}"
        )
    return chosen


def _check_arguments(
    examples: int, budget: float | None, loss_kind: str, classes: torch.Tensor | None
) -> None:
    if loss_kind not in LOSS_KINDS:
        raise ValueError(
            f"loss_kind={loss_kind!r} is not allowed: choose of {', '.join(LOSS_KINDS)}"
        )
    if budget is not None and not 0.0 < budget < np.inf:
        raise ValueError(
            f"budget={budget} is not allowed: expected a share of the dense steps above 0; "
            "0.6 spends 60% of them"
        )
    if classes is not None and classes.shape != (examples,):
        raise ValueError(
            f"classes of shape {tuple(classes.shape)} is not allowed: expected one class for each "
            f"of the {examples} examples"
        )


def _check_whole_number(name: str, value: Any, lo: int, hi: int | None) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < lo or (hi is not None and value > hi):
        most = "" if hi is None else f" to {hi}"
        raise ValueError(
            f"{name}={value!r} is not allowed: expected a whole number from {lo}{most}; choose one"
        )


def _map_leaves(node: Any, kind: type, change: Any) -> Any:
    """Return a nested state with every part of a kind changed."""
    if isinstance(node, kind):
        return change(node)
    if isinstance(node, dict):
        return {name: _map_leaves(below, kind, change) for name, below in node.items()}
    if isinstance(node, list | tuple):
        return [_map_leaves(below, kind, change) for below in node]
    return node
