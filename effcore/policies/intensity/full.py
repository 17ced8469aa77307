"""Full intensity: every example at its size, through the whole model."""

from dataclasses import dataclass

from effcore.policies.intensity.base import INTENSITIES, IntensityPolicy
from effcore.records.step_plan import StepPlan, StepProgress


@INTENSITIES.add
@dataclass(frozen=True)
class Full(IntensityPolicy):
    """Leave nothing out."""

    id = "full"
    title = "Full"
    summary = "Every example at its size, through the whole model."
    rank = 0
    has_constant_plan = True

    def plan(self, plan: StepPlan, step_progress: StepProgress) -> StepPlan:
        """Return the plan as it is."""
        return plan
