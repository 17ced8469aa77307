"""Why masking a loss saves nothing, counted by the product's own ledger on a real step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final, NamedTuple

import torch

from effcore.tasks.base import TASKS, Task
from effcore.training.ledger import count_forward_flops, count_step_flops

BATCH_SIZE: Final = 32
_TASK, _MODEL, _SIZE = "digits", "cnn", "small"
_CPU = torch.device("cpu")


class MaskingFlops(NamedTuple):
    """Matmul-class FLOPs of one step on a batch, of which so many examples are wanted.

    Attributes:
        forward: Going forward with all of the batch.
        everything: Forward and backward with all of it.
        masked: The same with the losses of the unwanted multiplied by zero.
        sliced: With their losses taken out before the mean.
        never_loaded: With the wanted examples alone.
        gradient_difference: Largest difference between the gradients of the masked step and of the
            one with the wanted alone, as a share of the largest entry.
    """

    forward: float
    everything: float
    masked: float
    sliced: float
    never_loaded: float
    gradient_difference: float


class _MaskingStepInputs(NamedTuple):
    """A real model and a batch for it."""

    task: Task
    model: torch.nn.Sequential
    inputs: torch.Tensor
    targets: torch.Tensor


@functools.cache
def _load_step_inputs() -> _MaskingStepInputs:
    task = TASKS.get(_TASK)(0, _CPU)
    inputs, targets = task.batch(torch.arange(BATCH_SIZE), torch.Generator().manual_seed(0))
    return _MaskingStepInputs(task, task.build_model(_MODEL, 0, _CPU, _SIZE), inputs, targets)


@functools.lru_cache(maxsize=BATCH_SIZE)
def count_masking_flops(wanted_examples: int) -> MaskingFlops:
    """Count the steps on a real batch and model.

    Args:
        wanted_examples: Examples of the batch to be learned from, 1 to ``BATCH``.
    """
    torch.set_num_threads(1)  # as in a run, per thread; sharing such work out is slower
    task, model, inputs, targets = _load_step_inputs()
    mask_B = (torch.arange(BATCH_SIZE) < wanted_examples) * (BATCH_SIZE / wanted_examples)

    def all_of(m: torch.nn.Module) -> torch.Tensor:
        return task.losses(m(inputs), targets)

    def masked(m: torch.nn.Module) -> torch.Tensor:
        return all_of(m) * mask_B

    def sliced(m: torch.nn.Module) -> torch.Tensor:
        return all_of(m)[:wanted_examples]

    def alone(m: torch.nn.Module) -> torch.Tensor:
        return task.losses(m(inputs[:wanted_examples]), targets[:wanted_examples])

    gap = max(
        float((one - other).abs().max() / one.abs().max())
        for one, other in zip(
            _mean_loss_gradient(model, masked), _mean_loss_gradient(model, alone), strict=True
        )
    )
    return MaskingFlops(
        forward=count_forward_flops(model, lambda m: m(inputs)),
        everything=count_step_flops(model, all_of),
        masked=count_step_flops(model, masked),
        sliced=count_step_flops(model, sliced),
        never_loaded=count_step_flops(model, alone),
        gradient_difference=gap,
    )


def _mean_loss_gradient(
    model: torch.nn.Module, losses: Callable[[torch.nn.Module], torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(losses(model).mean(), tuple(model.parameters()))
