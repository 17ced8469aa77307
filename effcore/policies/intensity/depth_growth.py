"""Depth growth: start with a few residual stages and add the others later.

Gong et al. 2019, *Efficient Training of BERT by Progressively Stacking*, grow a shallow
model into a deep one; here, as in Evci et al. 2022, *GradMax* (its zero-initialised
baseline), an added stage starts with zero output, so that the loss does not jump.
"""

from dataclasses import dataclass, replace

from effcore.policies.intensity.base import INTENSITIES, GrowingPolicy
from effcore.records.step_plan import ModelStructure, StepPlan, StepProgress


@INTENSITIES.add
@dataclass(frozen=True)
class DepthGrowth(GrowingPolicy):
    """Start with the first residual stages; add the others with zero output."""

    id = "depth-growth"
    title = "Depth growth"
    summary = "Starts with a few residual stages and adds the others later."
    rank = 3

    @classmethod
    def incompatibility(cls, structure: ModelStructure, reducible: str) -> str:
        """Require two residual stages or more."""
        return "" if len(structure.branches) > 1 else "it does not have two or more residual stages"

    def plan(self, plan: StepPlan, step_progress: StepProgress) -> StepPlan:
        """Use the current share of the residual stages, at least one."""
        stages = len(step_progress.structure.branches)
        depth = max(1, round(self.size_share(step_progress) * stages))
        return plan if depth >= stages else replace(plan, depth=depth)
