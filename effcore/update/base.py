"""What every update policy is: which part of a step is done, and how parameters change.

A model is a sequence of stages. Before each step a policy answers with a :class:`Plan`;
the forward pass, the ledger and the optimizer follow from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from effcore.registry import Registry


@dataclass(frozen=True, slots=True)
class Plan:
    """What of a step is left out.

    Attributes:
        frozen: So many stages, from the input on, run forward only and keep their parameters.
    """

    frozen: int = 0


FULL = Plan()


def forward(model: nn.Sequential, inputs: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Run the model as planned; no graph is kept of its frozen stages."""
    if plan is FULL:
        outputs: torch.Tensor = model(inputs)
        return outputs
    stages = list(model)
    with torch.no_grad():
        for stage in stages[: plan.frozen]:
            inputs = stage(inputs)
    for stage in stages[plan.frozen :]:
        inputs = stage(inputs)
    return inputs


def train_mode(model: nn.Sequential, plan: Plan) -> None:
    """Put frozen stages into evaluation mode, so that their normalisation stays, others not."""
    model.train()
    for stage in list(model)[: plan.frozen]:
        stage.eval()


def trained_parameters(model: nn.Sequential, plan: Plan) -> int:
    """Return how many parameters a planned step changes."""
    return sum(p.numel() for stage in list(model)[plan.frozen :] for p in stage.parameters())


@dataclass(frozen=True)
class UpdatePolicy(ABC):
    """A rule for when and how parameters change; knobs are its fields."""

    id: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    rank: ClassVar[int] = 50

    @abstractmethod
    def plan(self, progress: float, stages: int) -> Plan:
        """Return what of the next step is left out.

        Args:
            progress: Share of the run behind us, 0 to 1.
            stages: Stages of the model; at least one of them must stay trained.
        """

    def update(
        self,
        loss: torch.Tensor,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        clip_norm: float,
    ) -> None:
        """Backpropagate, clip without reading the norm to the host, and step.

        A parameter that no gradient reaches has none, so that the optimizer leaves it alone:
        neither decayed nor moved by its momentum.

        Args:
            loss: What to descend, 0-d, with its graph.
            model: The model being trained.
            optimizer: Holds the learning rate already set for this step.
            clip_norm: Largest gradient norm; 0 clips nothing.
        """
        for group in optimizer.param_groups:  # as zero_grad does, which takes ten times as long
            for parameter in group["params"]:
                parameter.grad = None
        torch.autograd.backward(loss)
        if clip_norm > 0:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()


UPDATES: Registry[UpdatePolicy] = Registry("update policy", "effcore.update")
