"""Forward pass by a step plan, and the parameters that the step trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import nn

from effcore.records.deprecation import with_old_keywords
from effcore.records.step_plan import StepPlan
from effcore.tasks.residual_stage import ResidualStage


class _StageUse(NamedTuple):
    """A stage that a plan runs: its position in the model, and its branches without a graph."""

    position: int
    stage: nn.Module
    detached: tuple[int, ...]


def _used_stages(model: nn.Sequential, plan: StepPlan) -> Iterator[_StageUse]:
    """Yield the stages that a plan runs, in order."""
    residual = branches = 0
    for position, stage in enumerate(model):
        detached: tuple[int, ...] = ()
        if isinstance(stage, ResidualStage):
            count = len(stage.branches())
            detached = tuple(b - branches for b in plan.detached if 0 <= b - branches < count)
            residual, branches = residual + 1, branches + count
            if plan.depth is not None and residual > plan.depth:
                continue
        yield _StageUse(position, stage, detached)


@with_old_keywords
def planned_forward(
    model: nn.Sequential, inputs: torch.Tensor, plan: StepPlan, first_stage: int = 0
) -> torch.Tensor:
    """Run the model by a plan; frozen stages and detached branches keep no graph.

    Args:
        model: The model.
        inputs: Inputs of stage number ``first_stage``.
        plan: The parts to leave out.
        first_stage: Stages before this one are not run, since their outputs are cached.
    """
    if not (first_stage or plan.frozen or plan.detached or plan.depth is not None):
        outputs: torch.Tensor = model(inputs)
        return outputs
    for position, stage, detached in _used_stages(model, plan):
        if position < first_stage:
            continue
        with torch.no_grad() if position < plan.frozen else nullcontext():
            inputs = stage(inputs, detached) if detached else stage(inputs)
    return inputs


def set_train_mode(model: nn.Sequential, plan: StepPlan) -> None:
    """Put frozen stages into evaluation mode, to fix their statistics, and others into training."""
    model.train()
    for stage in list(model)[: plan.frozen]:
        stage.eval()


def count_trained_parameters(model: nn.Sequential, plan: StepPlan) -> int:
    """Return how many parameters a planned step changes."""
    total = 0
    for position, stage, detached in _used_stages(model, plan):
        if position >= plan.frozen:
            total += _count_parameters(stage)
            if isinstance(stage, ResidualStage):
                total -= sum(_count_parameters(stage.branches()[branch]) for branch in detached)
    return total


def _count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
