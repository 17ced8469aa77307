"""Drop backward: each step, some residual branches have no backward.

Woo et al. 2024, *DropBP: Accelerating Fine-Tuning of Large Language Models by Dropping
Backward Propagation* (section 3.1): layers are dropped from the backward pass at random,
the forward pass stays whole, and the shortcut carries the gradient past them. The paper
gives every layer a drop rate of its own by its sensitivity; here all have the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from effcore.knobs import knob
from effcore.policies.update.base import UPDATES, UpdatePolicy
from effcore.records.step_plan import FULL_PLAN, ModelStructure, StepPlan, StepProgress


@UPDATES.add
@dataclass(frozen=True)
class DropBackward(UpdatePolicy):
    """Detach residual branches, others in each step; every branch is trained equally often.

    Their order is random, and fixed; each step trains the next of it, round and round. So there
    are no more patterns than branches, each of which is costed but once; of independent draws
    so few would leave some branches untrained for a whole run. With forward 1 and
    backward 2, at most two thirds of the branches' share is saved.
    """

    id = "drop-backward"
    title = "Drop backward"
    summary = "Leaves out the backward of some residual branches, others in each step."
    rank = 2

    drop_share: float = knob(
        0.5,
        lo=0.0,
        hi=1.0,
        step=0.05,
        label="Dropped share",
        help="Share of the residual branches without a backward in a step.",
    )

    @classmethod
    def incompatibility(cls, structure: ModelStructure) -> str:
        """Ask for a residual stack: nothing else passes a gradient on without a backward."""
        return "" if structure.branches else "it has no residual branches"

    def plan(self, step_progress: StepProgress) -> StepPlan:
        """Train the branches that are next in their order."""
        branches = sum(step_progress.structure.branches)
        dropped = round(self.drop_share * branches)
        if self.drop_share < 1.0:
            dropped = min(dropped, max(0, branches - 1))
        if not dropped:
            return FULL_PLAN
        kept = branches - dropped
        order = np.random.default_rng([branches, dropped]).permutation(branches)
        first = step_progress.step * kept
        held = {int(order[(first + place) % branches]) for place in range(kept)}
        return StepPlan(detached=tuple(place for place in range(branches) if place not in held))
