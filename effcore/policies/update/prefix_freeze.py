"""Prefix freeze: stop training the first stages late in a run, once they have settled.

Freezing from the input on follows FreezeOut (Brock et al. 2017, *FreezeOut: Accelerate
Training by Progressively Freezing Layers*), which first anneals each layer's
learning rate to zero; here all frozen stages stop at one point, which is a knob.
"""

from __future__ import annotations

from dataclasses import dataclass

from effcore.knobs import knob
from effcore.policies.update.base import UPDATES, UpdatePolicy
from effcore.records.step_plan import FULL_PLAN, StepPlan, StepProgress


@UPDATES.add
@dataclass(frozen=True)
class PrefixFreeze(UpdatePolicy):
    """Freeze the first stages of the model for the last part of the run.

    The graph is cut at the boundary. A frozen stage runs forward in evaluation mode, so that
    its normalisation statistics stay fixed; its parameters have no gradient, so that the
    optimizer leaves them alone. Their backward pass and optimizer step are skipped: with a cost
    of 1 for forward and 2 for backward, at most two thirds of the frozen stages' share. Where
    examples are not augmented, the outputs of the frozen stages are computed once for all
    examples and cached (as in AutoFreeze, Liu et al. 2021, section 3.3), which skips their
    forward pass, too.
    """

    caches_features = True

    id = "prefix-freeze"
    title = "Prefix freeze"
    summary = "Stops training the first stages of the model late in the run."
    rank = 1
    tuning_grid = (
        {},
        {"frozen_share": 0.3, "freeze_after": 0.5},
        {"frozen_share": 0.5, "freeze_after": 0.8},
        {"frozen_share": 0.7, "freeze_after": 0.7},
        {"frozen_share": 0.5, "freeze_after": 0.65},
        {"frozen_share": 0.7, "freeze_after": 0.85},
    )

    frozen_share: float = knob(
        0.5,
        lo=0.0,
        hi=0.95,
        step=0.05,
        label="Frozen share",
        help="Share of the model's stages to freeze, from the input on; the last is never frozen.",
    )
    freeze_after: float = knob(
        0.6,
        lo=0.0,
        hi=1.0,
        step=0.01,
        label="Freeze after",
        help="Share of the run after which these stages are frozen.",
    )

    def plan(self, step_progress: StepProgress) -> StepPlan:
        """Freeze the share of stages, rounded to a whole number, but never the last one."""
        if step_progress.progress < self.freeze_after:
            return FULL_PLAN
        stages = step_progress.structure.stages
        frozen = min(round(self.frozen_share * stages), stages - 1)
        return StepPlan(frozen) if frozen else FULL_PLAN
