"""What some selection policies need to have found before a run begins; all of it is billed."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from effcore.events import RunConfig
from effcore.flops import Cost, count_forward, planned_step
from effcore.plan import FULL
from effcore.tasks.base import Task
from effcore.training.optim import learning_rate_factor, make_optimizer
from effcore.training.passes import SEED_STRIDE

#: A model for irreducible losses is small, and trains for one in so many of the run's epochs.
_SIZE, _ONE_IN = "small", 8
_SCORED = 256


def irreducible_losses(config: RunConfig, task: Task, found_N: torch.Tensor) -> Iterator[Cost]:
    """Find each training example's loss under a model that was not trained on it.

    Examples that share something with others, as the overlapping windows of a text and
    planted duplicates do, are not held together, so their losses come out lower than of new
    ones. Each is judged as augmented once.

    Two models are each trained on one half of the examples and judge the other half
    (Mindermann et al. 2022, for want of held-out data).

    Args:
        config: The run that this is for.
        task: Its data.
        found_N: float32, where the losses are put.

    Yields:
        What was spent, after each step and each batch that was judged.
    """
    generator = torch.Generator(device=found_N.device).manual_seed(config.seed * SEED_STRIDE - 2)
    order = torch.randperm(task.n_train, generator=generator, device=found_N.device)
    halves = order.tensor_split(2)
    for place in range(2):
        model = task.build_model(config.model, config.seed + place, found_N.device, _SIZE)
        yield from _train(config, task, model, halves[place], generator)
        yield from _judge(task, model.eval(), halves[1 - place], generator, found_N)


def _train(
    config: RunConfig,
    task: Task,
    model: torch.nn.Sequential,
    half: torch.Tensor,
    generator: torch.Generator,
) -> Iterator[Cost]:
    optimizer = make_optimizer(config, model)
    batch_size = min(config.batch_size, len(half))
    cost = _cost_of(config, task, model, half[:batch_size], generator)
    steps = max(1, config.epochs // _ONE_IN) * (len(half) // batch_size)
    for step in range(steps):
        place = step % (len(half) // batch_size)
        if place == 0:
            half = half[torch.randperm(len(half), generator=generator, device=half.device)]
        idx_B = half[place * batch_size : (place + 1) * batch_size]
        inputs, targets = task.batch(idx_B, generator)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor((step + 0.5) / steps)
        optimizer.zero_grad()
        torch.autograd.backward(task.losses(model(inputs), targets).mean())
        if config.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        yield cost


def _cost_of(
    config: RunConfig,
    task: Task,
    model: torch.nn.Sequential,
    idx_B: torch.Tensor,
    generator: torch.Generator,
) -> Cost:
    inputs, targets = task.batch(idx_B, generator)
    return planned_step(model, lambda m: task.losses(m(inputs), targets), config.optimizer, FULL)


def _judge(
    task: Task,
    model: torch.nn.Sequential,
    half: torch.Tensor,
    generator: torch.Generator,
    found_N: torch.Tensor,
) -> Iterator[Cost]:
    costs: dict[int, Cost] = {}
    for idx_M in torch.split(half, _SCORED):
        inputs, targets = task.batch(idx_M, generator)
        with torch.no_grad():
            found_N.index_copy_(0, idx_M, task.losses(model(inputs), targets))
        if len(idx_M) not in costs:
            costs[len(idx_M)] = _forward_cost(model, inputs)
        yield costs[len(idx_M)]


def _forward_cost(model: torch.nn.Sequential, inputs: torch.Tensor) -> Cost:
    return Cost(count_forward(model, lambda m: m(inputs)))
