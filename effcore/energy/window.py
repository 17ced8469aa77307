"""Joules of a stretch of time, with bounds, from the readings of a source.

A window's totals are differences between cumulative readings, never sums of sampled power.

A board's energy counter updates in steps, every 20 to 100 ms. Read at the two edges of a
window it is off by up to one update at each. So the counter is polled every 5 ms at first, to
learn its period, and after each window edge until its next update; the update before an edge is
known, or is taken to be one period earlier. The counter's value at the edge is interpolated
between the two. In simulated bursty loads a counter that updates every 100 ms then had an error
of 1.6 % (95th percentile) over 1 s and 0.3 % over 5 s; untimed, of 7.6 % and 1.6 %. Short
windows carry a note, and the shortest get no joules.

Between two counter updates no instrument shows when the power was drawn: not the counter, not
average power, which spans ten updates, and not instant power, which sees a quarter of the time.
The worst case is therefore a load that switches on and off about as often as the counter
updates. Of loads between 600 and 80 W, on for a tenth to three quarters of periods of 30 to
530 ms, some put windows of 1 and 5 s off by 8.0 and 1.6 %, and with updates every 20 ms by 1.7
and 0.3 %. The load's shape is not known, so every interval includes this error.

The counter is cross-checked against the board's own average power, which the board obtains in
another way. The average covers the last second, so its integral runs half a second behind the
counter (arXiv 2312.02741): the counter's gain up to half a second ago is compared with the
integral of the average up to now.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from statistics import fmean
from typing import NamedTuple

import numpy as np

from effcore.energy.sources.base import EnergySource, Reading, SharedUse
from effcore.records import Energy, EnergyQuality
from effcore.records.append_only_table import AppendOnlyTable

#: Most updates that are stored: an hour at ten a second. Beyond, the older half is thinned.
MAX_UPDATES = 36_000
#: Time between two polls while an update is expected, s.
POLL_INTERVAL_S = 0.005
#: An update is well timed if the polls on both sides of it are no further apart than this, s.
MAX_WELL_TIMED_GAP_S = 0.010
#: Longest wait for the first update after an edge, s.
MAX_EDGE_WAIT_S = 0.150
#: Time for which the counter is polled closely at first, to learn its period, s.
PERIOD_LEARNING_S = 0.350
#: Updates are timed about this far apart, s; a faster counter's updates in between are skipped.
TIMED_UPDATE_SPACING_S = 0.100
#: A spacing that spans more updates than this is not used to learn the period.
MAX_UPDATES_PER_SPACING = 8
#: Longest time before an update is expected at which polling for it starts, s.
MAX_LEAD_S = 0.050
#: After more consecutive missed updates than this, polling is less frequent.
MAX_MISSED_UPDATES = 10

#: Shorter windows get no joules, s.
MIN_WINDOW_S = 0.5
#: Shorter windows get a note, s.
SHORT_WINDOW_S = 5.0
#: Edge error of a window with timed updates, as seconds of its mean power (95th percentiles):
#: for training loads, and for the worst loads that switch as often as the counter updates.
EDGE_ERRORS_S = (0.016, 0.08)
#: Edge error with untimed updates, in update periods: at each of two edges up to one period is
#: missing, uniformly distributed, and 1.96 standard deviations of the difference are 0.8 of a
#: period. The worst case is one period.
UNTIMED_EDGE_ERROR_STEPS = 0.8

#: Half of the time over which NVML averages power, s.
AVERAGE_POWER_LAG_S = 0.5
#: Longest gap between two readings over which the average power is integrated, s.
MAX_READING_GAP_S = 1.0
#: Shortest window that is cross-checked against average power, s.
MIN_CROSS_CHECK_WINDOW_S = 10.0
#: Smallest share of the window that the cross-check must cover; it omits a second of each part.
MIN_CROSS_CHECK_COVERAGE_FRAC = 0.5
#: Counter and average power must agree within this share.
CROSS_CHECK_TOLERANCE_FRAC = 0.03

#: Why a window in which the counter gained nothing has no joules: every device draws power.
COUNTER_STOPPED_REASON = (
    "the counter did not change over the whole window: it answers but does not count"
)
#: Why a window with a reading that is not finite has no joules.
NOT_A_NUMBER_REASON = "the instrument returned a value that is not a finite number of joules"


# Timing of counter updates ---------------------------------------------------------------


class CounterUpdate(NamedTuple):
    """One update of the counter; ``t`` is the middle of the two polls around it, s."""

    t: float
    before_j: float
    after_j: float
    well_timed: bool


@dataclass(slots=True, eq=False)
class WindowEdge:
    """A window's edge between two counter updates."""

    t: float  # its time, s
    shown_j: float  # the counter's value at that time
    shown_since_s: float | None  # time of the update to that value; None where it is not known
    next_update: CounterUpdate | None = None  # the first update after the edge
    unshown_j: float | None = None  # used by then and not yet shown, J; None until known

    @property
    def is_well_timed(self) -> bool:
        """Whether the update after it is well timed."""
        return self.next_update is not None and self.next_update.well_timed

    def interpolate(self, period_s: float | None) -> None:
        """Set ``unshown_j`` by interpolation, if the updates on both sides are known."""
        since_s, after = self.shown_since_s, self.next_update
        if after is not None and since_s is None and period_s is not None:
            since_s = after.t - period_s
        if after is None or since_s is None:
            return
        elapsed_frac = (self.t - since_s) / max(after.t - since_s, POLL_INTERVAL_S)
        self.unshown_j = min(max(elapsed_frac, 0.0), 1.0) * (after.after_j - self.shown_j)


class CounterUpdateTimer:
    """Times the updates of one counter from successive polls; not thread-safe.

    Args:
        time_all_updates: Whether to time every update, as phase attribution needs it, and not
            only those next to window edges. Each then takes two or three polls, shortly before
            it is due.

    Attributes:
        table: Well-timed updates: seconds and joules, shape (2, n), at most ``MAX_UPDATES``.
    """

    def __init__(self, time_all_updates: bool = False) -> None:
        self.table = AppendOnlyTable(2, limit=MAX_UPDATES)
        self.update_count = 0  # of all that were seen, well timed or not
        self.period_s: float | None = None  # between two updates, once it is learnt
        self._time_all_updates = time_all_updates
        self._last_poll_s = self._shown_j = math.nan
        self._last_update: CounterUpdate | None = None
        self._spacings: deque[float] = deque(maxlen=15)
        self._edges: list[WindowEdge] = []
        self._learn_until_s = -math.inf
        self._expected_s = math.inf
        self._lead_s = POLL_INTERVAL_S
        self._missed_updates = 0

    @property
    def edges_settled(self) -> bool:
        """Whether no edge still waits for the updates around it."""
        return not self._edges

    def next_poll_s(self) -> float:
        """Return the time of the next poll, on the polls' clock, s; infinity if none is due."""
        if self._edges or self._last_poll_s < self._learn_until_s:
            return self._last_poll_s + POLL_INTERVAL_S
        if not self._time_all_updates:
            return math.inf
        return max(self._expected_s - self._lead_s, self._last_poll_s + POLL_INTERVAL_S)

    def add_edge(self) -> WindowEdge:
        """Add a window edge at the time of the last poll."""
        last = self._last_update
        shown_since_s = last.t if last is not None and last.after_j == self._shown_j else None
        edge = WindowEdge(self._last_poll_s, self._shown_j, shown_since_s)
        self._edges.append(edge)
        return edge

    def add_poll(self, t: float, shown_j: float) -> None:
        """Add a poll: the counter showed ``shown_j``, J, at time ``t``, s."""
        before_t, before_j = self._last_poll_s, self._shown_j
        if math.isnan(before_t):
            self._learn_until_s = t + PERIOD_LEARNING_S
        self._last_poll_s, self._shown_j = t, shown_j
        if shown_j > before_j:
            is_well_timed = t - before_t <= MAX_WELL_TIMED_GAP_S
            self._add_update(CounterUpdate((before_t + t) / 2, before_j, shown_j, is_well_timed))
        elif shown_j < before_j:  # the counter was reset
            self.abandon_edges()
            self._last_update = None
        if t > self._expected_s + self._lead_s + POLL_INTERVAL_S:
            self._count_missed_update()
        for edge in self._edges:
            edge.interpolate(self.period_s)
            max_wait_s = MAX_EDGE_WAIT_S if edge.next_update is None else PERIOD_LEARNING_S
            if edge.unshown_j is None and t - edge.t > max_wait_s:
                edge.unshown_j = 0.0  # the shown value is used as it is
        self._edges = [edge for edge in self._edges if edge.unshown_j is None]

    def abandon_edges(self) -> None:
        """Stop waiting for updates: use the values shown at the edges as they are."""
        for edge in self._edges:
            edge.unshown_j = 0.0
        self._edges = []

    def _add_update(self, update: CounterUpdate) -> None:
        self.update_count += 1
        for edge in self._edges:
            edge.next_update = edge.next_update or update
        if not update.well_timed:
            return
        if (last := self._last_update) is not None:  # learn the period
            spacing_s, updates = update.t - last.t, 1
            if last.after_j != update.before_j:  # there were updates in between, perhaps unseen
                updates = round(spacing_s / self.period_s) if self.period_s else 0
            if 1 <= updates <= MAX_UPDATES_PER_SPACING:
                self._spacings.append(spacing_s / updates)
                self.period_s = fmean(self._spacings)
        self._last_update = update
        self.table.append(update.t, update.after_j)
        self._lead_s, self._missed_updates = max(0.9 * self._lead_s, POLL_INTERVAL_S), 0
        self._schedule_next_update(update.t)

    def _count_missed_update(self) -> None:
        """Start polling earlier for the next update; pause after many missed ones."""
        self._missed_updates += 1
        self._lead_s = min(2 * self._lead_s, MAX_LEAD_S)
        since_s = max(self._expected_s, self._last_poll_s - TIMED_UPDATE_SPACING_S)
        if self._missed_updates > MAX_MISSED_UPDATES:
            since_s += TIMED_UPDATE_SPACING_S * MAX_MISSED_UPDATES
        self._schedule_next_update(since_s)

    def _schedule_next_update(self, since_s: float) -> None:
        if self.period_s is not None:
            periods = max(1, round(TIMED_UPDATE_SPACING_S / self.period_s))
            self._expected_s = since_s + self.period_s * periods


# Cross-check -----------------------------------------------------------------------------


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
        counter_j, average_j = lagged_j - before_j, (before_w + average_w) / 2 * seconds
        if not math.isfinite(counter_j + average_j) or not 0 < seconds <= MAX_READING_GAP_S:
            return None
        return CrossCheckInterval(before_t, seconds, counter_j, average_j)

    def _counter_at(self, t: float) -> float:
        history = self._counter_history
        while len(history) > 1 and history[1][0] <= t:
            history.popleft()
        (t0, j0), (t1, j1) = history[0], history[min(1, len(history) - 1)]
        return j0 + (j1 - j0) * (t - t0) / (t1 - t0) if t0 <= t < t1 else math.nan


# Totals ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WindowTotals:
    """Totals of a window so far; immutable, so that other threads read them without a lock."""

    seconds: float = 0.0  # time covered by readings
    energy_j: float = 0.0  # point value; NaN where only an interval is known
    lo_j: float = 0.0  # lower end as read, before the instrument's error
    hi_j: float = 0.0  # upper end, likewise
    readings: int = 0
    failures: int = 0  # readings that failed
    parts: int = 0  # uninterrupted parts, separated by pauses
    part_start_s: float = math.nan  # monotonic time at which the current part began
    counter_updates: int = 0
    max_gap_s: float = 0.0  # longest time between two readings
    throttled_s: float = math.nan  # with throttled clocks; NaN where that is not reported
    power_limit_w: float = math.nan  # the lowest one enforced; NaN where none is known
    shared_use: SharedUse = SharedUse(False, "")  # the worst known use by other processes
    checked_s: float = 0.0  # time over which the next two energies are both known
    checked_counter_j: float = 0.0  # the counter's gain over that time
    checked_average_j: float = 0.0  # the integral of average power over that time
    untimed_edges: int = 0  # that could not be timed well against counter updates
    void_reason: str = ""  # why the window has no joules; empty where it has
    #: Edges that still wait for a counter update: +1 where the window stops, −1 where it starts.
    edges: tuple[tuple[int, WindowEdge], ...] = ()

    def with_failure(self) -> WindowTotals:
        """Return the totals after a failed reading."""
        return replace(self, failures=self.failures + 1)

    def with_void_reason(self, reason: str) -> WindowTotals:
        """Return the totals without joules; the first reason is kept."""
        return replace(self, void_reason=self.void_reason or reason)

    def with_reading(
        self,
        before: Reading | None,
        now: Reading,
        cross_check: CrossCheckInterval | None = None,
        counter_updates: int = 0,
    ) -> WindowTotals:
        """Return the totals after a reading.

        Args:
            before: The window's previous reading; ``None`` at an opening edge.
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
        # The counter's value is taken AVERAGE_POWER_LAG_S back, and the average covers as much
        # time before that: the interval must not reach into the time before this part.
        if cross_check is None or cross_check.since_s - self.part_start_s < 2 * AVERAGE_POWER_LAG_S:
            return extended
        return replace(
            extended,
            checked_s=self.checked_s + cross_check.seconds,
            checked_counter_j=self.checked_counter_j + cross_check.counter_j,
            checked_average_j=self.checked_average_j + cross_check.average_j,
        )

    def with_untimed_edge(self, sign: int, edge: WindowEdge) -> WindowTotals:
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
        new, known = (
            (use.contended, bool(use.description)) for use in (shared_use, self.shared_use)
        )
        return replace(self, shared_use=shared_use) if new > known else self

    def merged_with(self, other: WindowTotals) -> WindowTotals:
        """Return the totals of both as one window with a pause in between."""
        summed_fields = ("seconds", "energy_j", "lo_j", "hi_j", "readings", "failures", "parts",
                 "counter_updates", "throttled_s", "checked_s", "checked_counter_j",
                 "checked_average_j", "untimed_edges", "edges")  # fmt: skip
        sums = {name: getattr(self, name) + getattr(other, name) for name in summed_fields}
        merged = replace(self, **sums, max_gap_s=max(self.max_gap_s, other.max_gap_s))
        merged = merged.with_void_reason(other.void_reason).with_shared_use(other.shared_use)
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


# Energy ----------------------------------------------------------------------------------


def energy_of_window(window: WindowTotals, source: EnergySource) -> Energy:
    """Return a window's energy with the source's quality; an estimate has no point value."""
    window = window.with_settled_edges()
    errors_s = _edge_errors_s(source)
    # The length that decides on joules and notes is shorter where pauses add edges.
    effective_s = window.effective_length_s if any(errors_s) else window.seconds
    is_long_enough = effective_s >= MIN_WINDOW_S
    is_counter = source.quality in (EnergyQuality.MEASURED, EnergyQuality.MODELLED)
    void_reason = window.void_reason
    if is_long_enough and not void_reason:
        if not math.isfinite(window.lo_j + window.hi_j):
            void_reason = NOT_A_NUMBER_REASON
        elif is_counter and window.energy_j == 0:
            void_reason = COUNTER_STOPPED_REASON
    ratio = window.crosscheck
    is_suspect = window.counts_without_power or (
        ratio is not None and abs(ratio - 1) > CROSS_CHECK_TOLERANCE_FRAC
    )
    notes = (
        *source.notes,
        *_length_notes(window, effective_s, errors_s),
        *_reading_notes(window),
        *_cross_check_notes(window, source, is_suspect),
    )
    if void_reason:
        return unavailable_energy(window.seconds, (void_reason, *notes), source)
    error_frac = source.error_frac
    if window.effective_length_s:
        error_frac += errors_s[1] / window.effective_length_s
    has_point = (
        is_long_enough
        and source.quality is not EnergyQuality.ESTIMATED
        and math.isfinite(window.energy_j)
    )
    is_suspect = is_suspect and source.quality is EnergyQuality.MEASURED
    return replace(
        unavailable_energy(window.seconds, notes, source),
        joules=window.energy_j if has_point else None,
        lo=window.lo_j * (1 - error_frac) if is_long_enough else None,
        hi=window.hi_j * (1 + error_frac) if is_long_enough else None,
        quality=EnergyQuality.SUSPECT if is_suspect else source.quality,
        ticks=window.counter_updates,
        max_gap_s=window.max_gap_s,
        crosscheck=ratio,
        contended=window.shared_use.contended,
        throttled_s=window.throttled_s if math.isfinite(window.throttled_s) else None,
        power_limit_w=window.power_limit_w if math.isfinite(window.power_limit_w) else None,
    )


def unavailable_energy(
    seconds: float, notes: tuple[str, ...], source: EnergySource | None = None
) -> Energy:
    """Return an energy without joules, with the reasons as notes."""
    quality = EnergyQuality.UNAVAILABLE
    if source is None:
        return Energy(None, None, None, seconds, quality, "no meter", "nothing measured", notes)
    return Energy(
        joules=None,
        lo=None,
        hi=None,
        seconds=seconds,
        quality=quality,
        source=source.source,
        scope=source.scope,
        notes=notes,
        device_uuid=source.device_uuid,
        left_out=source.left_out,
        card=source.card,
        driver=source.driver,
        hz=source.hz,
        step_s=source.step_s,
    )


def power_row(window: WindowTotals, now: Reading, source: EnergySource) -> tuple[float, ...]:
    """Return a power row at the reading ``now``: ``POWER_COLUMNS`` without the seconds."""
    window = window.with_settled_edges()
    lo_factor, hi_factor = 1 - source.error_frac, 1 + source.error_frac
    power_w, energy_j = now.power_w, window.energy_j
    if source.quality is EnergyQuality.ESTIMATED:
        power_w = energy_j = math.nan
    powers = power_w, now.power_lo_w * lo_factor, now.power_hi_w * hi_factor
    if window.void_reason:  # the power is still known, the energy is not
        return (*powers, math.nan, math.nan, math.nan)
    return (*powers, energy_j, window.lo_j * lo_factor, window.hi_j * hi_factor)


def _edge_errors_s(source: EnergySource) -> tuple[float, float]:
    """Return the usual and the worst edge error, as seconds of the window's mean power."""
    if source.times_counter_updates:
        return EDGE_ERRORS_S
    return UNTIMED_EDGE_ERROR_STEPS * source.step_s, source.step_s


def _length_notes(
    window: WindowTotals, effective_s: float, errors_s: tuple[float, float]
) -> list[str]:
    parts = f" in {window.parts} parts" if any(errors_s) and window.parts > 1 else ""
    length_text = f"{window.seconds:.2f} s{parts}"
    if effective_s < MIN_WINDOW_S:
        return [
            f"no joules: the window of {length_text} is shorter than {MIN_WINDOW_S:g} s, after "
            "allowing for its edges"
        ]
    if effective_s >= SHORT_WINDOW_S:
        return []
    usual, worst = (f"{error_s / effective_s:.1%}" for error_s in errors_s)
    error_text = (
        f" by about {usual}, up to {worst} if the load switches as often as the counter updates"
        if any(errors_s)
        else ""
    )
    return [
        f"short window: {length_text} is shorter than {SHORT_WINDOW_S:g} s: its edges may "
        f"change the result{error_text}"
    ]


def _reading_notes(window: WindowTotals) -> list[str]:
    """Return the notes on edges, failed readings, other processes and throttling."""
    notes = []
    if window.edges:
        notes.append("its edges are still being timed")
    elif window.untimed_edges:
        notes.append(
            f"{window.untimed_edges} of its {2 * window.parts} edges could not be timed well: each "
            "may be off by half a counter update"
        )
    if window.failures:
        total = window.readings + window.failures
        notes.append(f"{window.failures} of {total} readings failed")
    if window.shared_use.description:
        notes.append(window.shared_use.description)
    if window.throttled_s > 0:
        notes.append(f"the clocks were throttled for {window.throttled_s:.0f} s of the window")
    return notes


def _cross_check_notes(window: WindowTotals, source: EnergySource, is_suspect: bool) -> list[str]:
    ratio, average, ratio_text = window.crosscheck, "0", ""
    if ratio is None and not window.counts_without_power:
        is_expected = source.times_counter_updates and window.seconds >= MIN_CROSS_CHECK_WINDOW_S
        return ["not cross-checked: too few readings of average power"] if is_expected else []
    if not is_suspect:
        return []
    if ratio is not None:
        average = f"{window.checked_average_j:,.1f}"
        ratio_text = (
            f" (ratio {ratio:.3f}, allowed {1 - CROSS_CHECK_TOLERANCE_FRAC:.2f} to "
            f"{1 + CROSS_CHECK_TOLERANCE_FRAC:.2f})"
        )
    return [
        f"counter and power disagree: over the same {window.checked_s:.1f} s the counter gives "
        f"{window.checked_counter_j:,.1f} J, average power {average} J{ratio_text}"
    ]
