"""Compute ledger: FLOPs counted once per kind of step, times the steps executed.

Matmul-class operations are counted by PyTorch's formulas on one real step of the uncompiled
model; optimizer and selection are analytic. A multiply-add counts as two. Counting every step
would slow a small model several times, so a count is taken once per shape.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from effcore.records.deprecation import with_old_names
from effcore.records.step_plan import StepPlan
from effcore.training.planned_forward import count_trained_parameters

#: Analytic FLOPs per parameter and step. AdamW (Loshchilov & Hutter 2019, algorithm 2):
#: decay 2, first moment 3, second moment 4, root 1, scale and epsilon 2, division and
#: subtraction 2. SGD with Nesterov's momentum: momentum 2, lookahead 2, subtraction 2.
OPTIMIZER_FLOPS = {"adamw": 14, "sgd": 6}

#: Operations that count as free although PyTorch tags them neither elementwise, reduction nor
#: view: they normalise, pool, look up, move or fill. Their backward operations have these names
#: with a suffix.
_FREE_OPERATION_NAMES = """
_log_softmax _softmax native_batch_norm _native_batch_norm_legit cudnn_batch_norm
_batch_norm_with_update native_layer_norm native_group_norm _fused_rms_norm nll_loss nll_loss2d
native_dropout glu max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d embedding
embedding_dense _embedding_bag cat stack constant_pad_nd reflection_pad2d copy_ _to_copy clone
_unsafe_view unsafe_split unsafe_chunk slice slice_scatter select select_scatter index
index_select index_put index_put_ _unsafe_index _index_put_impl_ index_add index_add_ index_copy
index_fill gather scatter scatter_ scatter_add scatter_add_ masked_fill masked_select nonzero
repeat roll flip new_empty new_empty_strided new_zeros new_ones new_full empty_like zeros_like
ones_like full_like rand_like randn_like bernoulli bernoulli_ uniform_ normal_ random_ zero_
fill_ cumsum sort topk argmax argmin max min upsample_nearest2d upsample_bilinear2d
_local_scalar_dense is_same_size lift_fresh
"""
_FREE_OPERATIONS = frozenset(_FREE_OPERATION_NAMES.split())
_OPERATION_SUFFIXES = ("_backward_data", "_backward", "_forward")
_FREE_TAGS = {torch.Tag.pointwise, torch.Tag.reduction, torch.Tag.view_copy}


M = TypeVar("M", bound=torch.nn.Module)


class UncountedOperationError(RuntimeError):
    """A model ran an operation that has no FLOP count."""


class _FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums FLOPs as PyTorch's ``FlopCounterMode`` does, without a sum per module.

    Raises an error at the first operation that would be missed or counted wrongly.

    Attributes:
        flops: FLOPs counted so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        counted = func.overloadpacket in flop_registry
        grouped = counted and _convolution_groups(func, args, kwargs) > 1
        if counted and not grouped:
            out = func(*args, **kwargs)
            self.flops += flop_registry[func.overloadpacket](*args, **kwargs, out_val=out)
            return out
        if _is_free_operation(func, args, kwargs):
            return func(*args, **kwargs)
        if not grouped and func._can_decompose():  # composite operations, in inference mode
            with self:
                return func.decompose(*args, **kwargs)
        raise UncountedOperationError(
            f"operation {str(func.overloadpacket)!r} {'with groups ' if grouped else ''}has no "
            "FLOP count: use an equivalent made of linear, convolution or matmul operations"
        )


def _convolution_groups(
    func: torch._ops.OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> int:
    """Return the groups of a convolution, which PyTorch's formula ignores; 1 for all else."""
    names = [argument.name for argument in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return int(given.get("groups", 1))


def _is_free_operation(
    func: torch._ops.OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> bool:
    """Return whether an operation is known to multiply no matrices."""
    if func.namespace != "aten":
        return False
    name = func.overloadpacket.__name__
    for suffix in _OPERATION_SUFFIXES:
        name = name.removesuffix(suffix)
    is_free = func.is_view or name in _FREE_OPERATIONS or bool(_FREE_TAGS & set(func.tags))
    return is_free or not any(
        isinstance(leaf, torch.Tensor) for leaf in tree_leaves((args, kwargs))
    )


def count_flops(run: Callable[[], object]) -> float:
    """Return the matmul-class FLOPs of calling ``run`` once.

    Raises:
        UncountedOperationError: It runs an operation that has no FLOP count.
    """
    counter = _FlopCounter()
    with counter:
        run()
    return counter.flops


def count_step_flops(model: M, losses: Callable[[M], torch.Tensor]) -> float:
    """Return the matmul-class FLOPs of a forward and backward of ``losses(model)``.

    Works on a copy, so that the model's gradients and buffers do not change.
    """
    model_copy = copy.deepcopy(model)

    def step() -> None:
        torch.autograd.backward(losses(model_copy).mean())

    return count_flops(step)


def count_forward_flops(model: M, run: Callable[[M], object]) -> float:
    """Return the matmul-class FLOPs of ``run(model)`` without gradient, in evaluation mode.

    Works on a copy, so that the model does not change.
    """
    model_copy = copy.deepcopy(model).eval()
    with torch.no_grad():
        return count_flops(lambda: run(model_copy))


class FlopCost(NamedTuple):
    """FLOPs, by how they were determined.

    Attributes:
        counted: Matmul-class operations, counted by PyTorch.
        analytic: Optimizer and selection, by formula.
    """

    counted: float = 0.0
    analytic: float = 0.0

    @property
    def total(self) -> float:
        """Counted plus analytic FLOPs."""
        return self.counted + self.analytic


def planned_step_cost(
    model: torch.nn.Sequential,
    losses: Callable[[torch.nn.Sequential], torch.Tensor],
    optimizer: str,
    plan: StepPlan,
) -> FlopCost:
    """Return the cost of a step by a plan, counted on a copy of the model.

    Args:
        model: The model being trained.
        losses: Runs a model by the plan on a batch and returns the losses.
        optimizer: ``adamw`` or ``sgd``.
        plan: The parts of the step to leave out.
    """
    analytic = optimizer_flops(optimizer, count_trained_parameters(model, plan))
    return FlopCost(count_step_flops(model, losses), analytic)


@with_old_names
@dataclass
class FlopLedger:
    """FLOPs that a run has spent, as host numbers: no device is read.

    Attributes:
        step_flops: FLOPs of one dense step, optimizer included.
        steps: Steps executed.
        counted_flops: FLOPs of matmul-class operations so far, for any purpose.
        analytic_flops: FLOPs of optimizer and selection by formula so far.
        selection_flops: The part of both that was spent on selection.
    """

    step_flops: float
    steps: int = 0
    counted_flops: float = 0.0
    analytic_flops: float = 0.0
    selection_flops: float = 0.0

    @property
    def spent(self) -> float:
        """All FLOPs spent so far."""
        return self.counted_flops + self.analytic_flops

    def add_step(self, cost: FlopCost) -> None:
        """Add a step of this cost."""
        self.steps += 1
        self.add_cost(cost)

    def add_selection(self, cost: FlopCost) -> None:
        """Add the cost of a selection."""
        self.selection_flops += cost.total
        self.add_cost(cost)

    def add_cost(self, cost: FlopCost) -> None:
        """Add a cost of any other kind."""
        self.counted_flops += cost.counted
        self.analytic_flops += cost.analytic


def optimizer_flops(optimizer: str, n_parameters: int) -> float:
    """Return the analytic FLOPs of one optimizer step."""
    return float(OPTIMIZER_FLOPS[optimizer] * n_parameters)
