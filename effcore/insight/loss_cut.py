"""The cut: which examples confident skip calls easy, and how much of the gradient they hold."""

from __future__ import annotations

from typing import NamedTuple

import torch

from effcore.insight.early_losses import example_state_of, train_early_losses
from effcore.knobs import KnobSpec, knobs_of, with_knob
from effcore.policies.selection.confident_skip import ConfidentSkip
from effcore.records import LossHistogram
from effcore.training.loss_transfer import build_loss_histogram


class LossCut(NamedTuple):
    """What one setting of the knob does to the losses shown.

    Attributes:
        histogram: The losses, with the cut in them.
        examples: How many there are.
        easy_examples: How many lie below the cut.
        gradient_mass: Share of the gradient that those hold.
        skipped_examples: How many of them this pass leaves out.
        revisit_epochs: A pass in so many looks at an easy example again.
    """

    histogram: LossHistogram
    examples: int
    easy_examples: int
    gradient_mass: float
    skipped_examples: int
    revisit_epochs: int


def cut_knobs() -> dict[str, KnobSpec]:
    """Return the policy's two knobs that cut, by name."""
    return {spec.name: spec for spec in knobs_of(ConfidentSkip) if spec.group == "cut"}


def cut_losses(knob_name: str, value: float) -> LossCut:
    """Return what the policy does with a knob set.

    Args:
        knob_name: Of :func:`cut_knobs`.
        value: In its range.

    Raises:
        KnobError: No such knob, or a value out of range.
    """
    policy = with_knob(ConfidentSkip(), knob_name, value)
    known = train_early_losses()
    pool = example_state_of(known.now)
    decision = policy.inclusion_probabilities(pool)
    # Every easy example is due in one pass of so many, hence skipped in another.
    passes = range(pool.epoch_index, pool.epoch_index + policy.revisit)
    left_out = [
        policy.inclusion_probabilities(example_state_of(known.now, index)).pi_N == 0
        for index in passes
    ]
    easy_N = torch.stack(left_out).any(0)
    size_N = pool.gradient_size(known.now)
    return LossCut(
        histogram=build_loss_histogram(known.now, decision.threshold, known.steps),
        examples=len(easy_N),
        easy_examples=int(easy_N.sum()),
        gradient_mass=float(size_N[easy_N].sum() / size_N.sum()),
        skipped_examples=int((decision.pi_N == 0).sum()),
        revisit_epochs=policy.revisit,
    )
