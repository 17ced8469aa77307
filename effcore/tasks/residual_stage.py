"""Residual stages of models, and the structure of a model for step plans."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from contextlib import nullcontext

import torch
from torch import nn

from effcore.records.deprecation import with_old_names
from effcore.records.step_plan import ModelStructure


@with_old_names
class ResidualStage(nn.Module):
    """A stage that adds its branches to its input one after the other: x + f(x), then y + g(y)."""

    @abstractmethod
    def branches(self) -> tuple[nn.Module, ...]:
        """Return the branches in order; together they hold all parameters of the stage."""

    @abstractmethod
    def last_layers(self) -> tuple[nn.Linear, ...]:
        """Return the last linear layer of each branch."""

    def forward(self, x: torch.Tensor, detached: Collection[int] = ()) -> torch.Tensor:
        """Add all branches; those with an index in ``detached`` keep no graph."""
        for i, branch in enumerate(self.branches()):
            with torch.no_grad() if i in detached else nullcontext():
                added = branch(x)
            x = x + added
        return x

    def zero_branches(self) -> None:
        """Set every branch to zero output."""
        for layer in self.last_layers():
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)


def structure_of(model: nn.Sequential) -> ModelStructure:
    """Return the stages and residual branches of a model."""
    residual = [stage for stage in model if isinstance(stage, ResidualStage)]
    return ModelStructure(len(model), tuple(len(stage.branches()) for stage in residual))
