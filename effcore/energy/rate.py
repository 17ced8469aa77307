"""Power from a counter that knows only energy: what was added since the last look."""

from __future__ import annotations

import math


class Rate:
    """Mean power between readings.

    Args:
        least_s: A shorter gap says nothing: the counter's own refresh would dominate.
    """

    def __init__(self, least_s: float) -> None:
        self._least_s = least_s
        self._last: tuple[float, float] | None = None

    def __call__(self, t_mono: float, energy_j: float) -> float:
        """Return the mean power since the last call, W; NaN where there is nothing to tell."""
        last, self._last = self._last, (t_mono, energy_j)
        if last is None or t_mono - last[0] < self._least_s or energy_j < last[1]:
            return math.nan
        return (energy_j - last[1]) / (t_mono - last[0])
