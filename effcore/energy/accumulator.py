"""Accumulator of one source's readings into window totals, counter updates and power rows.

It starts no thread and never waits; :class:`RunMeter <effcore.energy.meter.RunMeter>` calls
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
from effcore.records.deprecation import with_old_names

#: Columns of the meter's own trace, which has one row per row of the power table.
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
#: State of a board that reports nothing.
UNKNOWN_BOARD_STATE = BoardState(math.nan, math.nan, math.nan, None, math.nan, math.nan)
#: Most rows of the table and of the trace: an hour at ten a second. In a longer run the older
#: half is thinned; totals are differences at window edges and lose nothing.
MAX_ROWS = 36_000
#: A board state counts for at most this long after it was read, s.
MAX_STATE_AGE_S = 2.0


@with_old_names
class MeterWindow:
    """A metered window, running or ended, as ``RunMeter.window`` returns it.

    Args:
        name: What it covers.
        compute_energy: Computes the window's energy.
        through_pauses: Whether it keeps counting while the run is paused.
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
        self.last_reading: Reading | None = None  # the totals cover everything up to it
        self.open = False
        self.is_final = False  # ended with known joules: a later failure changes nothing
        self.start_s = math.nan  # on the run clock
        self.duration_s = math.nan  # on the run clock; NaN until it has ended
        self._compute_energy = compute_energy

    def energy(self) -> Energy:
        """Return the energy so far without blocking; final about 150 ms after the end."""
        return self._compute_energy(self)


class EnergyAccumulator:
    """Turns the readings of one source into window totals and table rows.

    Args:
        source: The opened source.
        clock: The run clock, s.
        time_all_updates: Whether to time every counter update; see :class:`CounterUpdateTimer`.

    Attributes:
        table: Rows of ``POWER_COLUMNS``, at most ``MAX_ROWS``.
        trace: Rows of ``TRACE_COLUMNS``, as many as ``table`` has.
        update_timer: Times the counter's updates.
        windows: Windows that were begun and have not ended.
        state: The last known state of the board.
        consecutive_failures: Failed readings since the last successful one.
        last_read_s: Monotonic time of the last successful reading; NaN before the first.
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
        """Whether any window is open."""
        return bool(self._running_windows())

    def take_reading(
        self,
        opening: Sequence[MeterWindow] = (),
        closing: Sequence[MeterWindow] = (),
        recorded_window: MeterWindow | None = None,
    ) -> None:
        """Take a reading at which windows may open or close.

        Args:
            opening: Windows that open at this reading.
            closing: Windows that close at this reading.
            recorded_window: The window whose energy the table row contains.

        Raises:
            Exception: The source raised it. Opening windows then start at the next
                reading, and closing windows have ended at the one before.
        """
        for window in opening:
            window.open = True
            window.totals = window.totals.with_shared_use(
                self._shared_use or SharedUse(False, "")
            ).with_power_limit((self.state or UNKNOWN_BOARD_STATE).power_limit_w)
        try:
            now = self._read_source()
            self._update_windows(now, closing)
            if recorded_window is not None:
                self._append_row(now, recorded_window)
        finally:
            for window in closing:
                window.open, window.last_reading = False, None

    def poll_counter(self) -> None:
        """Read only the counter, to time its updates; a failure is ignored here."""
        with contextlib.suppress(Exception):
            self._track_counter(self._source.read_counter())

    def record_board_state(self, state: BoardState | None) -> None:
        """Store the board's state; add its power limit and throttled time to open windows."""
        before, self.state = self.state, state
        if state is None:
            return
        for window in self._running_windows():
            window.totals = window.totals.with_power_limit(state.power_limit_w)
        if before is None or before.throttle_reasons is None:
            return
        until_s = min(state.t, before.t + MAX_STATE_AGE_S) if before.throttled else before.t
        for window in self._running_windows():
            window.totals = window.totals.with_throttling(before.t, until_s)

    def record_shared_use(
        self, shared_use: SharedUse | None, windows: Sequence[MeterWindow] = ()
    ) -> None:
        """Store who else uses the board, for all open windows and for ``windows``."""
        self._shared_use = shared_use
        if shared_use is not None:
            for window in {*self._running_windows(), *windows}:
                window.totals = window.totals.with_shared_use(shared_use)

    def append_final_row(self, window: MeterWindow) -> None:
        """Repeat the last row with the joules known after the last edge was timed."""
        if (
            self._source.times_counter_updates
            and self._last_reading is not None
            and len(self.table)
        ):
            joules = power_row(window.totals, self._last_reading, self._source)[3:]
            self.table.append(*self.table.view()[:4, -1], *joules)
            self.trace.append(*self.trace.view()[:, -1])

    def _running_windows(self) -> list[MeterWindow]:
        return [window for window in self.windows if window.open]

    def _read_source(self) -> Reading:
        try:
            now = self._source.read()
        except Exception:
            self.consecutive_failures += 1
            for window in self._running_windows():
                window.totals = window.totals.with_failure()
            raise
        self.consecutive_failures, self.last_read_s = 0, now.t_mono
        return now

    def _update_windows(self, now: Reading, closing: Sequence[MeterWindow]) -> None:
        self._track_counter(now)
        cross_check, counter_updates = (
            self._cross_check.add_reading(now),
            self.update_timer.update_count - self._updates_counted,
        )
        self._updates_counted = self.update_timer.update_count
        windows = self._running_windows()
        needs_edge = self._source.times_counter_updates and (
            closing or any(window.last_reading is None for window in windows)
        )
        edge = self.update_timer.add_edge() if needs_edge else None
        for window in windows:
            is_first_reading = window.last_reading is None
            totals = window.totals.with_reading(
                window.last_reading, now, cross_check, counter_updates
            )
            stops = window in closing
            # A window that opens and closes at one reading has no length and needs no edge.
            if edge is not None and is_first_reading is not stops:
                totals = totals.with_edge(1 if stops else -1, edge)
            window.totals, window.last_reading = totals.with_settled_edges(), now

    def _track_counter(self, now: Reading) -> None:
        """Void open windows after a counter fault, and time the counter's updates."""
        before, self._last_reading = self._last_reading, now
        fault = "" if before is None else counter_fault(before, now, self._source.max_power_w)
        for window in self._running_windows() if fault else ():
            if window.last_reading is not None:  # a fault during a pause does not affect it
                window.totals = replace(
                    window.totals, void_reason=window.totals.void_reason or fault
                )
        if self._source.times_counter_updates:
            self.update_timer.add_poll(now.t_mono, now.energy_j)

    def _append_row(self, now: Reading, window: MeterWindow) -> None:
        seconds, state = self._clock(), self.state or UNKNOWN_BOARD_STATE
        self.table.append(seconds, *power_row(window.totals, now, self._source))
        power_columns = (now.power_average_w, now.power_instant_w)
        board_columns = (state.sm_clock_mhz, state.power_limit_w, state.utilisation_frac)
        throttled = math.nan if state.throttle_reasons is None else state.throttled
        self.trace.append(seconds, *power_columns, state.temperature_c, *board_columns, throttled)


def merge_windows_by_name(
    earlier_totals: Mapping[str, MeterWindow],
    windows: Sequence[MeterWindow],
    compute_energy: Callable[[MeterWindow], Energy],
) -> dict[str, MeterWindow]:
    """Return ended windows by name, those of the same name merged.

    Args:
        earlier_totals: Windows merged before, by name; not changed.
        windows: Windows that have ended.
        compute_energy: Computes a window's energy.
    """
    merged_windows = dict(earlier_totals)
    for window in windows:
        earlier, merged = merged_windows.get(window.name), MeterWindow(window.name, compute_energy)
        merged.totals, merged.duration_s = window.totals, window.duration_s
        if earlier is not None:
            merged.totals = earlier.totals.merged_with(window.totals).with_settled_edges()
            merged.duration_s += earlier.duration_s
        merged.is_final = True  # the reason for missing joules is in the totals
        merged_windows[window.name] = merged
    return merged_windows


def counter_fault(before: Reading, now: Reading, max_power_w: float) -> str:
    """Return why a counter's gain between two readings is not a valid energy, or an empty text."""
    if now.energy_lo_j < before.energy_lo_j or now.energy_hi_j < before.energy_hi_j:
        return (
            f"the counter fell from {before.energy_hi_j:,.1f} to {now.energy_hi_j:,.1f} J "
            "(it was reset, for example by a driver reload, or overflowed an unknown number of "
            "times): the energy of this window is unknown"
        )
    gained_j, gap_s = now.energy_lo_j - before.energy_lo_j, now.t_mono - before.t_mono
    # A whole counter update may appear within a short gap.
    if gained_j > max_power_w * (gap_s + MAX_EDGE_WAIT_S):
        return (
            f"the counter jumped by {gained_j:,.1f} J in {gap_s:.2f} s, more power than this "
            "device can draw: the energy of this window is unknown"
        )
    return ""
