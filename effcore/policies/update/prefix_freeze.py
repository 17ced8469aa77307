"""Prefix freeze: late in a run the first stages have settled; stop paying for their backward.

Freezing from the input on follows FreezeOut (Brock et al. 2017, *FreezeOut: Accelerate
Training by Progressively Freezing Layers*), which anneals each layer's rate to zero first;
here the stages stop at one moment, which the user moves.
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

    The graph is cut at the boundary: a frozen stage runs forward in evaluation mode, so that
    its normalisation stays, and its parameters have no gradient, so that the optimizer skips
    them. What is saved is their backward and their optimizer step: with forward 1 and
    backward 2, at most two thirds of the frozen stages' share. Where examples are not
    augmented, what the frozen stages make of them stays the same, and is computed once for
    all of them and kept (as in AutoFreeze, Liu et al. 2021, section 3.3): then their forward
    is saved, too.
    """

    caches_features = True

    id = "prefix-freeze"
    title = "Prefix freeze"
    summary = "Stops training the first stages of the model late in the run."
    rank = 1

    frozen_share: float = knob(
        0.5,
        lo=0.0,
        hi=0.95,
        step=0.05,
        label="Frozen share",
        help="Share of the model's stages, from the input on, that stop training; never the last.",
    )
    freeze_after: float = knob(
        0.6,
        lo=0.0,
        hi=1.0,
        step=0.01,
        label="Freeze after",
        help="Share of the run after which they stop.",
    )

    def plan(self, step_progress: StepProgress) -> StepPlan:
        """Freeze the nearest whole number of stages, but never the last one."""
        if step_progress.progress < self.freeze_after:
            return FULL_PLAN
        stages = step_progress.structure.stages
        frozen = min(round(self.frozen_share * stages), stages - 1)
        return StepPlan(frozen) if frozen else FULL_PLAN
