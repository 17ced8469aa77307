"""Full intensity: every example at its size, through the whole model."""

from dataclasses import dataclass

from effcore.intensity.base import INTENSITIES, IntensityPolicy
from effcore.plan import Moment, Plan


@INTENSITIES.add
@dataclass(frozen=True)
class Full(IntensityPolicy):
    """Leave nothing out."""

    id = "full"
    title = "Full"
    summary = "Every example at its size, through the whole model."
    rank = 0
    steady = True

    def plan(self, plan: Plan, moment: Moment) -> Plan:
        """Return the plan as it is."""
        return plan
