"""The forward pass of a planned step, and the parameters that the step trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import nn

from effcore.records.step_plan import StepPlan
from effcore.tasks.residual_stage import ResidualStage


class _StageUse(NamedTuple):
    """How a stage is used by a plan: its place, and which of its branches keep no graph."""

    place: int
    stage: nn.Module
    detached: tuple[int, ...]


def _used_stages(model: nn.Sequential, plan: StepPlan) -> Iterator[_StageUse]:
    """Yield the stages that a plan uses, in order."""
    residual = branches = 0
    for place, stage in enumerate(model):
        detached: tuple[int, ...] = ()
        if isinstance(stage, ResidualStage):
            count = len(stage.branches())
            detached = tuple(b - branches for b in plan.detached if 0 <= b - branches < count)
            residual, branches = residual + 1, branches + count
            if plan.depth is not None and residual > plan.depth:
                continue
        yield _StageUse(place, stage, detached)


def planned_forward(
    model: nn.Sequential, inputs: torch.Tensor, plan: StepPlan, first_stage: int = 0
) -> torch.Tensor:
    """Run the model as planned; no graph is kept of what is frozen or detached.

    Args:
        model: The model.
        inputs: What its stage number ``first_stage`` takes.
        plan: What is left out.
        first_stage: Stages before this one are not run, since their output is known.
    """
    if not (first_stage or plan.frozen or plan.detached or plan.depth is not None):
        outputs: torch.Tensor = model(inputs)
        return outputs
    for place, stage, detached in _used_stages(model, plan):
        if place < first_stage:
            continue
        with torch.no_grad() if place < plan.frozen else nullcontext():
            inputs = stage(inputs, detached) if detached else stage(inputs)
    return inputs


def set_train_mode(model: nn.Sequential, plan: StepPlan) -> None:
    """Put frozen stages into evaluation mode, so that their normalisation stays, others not."""
    model.train()
    for stage in list(model)[: plan.frozen]:
        stage.eval()


def count_trained_parameters(model: nn.Sequential, plan: StepPlan) -> int:
    """Return how many parameters a planned step changes."""
    total = 0
    for place, stage, detached in _used_stages(model, plan):
        if place >= plan.frozen:
            total += _count_parameters(stage)
            if isinstance(stage, ResidualStage):
                total -= sum(_count_parameters(stage.branches()[lost]) for lost in detached)
    return total


def _count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
