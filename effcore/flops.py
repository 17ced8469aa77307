"""The compute ledger: FLOPs calibrated once, multiplied by what was executed.

Matmul-class operations are counted by PyTorch on one real step of the uncompiled model;
optimizer and selection are analytic. A multiply-add counts as two. Counting every step
would slow a small model several times over, so a count is taken once per shape.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from effcore.plan import Plan, trained_parameters

#: Analytic FLOPs per parameter and step. AdamW (Loshchilov & Hutter 2019, algorithm 2):
#: decay 2, first moment 3, second moment 4, root 1, scale and epsilon 2, division and
#: subtraction 2. SGD with Nesterov's momentum: momentum 2, look ahead 2, subtraction 2.
OPTIMIZER_FLOPS = {"adamw": 14, "sgd": 6}

#: Operations that PyTorch's counter takes for free although they multiply matrices, or
#: counts wrongly. A model that runs one would be billed too little, so it is refused.
_UNCOUNTED = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_transformer_encoder_layer_fwd",
    "_native_multi_head_attention",
    "mkldnn_rnn_layer",
    "lstm",
    "_cudnn_rnn",
    "mv",
    "addmv",
    "addbmm",
    "dot",
    "vdot",
    "_trilinear",
    "_cdist_forward",
)


M = TypeVar("M", bound=torch.nn.Module)


class UncountedOperationError(RuntimeError):
    """A model ran an operation whose FLOPs nobody accounts for."""


class _RefuseUncounted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Stops at the first operation that the counter would take for free."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.overloadpacket.__name__
        grouped = name == "convolution" and args[-1] > 1
        if name in _UNCOUNTED or grouped:
            raise UncountedOperationError(
                f"operation {name!r} {'with groups ' if grouped else ''}has no FLOP count: "
                "use an equivalent made of linear, convolution or matmul operations"
            )
        return func(*args, **(kwargs or {}))


def count(run: Callable[[], object]) -> float:
    """Return the matmul-class FLOPs of calling ``run`` once.

    Raises:
        UncountedOperationError: It runs an operation that the counter misses.
    """
    with FlopCounterMode(display=False) as counter, _RefuseUncounted():  # type: ignore[no-untyped-call]
        run()
    return float(counter.get_total_flops())


def count_step(model: M, losses: Callable[[M], torch.Tensor]) -> float:
    """Return the matmul-class FLOPs of a forward and backward of ``losses(model)``.

    Works on a copy, so that the model's gradients and buffers stay as they are.
    """
    twin = copy.deepcopy(model)

    def step() -> None:
        torch.autograd.backward(losses(twin).mean())

    return count(step)


def count_forward(model: M, run: Callable[[M], object]) -> float:
    """Return the matmul-class FLOPs of ``run(model)`` without gradient, in evaluation mode.

    Works on a copy, so that the model stays as it is.
    """
    twin = copy.deepcopy(model).eval()
    with torch.no_grad():
        return count(lambda: run(twin))


class Cost(NamedTuple):
    """FLOPs, by how they are known.

    Attributes:
        counted: Matmul-class operations, as PyTorch counted them.
        analytic: What a formula says of optimizer and selection.
    """

    counted: float = 0.0
    analytic: float = 0.0

    @property
    def total(self) -> float:
        """Both together."""
        return self.counted + self.analytic


def planned_step(
    model: torch.nn.Sequential,
    losses: Callable[[torch.nn.Sequential], torch.Tensor],
    optimizer: str,
    plan: Plan,
) -> Cost:
    """Return the cost of a step taken by a plan, counted on one that changes nothing.

    Args:
        model: What learns.
        losses: Runs a model as planned, on a batch.
        optimizer: ``adamw`` or ``sgd``.
        plan: What of the step is left out.
    """
    optimizing = optimizer_flops(optimizer, trained_parameters(model, plan))
    return Cost(count_step(model, losses), optimizing)


@dataclass
class Ledger:
    """What a run has spent, kept in host integers and floats: no device is read.

    Attributes:
        step_flops: One dense step, optimizer included.
        steps: Steps executed.
        counted_flops: Spent on matmul-class operations so far, whatever for.
        analytic_flops: Spent on optimizer and decisions so far.
        selection_flops: The part of both that was spent on selecting.
    """

    step_flops: float
    steps: int = 0
    counted_flops: float = 0.0
    analytic_flops: float = 0.0
    selection_flops: float = 0.0

    @property
    def spent(self) -> float:
        """Everything spent so far, FLOPs."""
        return self.counted_flops + self.analytic_flops

    def charge(self, cost: Cost) -> None:
        """Note a step of this cost."""
        self.steps += 1
        self.add(cost)

    def select(self, cost: Cost) -> None:
        """Note what selecting cost."""
        self.selection_flops += cost.total
        self.add(cost)

    def add(self, cost: Cost) -> None:
        """Note a cost of any other kind."""
        self.counted_flops += cost.counted
        self.analytic_flops += cost.analytic


def optimizer_flops(optimizer: str, n_parameters: int) -> float:
    """Return the analytic FLOPs of one optimizer step."""
    return float(OPTIMIZER_FLOPS[optimizer] * n_parameters)
