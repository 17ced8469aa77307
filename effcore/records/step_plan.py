"""The plan of a training step: which parts of it the update and intensity policies leave out.

A model is a sequence of stages, some of which may be residual: x plus one or more branches.
The forward pass, the ledger and the optimizer follow from a :class:`StepPlan`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from effcore.records.deprecation import with_old_names


@dataclass(frozen=True, slots=True)
class ModelStructure:
    """What a model is made of, as far as a plan refers to it.

    Attributes:
        stages: All stages.
        branches: For each residual stage, the number of its branches.
    """

    stages: int
    branches: tuple[int, ...] = ()


@with_old_names
@dataclass(frozen=True, slots=True)
class StepProgress:
    """When a step is planned.

    Attributes:
        progress: Share of the run behind us, 0 to 1.
        step: Steps taken so far.
        structure: What the model is made of.
    """

    progress: float
    step: int
    structure: ModelStructure


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What of a step is left out.

    Attributes:
        frozen: So many stages, from the input on, run forward only and keep their parameters.
        detached: Branches, counted through all residual stages, that have no backward.
        depth: So many residual stages are in use, from the input on; ``None`` for all.
        share: Of the side of an image, or of the length of a text, that is computed with.
    """

    frozen: int = 0
    detached: tuple[int, ...] = ()
    depth: int | None = None
    share: float = 1.0


FULL_PLAN = StepPlan()


def plan_from_fields(fields: Sequence[Any]) -> StepPlan:
    """Return the plan of such fields, in order, as JSON has them."""
    frozen, detached, depth, share = fields
    return StepPlan(frozen, tuple(detached), depth, share)
