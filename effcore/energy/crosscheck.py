"""The counter against the board's own average power, which is found in another way.

The average is of the last second, so that its integral runs half a second behind the
counter (arXiv 2312.02741): what the counter gained up to half a second ago is set against
what the average has added up to by now.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from effcore.energy.sources.base import Reading

#: Half of the time that NVML's average power is taken over.
AVERAGE_POWER_LAG_S = 0.5
#: Across a longer gap between two readings the average is not known.
MAX_READING_GAP_S = 1.0


class CrossCheckInterval(NamedTuple):
    """The same stretch of time by both."""

    since_s: float  # monotonic seconds of its first reading
    seconds: float
    counter_j: float
    average_j: float


class CrossCheck:
    """Pairs both, from one reading to the next."""

    def __init__(self) -> None:
        self._counter_history: deque[tuple[float, float]] = deque()
        self._last_point = (math.nan, math.nan, math.nan)

    def add_reading(self, now: Reading) -> CrossCheckInterval | None:
        """Return what both gained since the last reading; ``None`` where one is unknown."""
        t, average_w = now.t_mono, now.power_average_w
        self._counter_history.append((t, now.energy_j))
        lagged_j = self._counter_at(t - AVERAGE_POWER_LAG_S)
        before_t, before_w, before_j = self._last_point
        self._last_point = (t, average_w, lagged_j)
        seconds = t - before_t
        pair = CrossCheckInterval(
            before_t, seconds, lagged_j - before_j, (before_w + average_w) / 2 * seconds
        )
        known = math.isfinite(pair.counter_j + pair.average_j)
        return pair if known and 0 < seconds <= MAX_READING_GAP_S else None

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
