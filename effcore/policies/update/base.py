"""Base class of update policies: which part of a step is computed, and how parameters change.

Before each step a policy returns a :class:`~effcore.records.step_plan.StepPlan`. The forward
pass, the ledger and the optimizer follow that plan.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from effcore.records.deprecation import with_old_names
from effcore.records.settings import Settings
from effcore.records.step_plan import ModelStructure, StepPlan, StepProgress
from effcore.registry import Registry


@with_old_names
@dataclass(frozen=True)
class UpdatePolicy(ABC):
    """A rule for when and how parameters change; knobs are its fields."""

    id: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    rank: ClassVar[int] = 50
    #: Knob values that ``bench savings`` tries on the validation split, the defaults first.
    tuning_grid: ClassVar[tuple[Settings, ...]] = ({},)

    #: Whether the outputs of frozen stages are cached; used where examples are not augmented.
    caches_features: ClassVar[bool] = False
    #: Whether the plan never changes, so that it is not computed again for each step.
    has_constant_plan: ClassVar[bool] = False
    #: Whether the policy skips whole batches of an epoch.
    skips_batches: ClassVar[bool] = False

    @classmethod
    def incompatibility(cls, structure: ModelStructure) -> str:
        """Return why the policy cannot train a model of this structure; empty if it can."""
        return ""

    @abstractmethod
    def plan(self, step_progress: StepProgress) -> StepPlan:
        """Return which parts of the next step to leave out; the last stage must stay trained."""

    def skipped_batches(self, loss_K: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which of the coming batches to skip, bool of shape (K,).

        Called when the draw of an epoch is decided, before any of them is computed.

        Args:
            loss_K: Mean last loss of each batch; ``inf`` if an example in it is unseen.
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

        A parameter without a gradient keeps ``grad = None``, so that the optimizer neither decays
        it nor moves it by its momentum.

        Args:
            loss: The loss to minimise, 0-d, with its graph.
            model: The model being trained.
            optimizer: The optimizer; the learning rate of this step is already set.
            clip_norm: Largest gradient norm; 0 turns clipping off.
        """
        for group in optimizer.param_groups:  # zero_grad takes ten times as long
            for parameter in group["params"]:
                parameter.grad = None
        torch.autograd.backward(loss)
        if clip_norm > 0:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()


UPDATES: Registry[UpdatePolicy] = Registry("update policy", "effcore.policies.update")
