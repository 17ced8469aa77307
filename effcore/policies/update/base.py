"""What every update policy is: which part of a step is done, and how parameters change.

Before each step a policy answers with a :class:`~effcore.records.step_plan.StepPlan`; the forward
pass, the ledger and the optimizer follow from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from effcore.records.step_plan import ModelStructure, StepPlan, StepProgress
from effcore.registry import Registry


@dataclass(frozen=True)
class UpdatePolicy(ABC):
    """A rule for when and how parameters change; knobs are its fields."""

    id: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    rank: ClassVar[int] = 50

    #: Whether what a frozen stage makes of an example is kept, where that does not change.
    caches_features: ClassVar[bool] = False
    #: Whether its plan is always the same, so that no step need ask for it.
    has_constant_plan: ClassVar[bool] = False
    #: Whether it leaves out whole batches of a pass.
    skips_batches: ClassVar[bool] = False

    @classmethod
    def incompatibility(cls, structure: ModelStructure) -> str:
        """Return why a model cannot be trained this way; empty where it can."""
        return ""

    @abstractmethod
    def plan(self, step_progress: StepProgress) -> StepPlan:
        """Return what of the next step is left out; the last stage must stay trained."""

    def skipped_batches(self, loss_K: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which of the batches ahead are not trained on at all.

        Asked when a pass is decided, before anything of them is computed.

        Args:
            loss_K: Mean last loss of each batch, ``inf`` where one of its examples is new.
        """
        return np.zeros(len(loss_K), dtype=np.bool_)

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


UPDATES: Registry[UpdatePolicy] = Registry("update policy", "effcore.policies.update")
