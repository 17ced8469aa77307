"""Full intensity: every example at full size, through the whole model."""

from dataclasses import dataclass

from effcore.policies.intensity.base import INTENSITIES, IntensityPolicy
from effcore.records.step_plan import StepPlan, StepProgress


@INTENSITIES.add
@dataclass(frozen=True)
class Full(IntensityPolicy):
    """Reduce nothing."""

    id = "full"
    title = "Full"
    summary = "Computes every example at full size, through the whole model."
    rank = 0
    has_constant_plan = True

    def plan(self, plan: StepPlan, step_progress: StepProgress) -> StepPlan:
        """Return the plan unchanged."""
        return plan
