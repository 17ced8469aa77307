"""Residual stages of models, and the structure of a model made of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from contextlib import nullcontext

import torch
from torch import nn

from effcore.records.step_plan import ModelStructure


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

    def zero_branches(self) -> None:
        """Let every branch add nothing, until it is trained."""
        for layer in self.last_layers():
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)


def structure_of(model: nn.Sequential) -> ModelStructure:
    """Return what a model is made of."""
    residual = [stage for stage in model if isinstance(stage, ResidualStage)]
    return ModelStructure(len(model), tuple(len(stage.branches()) for stage in residual))
