"""What every update policy is: losses in, changed parameters out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from effcore.registry import Registry


@dataclass(frozen=True)
class UpdatePolicy(ABC):
    """A rule for when and how parameters change; knobs are its fields."""

    id: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    rank: ClassVar[int] = 50

    @abstractmethod
    def update(
        self,
        loss: torch.Tensor,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        clip_norm: float,
    ) -> None:
        """Use one batch's mean loss (0-d, with graph) to change the parameters.

        Args:
            loss: What to descend.
            model: The model being trained.
            optimizer: Holds the learning rate already set for this step.
            clip_norm: Largest gradient norm; 0 clips nothing.
        """


UPDATES: Registry[UpdatePolicy] = Registry("update policy", "effcore.update")
