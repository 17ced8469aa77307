"""Skip step: skip whole batches whose examples have a low last loss.

The decision is made before the forward pass, from the loss that each example had when it was
last trained on. A rule that needs the gradient first would save only the optimizer step.
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
    """Skip the batches with the lowest mean last loss.

    Batches are drawn at random, so their means lie close together, and an easy example is
    skipped only when its whole batch is. This is a coarse form of selection: it needs nothing
    of the training loop but whole batches.
    """

    id = "skip-step"
    title = "Skip step"
    summary = "Skips whole batches whose examples had a low loss when last trained on."
    rank = 3
    tuning_grid = (
        {},
        {"step_share": 0.15},
        {"step_share": 0.4},
        {"step_share": 0.6},
    )
    skips_batches = True
    has_constant_plan = True

    step_share: float = knob(
        0.25,
        lo=0.0,
        hi=0.9,
        step=0.01,
        label="Skipped steps",
        help="Share of an epoch's batches that is skipped, lowest last loss first.",
    )

    def plan(self, step_progress: StepProgress) -> StepPlan:
        """Return the full plan: a step is either complete or skipped."""
        return FULL_PLAN

    def skipped_batches(self, loss_K: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return the batches with the lowest mean loss; never one with unseen examples."""
        known = np.isfinite(loss_K)
        count = min(int(self.step_share * len(loss_K)), int(known.sum()))
        skipped = np.zeros(len(loss_K), dtype=np.bool_)
        skipped[np.argsort(np.where(known, loss_K, np.inf), kind="stable")[:count]] = True
        return skipped
