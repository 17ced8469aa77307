"""Depth growth: a few residual stages first, all of them later.

Gong et al. 2019, *Efficient Training of BERT by Progressively Stacking*, grow a shallow
model into a deep one; here, as in Evci et al. 2022, *GradMax* (its zero-initialised
baseline), a stage that joins adds nothing at first, so that the loss does not jump.
"""

from dataclasses import dataclass, replace

from effcore.policies.intensity.base import INTENSITIES, GrowingPolicy
from effcore.records.step_plan import ModelStructure, StepPlan, StepProgress


@INTENSITIES.add
@dataclass(frozen=True)
class DepthGrowth(GrowingPolicy):
    """Begin with the first residual stages and add the others, each as a zero at first."""

    id = "depth-growth"
    title = "Depth growth"
    summary = "Begins with a few residual stages and ends with all of them."
    rank = 3

    @classmethod
    def incompatibility(cls, structure: ModelStructure, reducible: str) -> str:
        """Ask for two residual stages or more."""
        return "" if len(structure.branches) > 1 else "it is no stack of residual stages"

    def plan(self, plan: StepPlan, step_progress: StepProgress) -> StepPlan:
        """Use so many residual stages, one at least."""
        stages = len(step_progress.structure.branches)
        depth = max(1, round(self.size_share(step_progress) * stages))
        return plan if depth >= stages else replace(plan, depth=depth)
