"""Resolution: start with small images and end with full ones.

Progressive resizing, as in Howard 2018 (the fast.ai entry to DAWNBench) and in Touvron et
al. 2019, *Fixing the Train-Test Resolution Discrepancy*: a convolution on half the side
costs a quarter. The model is evaluated on full images, so the run ends with them.
"""

from dataclasses import dataclass

from effcore.policies.intensity.base import INTENSITIES, GrowingPolicy


@INTENSITIES.add
@dataclass(frozen=True)
class Resolution(GrowingPolicy):
    """Start with images of a smaller side and grow them."""

    id = "resolution"
    title = "Resolution"
    summary = "Starts with small images and ends with full ones."
    rank = 1
    reduces = "resolution"
