"""The compute ledger: FLOPs calibrated once, multiplied by what was executed.

Matmul-class operations are counted by PyTorch's formulas on one real step of the uncompiled
model; optimizer and selection are analytic. A multiply-add counts as two. Counting every step
would slow a small model several times over, so a count is taken once per shape.
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

from effcore.records.step_plan import StepPlan
from effcore.training.planned_forward import count_trained_parameters

#: Analytic FLOPs per parameter and step. AdamW (Loshchilov & Hutter 2019, algorithm 2):
#: decay 2, first moment 3, second moment 4, root 1, scale and epsilon 2, division and
#: subtraction 2. SGD with Nesterov's momentum: momentum 2, look ahead 2, subtraction 2.
OPTIMIZER_FLOPS = {"adamw": 14, "sgd": 6}

#: Operations that are neither counted nor elementwise, reductions or views, and multiply no
#: matrices: they normalise, pool, look up, move or fill. Backward passes are named alike.
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
    """A model ran an operation whose FLOPs nobody accounts for."""


class _FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up as PyTorch's ``FlopCounterMode`` does, without telling modules apart.

    Stops at the first operation that would be taken for free, or counted wrongly.

    Attributes:
        flops: What has been counted.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        counted = _has_flop_formula(func)
        grouped = counted and _convolution_groups(func, args, kwargs) > 1
        if counted and not grouped:
            out = func(*args, **kwargs)
            self.flops += flop_registry[func.overloadpacket](*args, **kwargs, out_val=out)
            return out
        if _is_free_operation(func, args, kwargs):
            return func(*args, **kwargs)
        if not grouped and func._can_decompose():  # as in inference mode, which hides its parts
            with self:
                return func.decompose(*args, **kwargs)
        raise UncountedOperationError(
            f"operation {str(func.overloadpacket)!r} {'with groups ' if grouped else ''}has no "
            "FLOP count: use an equivalent made of linear, convolution or matmul operations"
        )


def _has_flop_formula(func: torch._ops.OpOverload) -> bool:
    return func.overloadpacket in flop_registry


def _convolution_groups(
    func: torch._ops.OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> int:
    """Return the groups of a convolution, which the counter does not heed; 1 for all else."""
    names = [argument.name for argument in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return int(given.get("groups", 1))


def _is_free_operation(
    func: torch._ops.OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> bool:
    """Return whether an operation multiplies no matrices, as far as that is known of it."""
    if func.namespace != "aten":
        return False
    name = func.overloadpacket.__name__
    for ending in _OPERATION_SUFFIXES:
        name = name.removesuffix(ending)
    known = func.is_view or name in _FREE_OPERATIONS or bool(_FREE_TAGS & set(func.tags))
    return known or not any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves((args, kwargs)))


def count_flops(run: Callable[[], object]) -> float:
    """Return the matmul-class FLOPs of calling ``run`` once.

    Raises:
        UncountedOperationError: It runs an operation that the counter misses.
    """
    counter = _FlopCounter()
    with counter:
        run()
    return counter.flops


def count_step_flops(model: M, losses: Callable[[M], torch.Tensor]) -> float:
    """Return the matmul-class FLOPs of a forward and backward of ``losses(model)``.

    Works on a copy, so that the model's gradients and buffers stay as they are.
    """
    twin = copy.deepcopy(model)

    def step() -> None:
        torch.autograd.backward(losses(twin).mean())

    return count_flops(step)


def count_forward_flops(model: M, run: Callable[[M], object]) -> float:
    """Return the matmul-class FLOPs of ``run(model)`` without gradient, in evaluation mode.

    Works on a copy, so that the model stays as it is.
    """
    twin = copy.deepcopy(model).eval()
    with torch.no_grad():
        return count_flops(lambda: run(twin))


class FlopCost(NamedTuple):
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


def planned_step_cost(
    model: torch.nn.Sequential,
    losses: Callable[[torch.nn.Sequential], torch.Tensor],
    optimizer: str,
    plan: StepPlan,
) -> FlopCost:
    """Return the cost of a step taken by a plan, counted on one that changes nothing.

    Args:
        model: What learns.
        losses: Runs a model as planned, on a batch.
        optimizer: ``adamw`` or ``sgd``.
        plan: What of the step is left out.
    """
    optimizing = optimizer_flops(optimizer, count_trained_parameters(model, plan))
    return FlopCost(count_step_flops(model, losses), optimizing)


@dataclass
class FlopLedger:
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

    def add_step(self, cost: FlopCost) -> None:
        """Note a step of this cost."""
        self.steps += 1
        self.add_cost(cost)

    def add_selection(self, cost: FlopCost) -> None:
        """Note what selecting cost."""
        self.selection_flops += cost.total
        self.add_cost(cost)

    def add_cost(self, cost: FlopCost) -> None:
        """Note a cost of any other kind."""
        self.counted_flops += cost.counted
        self.analytic_flops += cost.analytic


def optimizer_flops(optimizer: str, n_parameters: int) -> float:
    """Return the analytic FLOPs of one optimizer step."""
    return float(OPTIMIZER_FLOPS[optimizer] * n_parameters)
