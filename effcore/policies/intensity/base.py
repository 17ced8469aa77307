"""Base class of intensity policies: how much of the model or of an example a step uses.

Selection decides which examples are trained on, update which parameters change, and intensity
how much is computed per example. The three combine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

from effcore.knobs import knob
from effcore.records.deprecation import with_old_names
from effcore.records.settings import Settings
from effcore.records.step_plan import ModelStructure, StepPlan, StepProgress
from effcore.registry import Registry


@with_old_names
@dataclass(frozen=True)
class IntensityPolicy(ABC):
    """A rule for how much of a step's model or inputs is used; knobs are its fields."""

    id: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    rank: ClassVar[int] = 50
    #: Knob values that ``bench savings`` tries on the validation split, the defaults first.
    tuning_grid: ClassVar[tuple[Settings, ...]] = ({},)
    #: What the policy reduces of an example: ``resolution``, ``length`` or nothing.
    reduces: ClassVar[str] = ""
    #: Whether the policy never changes a plan, so that it is not called for each step.
    has_constant_plan: ClassVar[bool] = False

    @classmethod
    def incompatibility(cls, structure: ModelStructure, reducible: str) -> str:
        """Return why the policy cannot train a model; empty if it can.

        Args:
            structure: The stages and branches of the model.
            reducible: What the model accepts at reduced size: ``resolution``, ``length`` or
                nothing.
        """
        if cls.reduces and cls.reduces != reducible:
            return f"it does not accept examples of smaller {cls.reduces}"
        return ""

    @abstractmethod
    def plan(self, plan: StepPlan, step_progress: StepProgress) -> StepPlan:
        """Return the update policy's plan, extended by what this policy leaves out."""


INTENSITIES: Registry[IntensityPolicy] = Registry("intensity policy", "effcore.policies.intensity")


#: Sizes below the full one; few, since each has to be counted and compiled once.
GROWTH_LEVELS = 3


def grown_share(first: float, full_after: float, progress: float) -> float:
    """Return the share of the full size at ``progress``, in ``GROWTH_LEVELS`` equal steps."""
    if progress >= full_after:
        return 1.0
    level = int(progress / full_after * GROWTH_LEVELS)
    return first + (1.0 - first) * level / GROWTH_LEVELS


@with_old_names
@dataclass(frozen=True)
class GrowingPolicy(IntensityPolicy):
    """Start with a reduced size and grow it to the full size."""

    tuning_grid: ClassVar[tuple[Settings, ...]] = (
        {},
        {"first_size": 0.5, "full_size_after": 0.3},
        {"first_size": 0.75, "full_size_after": 0.5},
        {"first_size": 0.5, "full_size_after": 0.8},
        {"first_size": 0.5, "full_size_after": 0.65},
        {"first_size": 0.25, "full_size_after": 0.4},
    )

    first_size: float = knob(
        0.5,
        lo=0.25,
        hi=1.0,
        step=0.05,
        label="First size",
        help="Share of the full size at the start of the run.",
    )
    full_size_after: float = knob(
        0.5,
        lo=0.0,
        hi=0.95,
        step=0.01,
        label="Full size after",
        help="Share of the run after which the full size is used.",
    )

    def size_share(self, step_progress: StepProgress) -> float:
        """Return the share of the full size at a point of the run."""
        return grown_share(self.first_size, self.full_size_after, step_progress.progress)

    def plan(self, plan: StepPlan, step_progress: StepProgress) -> StepPlan:
        """Compute with the current share of an example's side or length."""
        return replace(plan, share=self.size_share(step_progress))
