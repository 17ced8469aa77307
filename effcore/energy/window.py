"""A stretch of metering as differences between readings.

Totals are differences of a cumulative source, never sums of sampled power.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from effcore.energy.counter_updates import WindowEdge
from effcore.energy.crosscheck import AVERAGE_POWER_LAG_S, CrossCheckInterval
from effcore.energy.sources.base import Reading, SharedUse

#: Longer windows are checked against average power.
MIN_CROSS_CHECK_WINDOW_S = 10.0
#: The check needs this share of the window: it leaves out a second of each part.
MIN_CROSS_CHECK_COVERAGE_FRAC = 0.5


@dataclass(frozen=True, slots=True)
class WindowTotals:
    """What was metered so far; replaced as a whole, so that readers need no lock.

    Attributes:
        seconds: Time covered by readings.
        energy_j: Point value, J; NaN where only an interval is known.
        lo_j: Lower end as read, J, before the instrument's error.
        hi_j: Upper end as read, J, before the instrument's error.
        readings: Readings taken.
        failures: Readings that failed.
        parts: Stretches without a pause.
        part_start_s: Monotonic seconds at which the present one began.
        counter_updates: Steps of the counter that were seen.
        max_gap_s: Longest time between two readings.
        throttled_s: Time with the clocks held down; NaN where the board does not tell.
        power_limit_w: The lowest power limit that was in force, W; NaN where none is known.
        shared_use: The worst that is known of other users.
        checked_s: Time for which both of the following are known.
        checked_counter_j: What the counter gained over it.
        checked_average_j: What average power adds up to over it.
        untimed_edges: Ends that could not be timed well against the steps.
        void_reason: Why it has no joules; empty where it has.
        edges: Its ends, +1 for one at which it stopped, that lie between two steps.
    """

    seconds: float = 0.0
    energy_j: float = 0.0
    lo_j: float = 0.0
    hi_j: float = 0.0
    readings: int = 0
    failures: int = 0
    parts: int = 0
    part_start_s: float = math.nan
    counter_updates: int = 0
    max_gap_s: float = 0.0
    throttled_s: float = math.nan
    power_limit_w: float = math.nan
    shared_use: SharedUse = SharedUse(False, "")
    checked_s: float = 0.0
    checked_counter_j: float = 0.0
    checked_average_j: float = 0.0
    untimed_edges: int = 0
    void_reason: str = ""
    edges: tuple[tuple[int, WindowEdge], ...] = ()

    def with_failure(self) -> WindowTotals:
        """Return the window after a reading that failed."""
        return replace(self, failures=self.failures + 1)

    def with_reading(
        self,
        before: Reading | None,
        now: Reading,
        cross_check: CrossCheckInterval | None = None,
        counter_updates: int = 0,
    ) -> WindowTotals:
        """Return the window after a reading; ``before`` is ``None`` at an opening edge.

        Args:
            before: The window's reading before.
            now: The reading.
            cross_check: What counter and average power gained since the meter's reading before.
            counter_updates: Steps of the counter since then.
        """
        if before is None:
            parts = self.parts + 1
            return replace(self, readings=self.readings + 1, parts=parts, part_start_s=now.t_mono)
        gap_s = now.t_mono - before.t_mono
        grown = replace(  # differences first, so that small ones are not rounded away
            self,
            readings=self.readings + 1,
            seconds=self.seconds + gap_s,
            energy_j=self.energy_j + (now.energy_j - before.energy_j),
            lo_j=self.lo_j + (now.energy_lo_j - before.energy_lo_j),
            hi_j=self.hi_j + (now.energy_hi_j - before.energy_hi_j),
            counter_updates=self.counter_updates + counter_updates,
            max_gap_s=max(self.max_gap_s, gap_s),
        )
        return grown if cross_check is None else grown._with_cross_check(cross_check)

    def _with_cross_check(self, cross_check: CrossCheckInterval) -> WindowTotals:
        # The counter runs LAG_S behind, and the average looks another LAG_S further back.
        if cross_check.since_s - self.part_start_s < 2 * AVERAGE_POWER_LAG_S:
            return self
        return replace(
            self,
            checked_s=self.checked_s + cross_check.seconds,
            checked_counter_j=self.checked_counter_j + cross_check.counter_j,
            checked_average_j=self.checked_average_j + cross_check.average_j,
        )

    def with_edge(self, sign: int, edge: WindowEdge) -> WindowTotals:
        """Return the window with an end between two steps: +1 where it stops, −1 starts."""
        return replace(self, edges=(*self.edges, (sign, edge)))

    def with_settled_edges(self) -> WindowTotals:
        """Return the window with what its ends had not shown, as far as that is known."""
        known = [(sign, edge, edge.unshown_j) for sign, edge in self.edges]
        found = [(sign * extra_j, edge) for sign, edge, extra_j in known if extra_j is not None]
        if not found:
            return self
        total_j = sum(extra_j for extra_j, _ in found)
        return replace(
            self,
            energy_j=self.energy_j + total_j,
            lo_j=self.lo_j + total_j,
            hi_j=self.hi_j + total_j,
            untimed_edges=self.untimed_edges + sum(not edge.is_well_timed for _, edge in found),
            edges=tuple((sign, edge) for sign, edge, extra_j in known if extra_j is None),
        )

    def with_throttling(self, since_s: float, until_s: float) -> WindowTotals:
        """Return the window after its board was held down between two monotonic times."""
        before_s = 0.0 if math.isnan(self.throttled_s) else self.throttled_s
        seconds = until_s - max(since_s, self.part_start_s)
        return replace(self, throttled_s=before_s + max(seconds, 0.0))

    def with_power_limit(self, power_limit_w: float) -> WindowTotals:
        """Return the window after a look at the limit in force; the lowest one stays."""
        # Of a number and of what is none, fmin returns the number.
        return replace(self, power_limit_w=float(np.fmin(self.power_limit_w, power_limit_w)))

    def with_shared_use(self, shared_use: SharedUse) -> WindowTotals:
        """Return the window after a look at who uses the board; the worst one stays."""
        worse = (shared_use.contended, bool(shared_use.description)) > (
            self.shared_use.contended,
            bool(self.shared_use.description),
        )
        return replace(self, shared_use=shared_use) if worse else self

    def merged_with(self, other: WindowTotals) -> WindowTotals:
        """Return both as one window with a pause in between."""
        names = ("seconds", "energy_j", "lo_j", "hi_j", "readings", "failures", "parts",
                 "counter_updates", "throttled_s", "checked_s", "checked_counter_j",
                 "checked_average_j", "untimed_edges", "edges")  # fmt: skip
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        gap_s, void = max(self.max_gap_s, other.max_gap_s), self.void_reason or other.void_reason
        both = replace(self, **sums, max_gap_s=gap_s, void_reason=void).with_shared_use(
            other.shared_use
        )
        return both.with_power_limit(other.power_limit_w)

    @property
    def effective_length_s(self) -> float:
        """The length of a window without pauses whose edges weigh as much as this one's."""
        return self.seconds / math.sqrt(max(self.parts, 1))

    @property
    def crosscheck(self) -> float | None:
        """Joules of the counter over those of average power, where both are known."""
        if not self._has_enough_cross_check or self.checked_average_j <= 0:
            return None
        return self.checked_counter_j / self.checked_average_j

    @property
    def counts_without_power(self) -> bool:
        """Whether the counter counted while average power was none, which cannot both be."""
        return self._has_enough_cross_check and self.checked_average_j <= 0 < self.checked_counter_j

    @property
    def _has_enough_cross_check(self) -> bool:
        enough = self.checked_s >= MIN_CROSS_CHECK_COVERAGE_FRAC * self.seconds
        return self.seconds >= MIN_CROSS_CHECK_WINDOW_S and enough
