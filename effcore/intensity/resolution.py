"""Resolution: small images first, full ones later.

Progressive resizing, as in Howard 2018 (the fast.ai entry to DAWNBench) and in Touvron et
al. 2019, *Fixing the Train-Test Resolution Discrepancy*: a convolution on half the side
costs a quarter. What is judged is the full image, so the run ends with it.
"""

from dataclasses import dataclass, replace

from effcore.intensity.base import INTENSITIES, IntensityPolicy, full_after, grown, start_share
from effcore.plan import Moment, Plan


@INTENSITIES.add
@dataclass(frozen=True)
class Resolution(IntensityPolicy):
    """Begin with images of a smaller side and grow them."""

    id = "resolution"
    title = "Resolution"
    summary = "Begins with small images and ends with full ones."
    rank = 1
    reduces = "resolution"

    first_size: float = start_share()
    full_size_after: float = full_after()

    def plan(self, plan: Plan, moment: Moment) -> Plan:
        """Compute with this share of the side."""
        return replace(plan, share=grown(self.first_size, self.full_size_after, moment.progress))
