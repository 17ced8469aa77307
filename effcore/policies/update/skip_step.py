"""Skip step: batches in which little is left to learn are not computed at all.

The decision falls before the forward pass, from the losses that the batch's examples had
when they were last trained on. A rule that looked at the gradient first would save nothing
but the optimizer's arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effcore.knobs import knob
from effcore.policies.update.base import UPDATES, UpdatePolicy
from effcore.records.step_plan import FULL_PLAN, StepPlan, StepProgress


@UPDATES.add
@dataclass(frozen=True)
class SkipStep(UpdatePolicy):
    """Leave out the batches of the lowest mean last loss.

    Batches are drawn at random, so their means lie close together and an easy example is
    skipped only together with its neighbours: a coarse kind of selection, which needs no
    more of a training than whole batches.
    """

    id = "skip-step"
    title = "Skip step"
    summary = "Skips whole batches whose examples were easy when last seen."
    rank = 3
    skips_batches = True
    has_constant_plan = True

    step_share: float = knob(
        0.25,
        lo=0.0,
        hi=0.9,
        step=0.01,
        label="Skipped steps",
        help="Share of a pass's batches, those of the lowest last loss, that are skipped.",
    )

    def plan(self, step_progress: StepProgress) -> StepPlan:
        """Leave nothing of a step out; it is taken or not."""
        return FULL_PLAN

    def skipped_batches(self, loss_K: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return the batches of the lowest mean loss, of those that hold nothing new."""
        known = np.isfinite(loss_K)
        count = min(int(self.step_share * len(loss_K)), int(known.sum()))
        skipped = np.zeros(len(loss_K), dtype=np.bool_)
        skipped[np.argsort(np.where(known, loss_K, np.inf), kind="stable")[:count]] = True
        return skipped
