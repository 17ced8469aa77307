"""Sequence growth: short pieces of text first, whole ones later.

Li et al. 2022, *The Stability-Efficiency Dilemma: Investigating Sequence Length Warmup for
Training GPT Models* (section 4): the input is cut to a length that grows with training.
What is cut off is not seen in that step, and not billed.
"""

from dataclasses import dataclass, replace

from effcore.intensity.base import INTENSITIES, IntensityPolicy, full_after, grown, start_share
from effcore.plan import Moment, Plan


@INTENSITIES.add
@dataclass(frozen=True)
class SequenceGrowth(IntensityPolicy):
    """Begin with the first part of each text and grow it."""

    id = "sequence-growth"
    title = "Sequence growth"
    summary = "Begins with short texts and ends with whole ones."
    rank = 2
    reduces = "length"

    first_size: float = start_share()
    full_size_after: float = full_after()

    def plan(self, plan: Plan, moment: Moment) -> Plan:
        """Compute with this share of the length."""
        return replace(plan, share=grown(self.first_size, self.full_size_after, moment.progress))
