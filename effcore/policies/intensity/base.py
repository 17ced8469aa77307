"""What every intensity policy is: how much of model or example a step computes with.

Selection decides who is trained on, the update which parameters change, intensity how
closely an example is looked at. The three stack.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

from effcore.knobs import knob
from effcore.records.step_plan import ModelStructure, StepPlan, StepProgress
from effcore.registry import Registry


@dataclass(frozen=True)
class IntensityPolicy(ABC):
    """A rule for how much of a step's model or inputs is used; knobs are its fields."""

    id: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    rank: ClassVar[int] = 50
    #: What it makes smaller about an example, as tasks name it; empty where nothing.
    reduces: ClassVar[str] = ""
    #: Whether it never changes a plan, so that no step need ask for it.
    has_constant_plan: ClassVar[bool] = False

    @classmethod
    def incompatibility(cls, structure: ModelStructure, reducible: str) -> str:
        """Return why a model cannot be trained this way; empty where it can.

        Args:
            structure: What the model is made of.
            reducible: What of an example the model takes smaller, too.
        """
        if cls.reduces and cls.reduces != reducible:
            return f"its examples have no {cls.reduces} that could be smaller"
        return ""

    @abstractmethod
    def plan(self, plan: StepPlan, step_progress: StepProgress) -> StepPlan:
        """Return the update policy's plan with what this policy leaves out besides."""


INTENSITIES: Registry[IntensityPolicy] = Registry("intensity policy", "effcore.policies.intensity")


#: Sizes that a growing thing goes through; few, so that each is costed, and compiled, once.
GROWTH_LEVELS = 3


def grown_share(first: float, full_after: float, progress: float) -> float:
    """Return the share of the full size at a point of the run, in ``LEVELS`` equal steps."""
    if progress >= full_after:
        return 1.0
    level = int(progress / full_after * GROWTH_LEVELS)
    return first + (1.0 - first) * level / GROWTH_LEVELS


@dataclass(frozen=True)
class GrowingPolicy(IntensityPolicy):
    """Begin with less of something, and grow it."""

    first_size: float = knob(
        0.5,
        lo=0.25,
        hi=1.0,
        step=0.05,
        label="First size",
        help="Share of the full size that the run begins with.",
    )
    full_size_after: float = knob(
        0.5,
        lo=0.0,
        hi=0.95,
        step=0.01,
        label="Full size after",
        help="Share of the run after which everything is at full size.",
    )

    def size_share(self, step_progress: StepProgress) -> float:
        """Return the share of the full size at a point of the run."""
        return grown_share(self.first_size, self.full_size_after, step_progress.progress)

    def plan(self, plan: StepPlan, step_progress: StepProgress) -> StepPlan:
        """Compute with this share of an example's side or length."""
        return replace(plan, share=self.size_share(step_progress))
