"""Every step: the standard update of all parameters after every batch."""

from dataclasses import dataclass

from effcore.policies.update.base import UPDATES, UpdatePolicy
from effcore.records.step_plan import FULL_PLAN, StepPlan, StepProgress


@UPDATES.add
@dataclass(frozen=True)
class EveryStep(UpdatePolicy):
    """Run the full backward pass, clip the gradient, and take the optimizer step."""

    id = "every-step"
    title = "Every step"
    summary = "Updates every parameter after every batch."
    rank = 0
    has_constant_plan = True

    def plan(self, step_progress: StepProgress) -> StepPlan:
        """Return the full plan."""
        return FULL_PLAN
