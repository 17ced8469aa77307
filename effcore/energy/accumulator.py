"""What a meter does with its readings: windows, steps of the counter, rows.

Knows neither threads nor waiting; :class:`RunMeter <effcore.energy.meter.RunMeter>` calls
it from one thread at a time.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from effcore.energy.counter_updates import MAX_EDGE_WAIT_S, CounterUpdateTimer
from effcore.energy.crosscheck import CrossCheck
from effcore.energy.sources.base import BoardState, EnergySource, Reading, SharedUse
from effcore.energy.window import WindowTotals
from effcore.energy.window_energy import power_row
from effcore.records import POWER_COLUMNS, Energy
from effcore.records.append_only_table import AppendOnlyTable

#: Columns of the meter's own trace, a row for each of the power table.
TRACE_COLUMNS = (
    "seconds",
    "power_average_w",
    "power_instant_w",
    "temperature_c",
    "sm_clock_mhz",
    "power_limit_w",
    "utilisation_frac",
    "throttled",
)
#: What there is to say of a board that says nothing.
UNKNOWN_BOARD_STATE = BoardState(math.nan, math.nan, math.nan, None, math.nan, math.nan)
#: Rows of the table and of the trace that are kept: an hour at ten a second. Of a longer run
#: the older half is thinned; totals are differences at edges and lose nothing.
MAX_ROWS = 36_000
#: A state stands for no longer than this until the next one.
MAX_STATE_AGE_S = 2.0


class MeterWindow:
    """A window under way, or ended; what ``RunMeter.window`` gives.

    Args:
        name: What it covers.
        compute_energy: Makes joules of it.
        through_pauses: Whether it goes on while the run is held.
    """

    def __init__(
        self,
        name: str,
        compute_energy: Callable[[MeterWindow], Energy],
        through_pauses: bool = False,
    ) -> None:
        self.name = name
        self.through_pauses = through_pauses
        self.totals = WindowTotals()
        self.last_reading: Reading | None = None  # the reading it was counted up to
        self.open = False
        self.is_final = False  # ended with its joules known, whatever comes after
        self.start_s = math.nan  # by the run clock
        self.duration_s = math.nan  # by the run clock, once it has ended
        self._compute_energy = compute_energy

    def energy(self) -> Energy:
        """Return the joules so far; final about 150 ms after its end. Waits for nothing."""
        return self._compute_energy(self)


class EnergyAccumulator:
    """Readings of one source, as windows and rows.

    Args:
        source: The opened instrument.
        clock: The run clock, s.
        time_all_updates: Whether to time all steps of the counter; see :class:`CounterUpdateTimer`.

    Attributes:
        table: Rows of ``POWER_COLUMNS``, at most ``KEPT_ROWS`` of them.
        trace: Rows of ``TRACE_COLUMNS``, as many.
        update_timer: The steps of the counter.
        windows: Windows that were begun and not ended.
        state: The last known state of the board.
        consecutive_failures: Readings that failed since the last good one.
        last_read_s: Monotonic time of the last good one; NaN before.
    """

    def __init__(
        self, source: EnergySource, clock: Callable[[], float], time_all_updates: bool = False
    ) -> None:
        self.table = AppendOnlyTable(len(POWER_COLUMNS), limit=MAX_ROWS)
        self.trace = AppendOnlyTable(len(TRACE_COLUMNS), limit=MAX_ROWS)
        self.update_timer = CounterUpdateTimer(time_all_updates)
        self.windows: list[MeterWindow] = []
        self.state: BoardState | None = None
        self.consecutive_failures = 0
        self.last_read_s = math.nan
        self._source = source
        self._clock = clock
        self._cross_check = CrossCheck()
        self._last_reading: Reading | None = None
        self._shared_use: SharedUse | None = None
        self._updates_counted = 0

    @property
    def is_metering(self) -> bool:
        """Whether anything is being metered just now."""
        return bool(self._running_windows())

    def take_reading(
        self,
        opening: Sequence[MeterWindow] = (),
        closing: Sequence[MeterWindow] = (),
        recorded_window: MeterWindow | None = None,
    ) -> None:
        """Take a reading, at which windows may start or stop.

        Args:
            opening: Windows that start with it.
            closing: Windows that stop with it.
            recorded_window: The window whose joules go into the table.

        Raises:
            Exception: Whatever the source raised. Windows then start with the next
                reading, and have stopped with the one before.
        """
        for span in opening:
            span.open = True
            span.totals = span.totals.with_shared_use(
                self._shared_use or SharedUse(False, "")
            ).with_power_limit((self.state or UNKNOWN_BOARD_STATE).power_limit_w)
        try:
            now = self._read_source()
            self._update_windows(now, closing)
            if recorded_window is not None:
                self._append_row(now, recorded_window)
        finally:
            for span in closing:
                span.open, span.last_reading = False, None

    def poll_counter(self) -> None:
        """Look at the counter alone, to time its steps; failing is left to readings."""
        with contextlib.suppress(Exception):
            self._track_counter(self._source.read_counter())

    def record_board_state(self, state: BoardState | None) -> None:
        """Keep what the board is doing, its limit, and for how long it was held down."""
        before, self.state = self.state, state
        if state is None:
            return
        for span in self._running_windows():
            span.totals = span.totals.with_power_limit(state.power_limit_w)
        if before is None or before.throttle_reasons is None:
            return
        until_s = min(state.t, before.t + MAX_STATE_AGE_S) if before.throttled else before.t
        for span in self._running_windows():
            span.totals = span.totals.with_throttling(before.t, until_s)

    def record_shared_use(
        self, shared_use: SharedUse | None, windows: Sequence[MeterWindow] = ()
    ) -> None:
        """Keep who uses the board, for all open windows and for ``windows``."""
        self._shared_use = shared_use
        if shared_use is not None:
            for span in {*self._running_windows(), *windows}:
                span.totals = span.totals.with_shared_use(shared_use)

    def append_final_row(self, window: MeterWindow) -> None:
        """Add a row with the joules as they stand once the last edge was timed."""
        if (
            self._source.times_counter_updates
            and self._last_reading is not None
            and len(self.table)
        ):
            joules = power_row(window.totals, self._last_reading, self._source)[3:]
            self.table.append(*self.table.view()[:4, -1], *joules)
            self.trace.append(*self.trace.view()[:, -1])

    def _running_windows(self) -> list[MeterWindow]:
        return [span for span in self.windows if span.open]

    def _read_source(self) -> Reading:
        try:
            now = self._source.read()
        except Exception:
            self.consecutive_failures += 1
            for span in self._running_windows():
                span.totals = span.totals.with_failure()
            raise
        self.consecutive_failures, self.last_read_s = 0, now.t_mono
        return now

    def _update_windows(self, now: Reading, closing: Sequence[MeterWindow]) -> None:
        self._track_counter(now)
        pair, steps = (
            self._cross_check.add_reading(now),
            self.update_timer.update_count - self._updates_counted,
        )
        self._updates_counted = self.update_timer.update_count
        spans = self._running_windows()
        edged = self._source.times_counter_updates and (
            closing or any(span.last_reading is None for span in spans)
        )
        edge = self.update_timer.add_edge() if edged else None
        for span in spans:
            first = span.last_reading is None
            window = span.totals.with_reading(span.last_reading, now, pair, steps)
            stops = span in closing
            if edge is not None and first is not stops:  # where both, it has no length
                window = window.with_edge(1 if stops else -1, edge)
            span.totals, span.last_reading = window.with_settled_edges(), now

    def _track_counter(self, now: Reading) -> None:
        """Note a counter that cannot be right, and the steps of one that can."""
        before, self._last_reading = self._last_reading, now
        void = "" if before is None else counter_fault(before, now, self._source.max_power_w)
        for span in self._running_windows() if void else ():
            if span.last_reading is not None:  # what went wrong while it was held is none of its
                span.totals = replace(span.totals, void_reason=span.totals.void_reason or void)
        if self._source.times_counter_updates:
            self.update_timer.add_poll(now.t_mono, now.energy_j)

    def _append_row(self, now: Reading, window: MeterWindow) -> None:
        seconds, state = self._clock(), self.state or UNKNOWN_BOARD_STATE
        self.table.append(seconds, *power_row(window.totals, now, self._source))
        powers = (now.power_average_w, now.power_instant_w)
        clocks = (state.sm_clock_mhz, state.power_limit_w, state.utilisation_frac)
        throttled = math.nan if state.throttle_reasons is None else state.throttled
        self.trace.append(seconds, *powers, state.temperature_c, *clocks, throttled)


def merge_windows_by_name(
    earlier_totals: Mapping[str, MeterWindow],
    windows: Sequence[MeterWindow],
    compute_energy: Callable[[MeterWindow], Energy],
) -> dict[str, MeterWindow]:
    """Return ended windows, those of one name taken together.

    Args:
        earlier_totals: What others came to already, by name; left as it is.
        windows: Windows that have ended.
        compute_energy: Makes joules of a window.
    """
    totals = dict(earlier_totals)
    for span in windows:
        earlier, total = totals.get(span.name), MeterWindow(span.name, compute_energy)
        total.totals, total.duration_s = span.totals, span.duration_s
        if earlier is not None:
            total.totals = earlier.totals.merged_with(span.totals).with_settled_edges()
            total.duration_s += earlier.duration_s
        total.is_final = True  # what was wrong with a window stands in it
        totals[span.name] = total
    return totals


def counter_fault(before: Reading, now: Reading, max_power_w: float) -> str:
    """Return why what a counter gained between two readings is no energy; empty where it is."""
    if now.energy_lo_j < before.energy_lo_j or now.energy_hi_j < before.energy_hi_j:
        return (
            f"the counter fell from {before.energy_hi_j:,.1f} to {now.energy_hi_j:,.1f} J "
            "(it was reset, as by a driver that is reloaded, or ran over more often than can be "
            "told): what this window took is not known"
        )
    gained_j, gap_s = now.energy_lo_j - before.energy_lo_j, now.t_mono - before.t_mono
    if gained_j > max_power_w * (
        gap_s + MAX_EDGE_WAIT_S
    ):  # it may show a whole step within a short gap
        return (
            f"the counter leapt by {gained_j:,.1f} J in {gap_s:.2f} s, and no such board draws "
            "that: what this window took is not known"
        )
    return ""
