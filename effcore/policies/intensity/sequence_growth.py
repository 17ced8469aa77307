"""Sequence growth: start with short texts and end with whole ones.

Li et al. 2022, *The Stability-Efficiency Dilemma: Investigating Sequence Length Warmup for
Training GPT Models* (section 4): the input is cut to a length that grows with training.
The part cut off is not computed in that step and costs no FLOPs.
"""

from dataclasses import dataclass

from effcore.policies.intensity.base import INTENSITIES, GrowingPolicy


@INTENSITIES.add
@dataclass(frozen=True)
class SequenceGrowth(GrowingPolicy):
    """Start with the first part of each text and grow it."""

    id = "sequence-growth"
    title = "Sequence growth"
    summary = "Starts with short texts and ends with whole ones."
    rank = 2
    reduces = "length"
