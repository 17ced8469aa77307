"""Cross-check of the energy counter against the board's own average power.

The board obtains both in different ways. The average covers the last second, so its integral
runs half a second behind the counter (arXiv 2312.02741): the counter's gain up to half a second
ago is compared with the integral of the average up to now.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from effcore.energy.sources.base import Reading

#: Half of the time over which NVML averages power, s.
AVERAGE_POWER_LAG_S = 0.5
#: Longest gap between two readings over which the average power is integrated, s.
MAX_READING_GAP_S = 1.0


class CrossCheckInterval(NamedTuple):
    """Energy of one time interval by the counter and by average power."""

    since_s: float  # monotonic seconds of its first reading
    seconds: float
    counter_j: float
    average_j: float


class CrossCheck:
    """Compares counter and average power from one reading to the next."""

    def __init__(self) -> None:
        self._counter_history: deque[tuple[float, float]] = deque()
        self._last_point = (math.nan, math.nan, math.nan)

    def add_reading(self, now: Reading) -> CrossCheckInterval | None:
        """Return both energies since the last reading; ``None`` where one is unknown."""
        t, average_w = now.t_mono, now.power_average_w
        self._counter_history.append((t, now.energy_j))
        lagged_j = self._counter_at(t - AVERAGE_POWER_LAG_S)
        before_t, before_w, before_j = self._last_point
        self._last_point = (t, average_w, lagged_j)
        seconds = t - before_t
        interval = CrossCheckInterval(
            before_t, seconds, lagged_j - before_j, (before_w + average_w) / 2 * seconds
        )
        is_finite = math.isfinite(interval.counter_j + interval.average_j)
        return interval if is_finite and 0 < seconds <= MAX_READING_GAP_S else None

    def _counter_at(self, t: float) -> float:
        while len(self._counter_history) > 1 and self._counter_history[1][0] <= t:
            self._counter_history.popleft()
        (t0, j0), (t1, j1) = (
            self._counter_history[0],
            self._counter_history[min(1, len(self._counter_history) - 1)],
        )
        if not t0 <= t < t1:
            return math.nan
        return j0 + (j1 - j0) * (t - t0) / (t1 - t0)
