"""Why masking a loss saves nothing, counted by the product's own ledger on a real step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final, NamedTuple

import torch

from effcore.flops import count_forward, count_step
from effcore.tasks.base import TASKS, Task

BATCH: Final = 32
_TASK, _MODEL, _SIZE = "digits", "cnn", "small"
_CPU = torch.device("cpu")


class Counted(NamedTuple):
    """Matmul-class FLOPs of one step on a batch, of which so many examples are wanted.

    Attributes:
        forward: Going forward with all of the batch.
        everything: Forward and backward with all of it.
        masked: The same with the losses of the unwanted multiplied by zero.
        sliced: With their losses taken out before the mean.
        never_loaded: With the wanted examples alone.
        difference: Largest difference between the gradients of the masked step and of the one
            with the wanted alone, as a share of the largest entry.
    """

    forward: float
    everything: float
    masked: float
    sliced: float
    never_loaded: float
    difference: float


class _Step(NamedTuple):
    """A real model and a batch for it."""

    task: Task
    model: torch.nn.Sequential
    inputs: torch.Tensor
    targets: torch.Tensor


@functools.cache
def _step() -> _Step:
    task = TASKS.get(_TASK)(0, _CPU)
    inputs, targets = task.batch(torch.arange(BATCH), torch.Generator().manual_seed(0))
    return _Step(task, task.build_model(_MODEL, 0, _CPU, _SIZE), inputs, targets)


@functools.lru_cache(maxsize=BATCH)
def counted(wanted: int) -> Counted:
    """Count the steps on a real batch and model.

    Args:
        wanted: Examples of the batch to be learned from, 1 to ``BATCH``.
    """
    torch.set_num_threads(1)  # as in a run, per thread; sharing such work out is slower
    task, model, inputs, targets = _step()
    mask_B = (torch.arange(BATCH) < wanted) * (BATCH / wanted)

    def all_of(m: torch.nn.Module) -> torch.Tensor:
        return task.losses(m(inputs), targets)

    def masked(m: torch.nn.Module) -> torch.Tensor:
        return all_of(m) * mask_B

    def sliced(m: torch.nn.Module) -> torch.Tensor:
        return all_of(m)[:wanted]

    def alone(m: torch.nn.Module) -> torch.Tensor:
        return task.losses(m(inputs[:wanted]), targets[:wanted])

    gap = max(
        float((one - other).abs().max() / one.abs().max())
        for one, other in zip(_gradient(model, masked), _gradient(model, alone), strict=True)
    )
    return Counted(
        forward=count_forward(model, lambda m: m(inputs)),
        everything=count_step(model, all_of),
        masked=count_step(model, masked),
        sliced=count_step(model, sliced),
        never_loaded=count_step(model, alone),
        difference=gap,
    )


def _gradient(
    model: torch.nn.Module, losses: Callable[[torch.nn.Module], torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(losses(model).mean(), tuple(model.parameters()))
