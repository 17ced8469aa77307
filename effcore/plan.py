"""What of a step is done and what is left out: the plan that update and intensity policies make.

A model is a sequence of stages, some of which may be residual: x plus one or more branches.
The forward pass, the ledger and the optimizer follow from a :class:`Plan`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn


class ResidualStage(nn.Module):
    """A stage that adds branches to what it is given: x + f(x), then + g(of that)."""

    @abstractmethod
    def branches(self) -> tuple[nn.Module, ...]:
        """Return what is added, in order; together they hold all parameters of the stage."""

    @abstractmethod
    def last_layers(self) -> tuple[nn.Linear, ...]:
        """Return the layer that each branch ends with."""

    def forward(self, x: torch.Tensor, detached: Collection[int] = ()) -> torch.Tensor:
        """Add all branches; of those whose places are in ``detached`` no graph is kept."""
        for place, branch in enumerate(self.branches()):
            with torch.no_grad() if place in detached else nullcontext():
                added = branch(x)
            x = x + added
        return x

    def silence(self) -> None:
        """Let every branch add nothing, until it is trained."""
        for layer in self.last_layers():
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What a model is made of, as far as a plan refers to it.

    Attributes:
        stages: All stages.
        branches: For each residual stage, the number of its branches.
    """

    stages: int
    branches: tuple[int, ...] = ()


def anatomy_of(model: nn.Sequential) -> Anatomy:
    """Return what a model is made of."""
    residual = [stage for stage in model if isinstance(stage, ResidualStage)]
    return Anatomy(len(model), tuple(len(stage.branches()) for stage in residual))


@dataclass(frozen=True, slots=True)
class Moment:
    """When a step is planned.

    Attributes:
        progress: Share of the run behind us, 0 to 1.
        step: Steps taken so far.
        anatomy: What the model is made of.
    """

    progress: float
    step: int
    anatomy: Anatomy


@dataclass(frozen=True, slots=True)
class Plan:
    """What of a step is left out.

    Attributes:
        frozen: So many stages, from the input on, run forward only and keep their parameters.
        detached: Branches, counted through all residual stages, that have no backward.
        depth: So many residual stages are in use, from the input on; ``None`` for all.
        share: Of the side of an image, or of the length of a text, that is computed with.
    """

    frozen: int = 0
    detached: tuple[int, ...] = ()
    depth: int | None = None
    share: float = 1.0


FULL = Plan()


def plan_of(fields: Sequence[Any]) -> Plan:
    """Return the plan of such fields, in order, as JSON has them."""
    frozen, detached, depth, share = fields
    return Plan(frozen, tuple(detached), depth, share)


class _Use(NamedTuple):
    """How a stage is used by a plan: its place, and which of its branches keep no graph."""

    place: int
    stage: nn.Module
    detached: tuple[int, ...]


def _used(model: nn.Sequential, plan: Plan) -> Iterator[_Use]:
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
        yield _Use(place, stage, detached)


def forward(model: nn.Sequential, inputs: torch.Tensor, plan: Plan, first: int = 0) -> torch.Tensor:
    """Run the model as planned; no graph is kept of what is frozen or detached.

    Args:
        model: The model.
        inputs: What its stage number ``first`` takes.
        plan: What is left out.
        first: Stages before this one are not run, since their output is known.
    """
    if not (first or plan.frozen or plan.detached or plan.depth is not None):
        outputs: torch.Tensor = model(inputs)
        return outputs
    for place, stage, detached in _used(model, plan):
        if place < first:
            continue
        with torch.no_grad() if place < plan.frozen else nullcontext():
            inputs = stage(inputs, detached) if detached else stage(inputs)
    return inputs


def train_mode(model: nn.Sequential, plan: Plan) -> None:
    """Put frozen stages into evaluation mode, so that their normalisation stays, others not."""
    model.train()
    for stage in list(model)[: plan.frozen]:
        stage.eval()


def trained_parameters(model: nn.Sequential, plan: Plan) -> int:
    """Return how many parameters a planned step changes."""
    total = 0
    for place, stage, detached in _used(model, plan):
        if place >= plan.frozen:
            total += _size(stage)
            if isinstance(stage, ResidualStage):
                total -= sum(_size(stage.branches()[lost]) for lost in detached)
    return total


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
