"""Sequence growth: short pieces of text first, whole ones later.

Li et al. 2022, *The Stability-Efficiency Dilemma: Investigating Sequence Length Warmup for
Training GPT Models* (section 4): the input is cut to a length that grows with training.
What is cut off is not seen in that step, and not billed.
"""

from dataclasses import dataclass

from effcore.policies.intensity.base import INTENSITIES, GrowingPolicy


@INTENSITIES.add
@dataclass(frozen=True)
class SequenceGrowth(GrowingPolicy):
    """Begin with the first part of each text and grow it."""

    id = "sequence-growth"
    title = "Sequence growth"
    summary = "Begins with short texts and ends with whole ones."
    rank = 2
    reduces = "length"
