"""Mean power from an energy counter, between two readings."""

from __future__ import annotations

import math


class MeanPower:
    """Mean power between readings.

    Args:
        min_gap_s: Shortest gap, s, that gives a power: below, the counter's own update period
            would dominate.
        step_s: Time between two counter updates, s. The counter's gain over a gap may miss that
            much time at its end, or include that much from before its start.
    """

    def __init__(self, min_gap_s: float, step_s: float = 0.0) -> None:
        self._min_gap_s, self._step_s = min_gap_s, step_s
        #: Relative error of the last power that is due to ``step_s``.
        self.error_frac = math.nan
        self._last_reading: tuple[float, float] | None = None

    def __call__(self, t_mono: float, energy_j: float) -> float:
        """Return the mean power since the last call, W; NaN where it is not known."""
        last, self._last_reading = self._last_reading, (t_mono, energy_j)
        self.error_frac = math.nan
        if last is None or t_mono - last[0] < self._min_gap_s or energy_j < last[1]:
            return math.nan
        gap_s = t_mono - last[0]
        self.error_frac = self._step_s / gap_s
        return (energy_j - last[1]) / gap_s
