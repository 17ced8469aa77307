"""The cut: which examples confident skip calls easy, and how much of the gradient they hold."""

from __future__ import annotations

from typing import NamedTuple

import torch

from effcore.events import LossHistogram
from effcore.explain.losses import losses, pool_of
from effcore.knobs import KnobSpec, knobs_of, with_knob
from effcore.selection.confident_skip import ConfidentSkip
from effcore.training.histogram import count_losses


class Cut(NamedTuple):
    """What one setting of the knob does to the losses shown.

    Attributes:
        histogram: The losses, with the cut in them.
        examples: How many there are.
        easy: How many lie below the cut.
        mass: Share of the gradient that those hold.
        skipped: How many of them this pass leaves out.
        revisit: A pass in so many looks at an easy example again.
    """

    histogram: LossHistogram
    examples: int
    easy: int
    mass: float
    skipped: int
    revisit: int


def knobs() -> dict[str, KnobSpec]:
    """Return the policy's two knobs that cut, by name."""
    return {spec.name: spec for spec in knobs_of(ConfidentSkip) if spec.group == "cut"}


def cut(name: str, value: float) -> Cut:
    """Return what the policy does with a knob set.

    Args:
        name: Of :func:`knobs`.
        value: In its range.

    Raises:
        KnobError: No such knob, or a value out of range.
    """
    policy = with_knob(ConfidentSkip(), name, value)
    known = losses()
    pool = pool_of(known.now)
    decision = policy.inclusion(pool)
    # Every easy example is due in one pass of so many, hence skipped in another.
    passes = range(pool.pass_index, pool.pass_index + policy.revisit)
    left_out = [policy.inclusion(pool_of(known.now, index)).pi_N == 0 for index in passes]
    easy_N = torch.stack(left_out).any(0)
    size_N = pool.gradient_size(known.now)
    return Cut(
        histogram=count_losses(known.now, decision.threshold, known.steps),
        examples=len(easy_N),
        easy=int(easy_N.sum()),
        mass=float(size_N[easy_N].sum() / size_N.sum()),
        skipped=int((decision.pi_N == 0).sum()),
        revisit=policy.revisit,
    )
