"""Dense training in a hand-written loop, without Effcore's trainer.

It does the same work in the same order and keeps per-example losses. ``bench overhead`` measures
the cost of the trainer beside it, and a test requires that both end with equal parameters.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from effcore.records import RunConfig
from effcore.tasks.base import make_model, make_task
from effcore.training.epoch_sampler import SEED_STRIDE
from effcore.training.optimizer import learning_rate_factor, make_optimizer


def reference_loop(config: RunConfig, until: int | None = None) -> Iterator[torch.nn.Module]:
    """Train for all epochs, or ``until`` a step; yields the model after each step."""
    torch.set_num_threads(config.threads)
    device = torch.device(config.device)
    task = make_task(config)
    model = make_model(task, config)
    optimizer = make_optimizer(config, model)
    augment = torch.Generator(device=device).manual_seed(config.seed)
    last_loss = torch.full((task.n_train,), torch.inf, device=device)
    total = config.epochs * task.n_train
    left = torch.empty(0, dtype=torch.int64, device=device)
    done = 0
    for index in range(config.epochs):
        order = torch.Generator(device=device).manual_seed(config.seed * SEED_STRIDE + index)
        queue = torch.cat([left, torch.randperm(task.n_train, generator=order, device=device)])
        whole = len(queue) // config.batch_size * config.batch_size
        left = queue[whole:]
        for batch in torch.split(queue[:whole], config.batch_size):
            middle = (done + 0.5) * config.batch_size / total
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * learning_rate_factor(middle)
            inputs, targets = task.batch(batch, augment)
            losses = task.losses(model(inputs), targets)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(losses.mean())
            optimizer.step()
            last_loss[batch] = losses.detach()
            done += 1
            yield model
            if done == until:
                return
