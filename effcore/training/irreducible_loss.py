"""Irreducible losses, computed before a run for policies that need them; the FLOPs count."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from effcore.records import RunConfig
from effcore.records.step_plan import FULL_PLAN
from effcore.tasks.base import Task
from effcore.training.epoch_sampler import SEED_STRIDE
from effcore.training.ledger import FlopCost, count_forward_flops, planned_step_cost
from effcore.training.optimizer import learning_rate_factor, make_optimizer

#: Size of the models for irreducible losses, and the divisor of the run's epochs they train for.
_MODEL_SIZE, _EPOCH_DIVISOR = "small", 8
_SCORING_CHUNK = 256


def compute_irreducible_losses(
    config: RunConfig, task: Task, irreducible_N: torch.Tensor
) -> Iterator[FlopCost]:
    """Compute each training example's loss under a model that was not trained on it.

    Two models are each trained on one half of the examples and score the other half
    (Mindermann et al. 2022, for data without a held-out part).

    Related examples, such as overlapping windows of a text or duplicates, may lie in different
    halves; their losses are then lower than those of new examples. Each example is scored with
    one augmentation.

    Args:
        config: Configuration of the run.
        task: Task with the run's data.
        irreducible_N: float32, filled with the losses in place.

    Yields:
        The FLOPs spent, after each step and each scored batch.
    """
    generator = torch.Generator(device=irreducible_N.device).manual_seed(
        config.seed * SEED_STRIDE - 2
    )
    order = torch.randperm(task.n_train, generator=generator, device=irreducible_N.device)
    halves = order.tensor_split(2)
    for half_index in range(2):
        model = task.build_model(
            config.model, config.seed + half_index, irreducible_N.device, _MODEL_SIZE
        )
        yield from _train_on_half(config, task, model, halves[half_index], generator)
        yield from _score_half(task, model.eval(), halves[1 - half_index], generator, irreducible_N)


def _train_on_half(
    config: RunConfig,
    task: Task,
    model: torch.nn.Sequential,
    half: torch.Tensor,
    generator: torch.Generator,
) -> Iterator[FlopCost]:
    optimizer = make_optimizer(config, model)
    batch_size = min(config.batch_size, len(half))
    cost = _half_step_cost(config, task, model, half[:batch_size], generator)
    steps = max(1, config.epochs // _EPOCH_DIVISOR) * (len(half) // batch_size)
    for step in range(steps):
        batch_index = step % (len(half) // batch_size)
        if batch_index == 0:
            half = half[torch.randperm(len(half), generator=generator, device=half.device)]
        idx_B = half[batch_index * batch_size : (batch_index + 1) * batch_size]
        inputs, targets = task.batch(idx_B, generator)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor((step + 0.5) / steps)
        optimizer.zero_grad()
        torch.autograd.backward(task.losses(model(inputs), targets).mean())
        if config.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        yield cost


def _half_step_cost(
    config: RunConfig,
    task: Task,
    model: torch.nn.Sequential,
    idx_B: torch.Tensor,
    generator: torch.Generator,
) -> FlopCost:
    inputs, targets = task.batch(idx_B, generator)
    return planned_step_cost(
        model, lambda m: task.losses(m(inputs), targets), config.optimizer, FULL_PLAN
    )


def _score_half(
    task: Task,
    model: torch.nn.Sequential,
    half: torch.Tensor,
    generator: torch.Generator,
    irreducible_N: torch.Tensor,
) -> Iterator[FlopCost]:
    costs: dict[int, FlopCost] = {}
    for idx_M in torch.split(half, _SCORING_CHUNK):
        inputs, targets = task.batch(idx_M, generator)
        with torch.no_grad():
            irreducible_N.index_copy_(0, idx_M, task.losses(model(inputs), targets))
        if len(idx_M) not in costs:
            costs[len(idx_M)] = _forward_cost(model, inputs)
        yield costs[len(idx_M)]


def _forward_cost(model: torch.nn.Sequential, inputs: torch.Tensor) -> FlopCost:
    return FlopCost(count_forward_flops(model, lambda m: m(inputs)))
