"""Running totals of a metered window.

Totals are differences between cumulative readings, never sums of sampled power.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from effcore.energy.counter_updates import WindowEdge
from effcore.energy.crosscheck import AVERAGE_POWER_LAG_S, CrossCheckInterval
from effcore.energy.sources.base import Reading, SharedUse

#: Shortest window that is cross-checked against average power, s.
MIN_CROSS_CHECK_WINDOW_S = 10.0
#: Smallest share of the window that the cross-check must cover; it omits a second of each part.
MIN_CROSS_CHECK_COVERAGE_FRAC = 0.5


@dataclass(frozen=True, slots=True)
class WindowTotals:
    """Totals of a window so far; immutable, so that other threads read them without a lock.

    Attributes:
        seconds: Time covered by readings, s.
        energy_j: Point value, J; NaN where only an interval is known.
        lo_j: Lower end as read, J, before the instrument's error.
        hi_j: Upper end as read, J, before the instrument's error.
        readings: Readings taken.
        failures: Readings that failed.
        parts: Number of uninterrupted parts, separated by pauses.
        part_start_s: Monotonic time at which the current part began, s.
        counter_updates: Counter updates seen.
        max_gap_s: Longest time between two readings, s.
        throttled_s: Time with throttled clocks, s; NaN where the board does not report it.
        power_limit_w: The lowest power limit enforced, W; NaN where none is known.
        shared_use: The worst known use of the device by other processes.
        checked_s: Time over which the next two energies are both known, s.
        checked_counter_j: The counter's gain over that time, J.
        checked_average_j: The integral of average power over that time, J.
        untimed_edges: Edges that could not be timed well against counter updates.
        void_reason: Why the window has no joules; empty where it has.
        edges: Edges that still wait for a counter update, each with its sign: +1 where the
            window stops, −1 where it starts.
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
        """Return the totals after a failed reading."""
        return replace(self, failures=self.failures + 1)

    def with_reading(
        self,
        before: Reading | None,
        now: Reading,
        cross_check: CrossCheckInterval | None = None,
        counter_updates: int = 0,
    ) -> WindowTotals:
        """Return the totals after a reading; ``before`` is ``None`` at an opening edge.

        Args:
            before: The window's previous reading.
            now: The reading.
            cross_check: Energies by counter and average power since the meter's previous reading.
            counter_updates: Counter updates since then.
        """
        if before is None:
            parts = self.parts + 1
            return replace(self, readings=self.readings + 1, parts=parts, part_start_s=now.t_mono)
        gap_s = now.t_mono - before.t_mono
        extended = replace(  # differences first, so that small ones are not rounded away
            self,
            readings=self.readings + 1,
            seconds=self.seconds + gap_s,
            energy_j=self.energy_j + (now.energy_j - before.energy_j),
            lo_j=self.lo_j + (now.energy_lo_j - before.energy_lo_j),
            hi_j=self.hi_j + (now.energy_hi_j - before.energy_hi_j),
            counter_updates=self.counter_updates + counter_updates,
            max_gap_s=max(self.max_gap_s, gap_s),
        )
        return extended if cross_check is None else extended._with_cross_check(cross_check)

    def _with_cross_check(self, cross_check: CrossCheckInterval) -> WindowTotals:
        # The counter's value is taken AVERAGE_POWER_LAG_S back, and the average covers as much
        # time before that: the interval must not reach into the time before this part.
        if cross_check.since_s - self.part_start_s < 2 * AVERAGE_POWER_LAG_S:
            return self
        return replace(
            self,
            checked_s=self.checked_s + cross_check.seconds,
            checked_counter_j=self.checked_counter_j + cross_check.counter_j,
            checked_average_j=self.checked_average_j + cross_check.average_j,
        )

    def with_edge(self, sign: int, edge: WindowEdge) -> WindowTotals:
        """Return the totals with an edge to be timed; sign +1 where the window stops, −1 starts."""
        return replace(self, edges=(*self.edges, (sign, edge)))

    def with_settled_edges(self) -> WindowTotals:
        """Return the totals with the unshown energy of all edges that are timed by now."""
        edges = [(sign, edge, edge.unshown_j) for sign, edge in self.edges]
        settled = [(sign * extra_j, edge) for sign, edge, extra_j in edges if extra_j is not None]
        if not settled:
            return self
        total_j = sum(extra_j for extra_j, _ in settled)
        return replace(
            self,
            energy_j=self.energy_j + total_j,
            lo_j=self.lo_j + total_j,
            hi_j=self.hi_j + total_j,
            untimed_edges=self.untimed_edges + sum(not edge.is_well_timed for _, edge in settled),
            edges=tuple((sign, edge) for sign, edge, extra_j in edges if extra_j is None),
        )

    def with_throttling(self, since_s: float, until_s: float) -> WindowTotals:
        """Return the totals after throttling between two monotonic times, s."""
        before_s = 0.0 if math.isnan(self.throttled_s) else self.throttled_s
        seconds = until_s - max(since_s, self.part_start_s)
        return replace(self, throttled_s=before_s + max(seconds, 0.0))

    def with_power_limit(self, power_limit_w: float) -> WindowTotals:
        """Return the totals with the lower of the known power limits, W."""
        # fmin ignores NaN.
        return replace(self, power_limit_w=float(np.fmin(self.power_limit_w, power_limit_w)))

    def with_shared_use(self, shared_use: SharedUse) -> WindowTotals:
        """Return the totals with the worse of the known shared uses."""
        is_worse = (shared_use.contended, bool(shared_use.description)) > (
            self.shared_use.contended,
            bool(self.shared_use.description),
        )
        return replace(self, shared_use=shared_use) if is_worse else self

    def merged_with(self, other: WindowTotals) -> WindowTotals:
        """Return the totals of both as one window with a pause in between."""
        summed_fields = ("seconds", "energy_j", "lo_j", "hi_j", "readings", "failures", "parts",
                 "counter_updates", "throttled_s", "checked_s", "checked_counter_j",
                 "checked_average_j", "untimed_edges", "edges")  # fmt: skip
        sums = {name: getattr(self, name) + getattr(other, name) for name in summed_fields}
        gap_s, void_reason = (
            max(self.max_gap_s, other.max_gap_s),
            self.void_reason or other.void_reason,
        )
        merged = replace(self, **sums, max_gap_s=gap_s, void_reason=void_reason).with_shared_use(
            other.shared_use
        )
        return merged.with_power_limit(other.power_limit_w)

    @property
    def effective_length_s(self) -> float:
        """Length of an uninterrupted window with the same relative edge error, s."""
        return self.seconds / math.sqrt(max(self.parts, 1))

    @property
    def crosscheck(self) -> float | None:
        """Ratio of counter energy to integrated average power; ``None`` without enough data."""
        if not self._has_enough_cross_check or self.checked_average_j <= 0:
            return None
        return self.checked_counter_j / self.checked_average_j

    @property
    def counts_without_power(self) -> bool:
        """Whether the counter counted while average power was 0, a contradiction."""
        return self._has_enough_cross_check and self.checked_average_j <= 0 < self.checked_counter_j

    @property
    def _has_enough_cross_check(self) -> bool:
        covers_enough = self.checked_s >= MIN_CROSS_CHECK_COVERAGE_FRAC * self.seconds
        return self.seconds >= MIN_CROSS_CHECK_WINDOW_S and covers_enough
