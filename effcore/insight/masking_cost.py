"""FLOPs of one real training step with masked, sliced or never loaded examples."""

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
    """Matmul-class FLOPs of one step on a batch, if only some of its examples are wanted.

    Attributes:
        forward: Forward pass with the whole batch.
        everything: Forward and backward pass with the whole batch.
        masked: The same, with the losses of the unwanted examples multiplied by zero.
        sliced: The same, with their losses dropped before the mean.
        never_loaded: Forward and backward pass with the wanted examples only.
        gradient_difference: Largest difference between the gradients of the masked step and of
            the step with the wanted examples only, as a fraction of the largest entry.
    """

    forward: float
    everything: float
    masked: float
    sliced: float
    never_loaded: float
    gradient_difference: float


class _MaskingStepInputs(NamedTuple):
    """A real model with a batch of its task."""

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
    """Return the FLOPs of the steps, counted on a real batch and model.

    Args:
        wanted_examples: Examples of the batch to train on, 1 to ``BATCH_SIZE``.
    """
    torch.set_num_threads(1)  # as in a run, per thread; more threads are slower for so little work
    task, model, inputs, targets = _load_step_inputs()
    mask_B = (torch.arange(BATCH_SIZE) < wanted_examples) * (BATCH_SIZE / wanted_examples)

    def all_losses(m: torch.nn.Module) -> torch.Tensor:
        return task.losses(m(inputs), targets)

    def masked_losses(m: torch.nn.Module) -> torch.Tensor:
        return all_losses(m) * mask_B

    def sliced_losses(m: torch.nn.Module) -> torch.Tensor:
        return all_losses(m)[:wanted_examples]

    def wanted_losses(m: torch.nn.Module) -> torch.Tensor:
        return task.losses(m(inputs[:wanted_examples]), targets[:wanted_examples])

    gradient_difference = max(
        float((masked_gradient - wanted_gradient).abs().max() / masked_gradient.abs().max())
        for masked_gradient, wanted_gradient in zip(
            _mean_loss_gradient(model, masked_losses),
            _mean_loss_gradient(model, wanted_losses),
            strict=True,
        )
    )
    return MaskingFlops(
        forward=count_forward_flops(model, lambda m: m(inputs)),
        everything=count_step_flops(model, all_losses),
        masked=count_step_flops(model, masked_losses),
        sliced=count_step_flops(model, sliced_losses),
        never_loaded=count_step_flops(model, wanted_losses),
        gradient_difference=gradient_difference,
    )


def _mean_loss_gradient(
    model: torch.nn.Module, losses: Callable[[torch.nn.Module], torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(losses(model).mean(), tuple(model.parameters()))
