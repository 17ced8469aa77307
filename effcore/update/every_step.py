"""The plain update: every parameter, after every batch."""

from dataclasses import dataclass

from effcore.update.base import FULL, UPDATES, Plan, UpdatePolicy


@UPDATES.add
@dataclass(frozen=True)
class EveryStep(UpdatePolicy):
    """Backward through everything, clip, step."""

    id = "every-step"
    title = "Every step"
    summary = "Updates every parameter after every batch."
    rank = 0

    def plan(self, progress: float, stages: int) -> Plan:
        """Leave nothing out."""
        return FULL
