"""Power from a counter that knows only energy: what was added since the last look."""

from __future__ import annotations

import math


class MeanPower:
    """Mean power between readings.

    Args:
        min_gap_s: A shorter gap says nothing: the counter's own refresh would dominate.
        step_s: Time between two steps of the counter, s: so much of a gap may be missing in
            what it gained over it, or be in there from before.
    """

    def __init__(self, min_gap_s: float, step_s: float = 0.0) -> None:
        self._min_gap_s, self._step_s = min_gap_s, step_s
        #: What a step may put the last power out by, as a share.
        self.error_frac = math.nan
        self._last_reading: tuple[float, float] | None = None

    def __call__(self, t_mono: float, energy_j: float) -> float:
        """Return the mean power since the last call, W; NaN where there is nothing to tell."""
        last, self._last_reading = self._last_reading, (t_mono, energy_j)
        self.error_frac = math.nan
        if last is None or t_mono - last[0] < self._min_gap_s or energy_j < last[1]:
            return math.nan
        gap_s = t_mono - last[0]
        self.error_frac = self._step_s / gap_s
        return (energy_j - last[1]) / gap_s
