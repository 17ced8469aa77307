"""Drop backward: each step leaves out the backward pass of some residual branches.

Woo et al. 2024, *DropBP: Accelerating Fine-Tuning of Large Language Models by Dropping
Backward Propagation* (section 3.1): layers are dropped from the backward pass at random,
the forward pass stays complete, and the shortcut carries the gradient past them. The paper
sets the drop rate of each layer by its sensitivity; here all layers have the same rate.
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
    """Detach different residual branches in each step; each branch is trained equally often.

    The branches have one fixed random order, and each step trains the next of them cyclically.
    There are thus at most as many patterns as branches, and the FLOPs of each are counted once.
    As few patterns drawn independently would leave some branches untrained for a whole run.
    With a cost of 1 for forward and 2 for backward, at most two thirds of the branches' share
    is skipped.
    """

    id = "drop-backward"
    title = "Drop backward"
    summary = "Leaves out the backward pass of some residual branches, different ones in each step."
    rank = 2
    tuning_grid = (
        {},
        {"drop_share": 0.25},
        {"drop_share": 0.75},
        {"drop_share": 1.0},
        {"drop_share": 0.1},
        {"drop_share": 0.4},
    )

    drop_share: float = knob(
        0.5,
        lo=0.0,
        hi=1.0,
        step=0.05,
        label="Dropped share",
        help="Share of the residual branches that have no backward pass in a step.",
    )

    @classmethod
    def incompatibility(cls, structure: ModelStructure) -> str:
        """Require residual branches: only a shortcut carries the gradient past a dropped layer."""
        return "" if structure.branches else "it has no residual branches"

    def plan(self, step_progress: StepProgress) -> StepPlan:
        """Detach all branches but those that are next in the order."""
        branches = sum(step_progress.structure.branches)
        dropped = round(self.drop_share * branches)
        if self.drop_share < 1.0:
            dropped = min(dropped, max(0, branches - 1))
        if not dropped:
            return FULL_PLAN
        trained_count = branches - dropped
        order = np.random.default_rng([branches, dropped]).permutation(branches)
        first = step_progress.step * trained_count
        trained = {int(order[(first + branch) % branches]) for branch in range(trained_count)}
        return StepPlan(
            detached=tuple(branch for branch in range(branches) if branch not in trained)
        )
