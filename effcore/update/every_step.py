"""The plain update: every parameter, after every batch."""

from dataclasses import dataclass

from effcore.plan import FULL, Moment, Plan
from effcore.update.base import UPDATES, UpdatePolicy


@UPDATES.add
@dataclass(frozen=True)
class EveryStep(UpdatePolicy):
    """Backward through everything, clip, step."""

    id = "every-step"
    title = "Every step"
    summary = "Updates every parameter after every batch."
    rank = 0
    steady = True

    def plan(self, moment: Moment) -> Plan:
        """Leave nothing out."""
        return FULL
