"""Cut of confident skip: which examples are easy, and their share of the gradient."""

from __future__ import annotations

from typing import NamedTuple

import torch

from effcore.insight.early_losses import example_state_of, train_early_losses
from effcore.knobs import KnobSpec, knobs_of, with_knob
from effcore.policies.selection.confident_skip import ConfidentSkip
from effcore.records import LossHistogram
from effcore.training.loss_transfer import build_loss_histogram


class LossCut(NamedTuple):
    """Effect of one knob value on the losses.

    Attributes:
        histogram: The losses with the threshold.
        examples: Number of examples.
        easy_examples: Number of examples below the cut.
        gradient_mass: Their share of the total gradient size.
        skipped_examples: How many of them this epoch skips.
        revisit_epochs: Every so many epochs an easy example is trained on again.
    """

    histogram: LossHistogram
    examples: int
    easy_examples: int
    gradient_mass: float
    skipped_examples: int
    revisit_epochs: int


def cut_knobs() -> dict[str, KnobSpec]:
    """Return the policy's two knobs that set the cut, by name."""
    return {spec.name: spec for spec in knobs_of(ConfidentSkip) if spec.group == "cut"}


def cut_losses(knob_name: str, value: float) -> LossCut:
    """Return the effect of a knob value on the losses.

    Args:
        knob_name: A key of :func:`cut_knobs`.
        value: The knob's value, within its range.

    Raises:
        KnobError: There is no such knob, or the value is out of range.
    """
    policy = with_knob(ConfidentSkip(), knob_name, value)
    early_losses = train_early_losses()
    example_state = example_state_of(early_losses.now)
    decision = policy.inclusion_probabilities(example_state)
    # Every easy example is trained on in one epoch of ``revisit``, and skipped in the others.
    epochs = range(example_state.epoch_index, example_state.epoch_index + policy.revisit)
    skipped_by_epoch = [
        policy.inclusion_probabilities(example_state_of(early_losses.now, index)).pi_N == 0
        for index in epochs
    ]
    easy_N = torch.stack(skipped_by_epoch).any(0)
    size_N = example_state.gradient_size(early_losses.now)
    return LossCut(
        histogram=build_loss_histogram(early_losses.now, decision.threshold, early_losses.steps),
        examples=len(easy_N),
        easy_examples=int(easy_N.sum()),
        gradient_mass=float(size_N[easy_N].sum() / size_N.sum()),
        skipped_examples=int((decision.pi_N == 0).sum()),
        revisit_epochs=policy.revisit,
    )
