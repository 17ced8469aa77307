"""Energy meter for one run or any other training: energy of the run and of windows within it.

Readings at the edges (start, pause, resume, stop, and those of windows) are taken in the
calling thread; in between, the meter's own thread takes them at the source's ``hz``. Where a
counter updates in steps, that thread times the updates next to the edges, so that only
``stop`` waits for one, up to 150 ms.

A source may fail, hang or disappear, and the process may fork. None of this raises an
exception in the training: the energy's notes hold the reason.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Self, TypeAlias

import numpy as np

from effcore.energy.arithmetic import is_same_instrument, with_idle_readings
from effcore.energy.scheduler import PeriodicTask, SchedulerThread
from effcore.energy.sources.base import (
    BoardState,
    EnergySource,
    Reading,
    SharedUse,
    error_text_without_paths,
    open_first_source,
)
from effcore.energy.window import (
    MAX_EDGE_WAIT_S,
    POLL_INTERVAL_S,
    CounterUpdateTimer,
    CrossCheck,
    WindowTotals,
    energy_of_window,
    power_row,
    unavailable_energy,
)
from effcore.records import POWER_COLUMNS, Energy, EnergyQuality, FloatArray
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
#: After this many consecutive failed readings the source is abandoned.
MAX_FAILURES = 3
#: A source that takes longer to answer, s, is abandoned, so that it cannot block a run.
MAX_STALL_S = 5.0
#: Longest idle reading that may be requested, s.
MAX_IDLE_S = 3600.0
FORKED_REASON = (
    "this process was forked from the one that opened the meter: open the meter in the process "
    "that trains"
)


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


#: Ended windows: merged ones by name, and recent ones whose edges may still be timed.
EndedWindows: TypeAlias = tuple[Mapping[str, MeterWindow], tuple[MeterWindow, ...]]


# The meter's thread ----------------------------------------------------------------------


SchedulerFactory: TypeAlias = Callable[[Callable[[], float | None], str], SchedulerThread]


class MeterThread:
    """Reads one source from its own thread, and on request from any thread.

    Every reading extends the open windows and the two tables.

    Args:
        source: The opened source; closed by :meth:`close`.
        clock: The run clock, s; also read from this thread.
        make_scheduler: Makes the thread that runs periodic tasks.
        time_all_updates: Whether to time every counter update; see :class:`CounterUpdateTimer`.
    """

    def __init__(
        self,
        source: EnergySource,
        clock: Callable[[], float],
        make_scheduler: SchedulerFactory,
        time_all_updates: bool,
    ) -> None:
        self.source = source
        self.table = AppendOnlyTable(len(POWER_COLUMNS), limit=MAX_ROWS)
        self.trace = AppendOnlyTable(len(TRACE_COLUMNS), limit=MAX_ROWS)
        self.update_timer = CounterUpdateTimer(time_all_updates)
        self.windows: list[MeterWindow] = []  # that were begun and have not ended
        self.recorded_window: MeterWindow | None = None  # the table's; None while paused
        self.state: BoardState | None = None
        self.last_read_s = math.nan  # monotonic time of the last successful reading
        self.problem = ""  # why the source was abandoned
        self.stopped = False  # reading
        self._clock = clock
        self._cross_check = CrossCheck()
        self._last_reading: Reading | None = None
        self._last_shared_use: SharedUse | None = None
        self._updates_counted = 0
        self._consecutive_failures = 0
        self._tasks: list[PeriodicTask] = []
        self._scheduler = make_scheduler(self._run_due_tasks, f"power-{source.id}")
        self._started = self._stalled = self._closed = False
        self._pid = os.getpid()
        self._lock = threading.RLock()  # held during a reading, so that readings keep order

    @property
    def forked(self) -> bool:
        """Whether this process was forked: the thread and its lock exist only in the parent."""
        return os.getpid() != self._pid

    @property
    def is_metering(self) -> bool:
        """Whether any window is open."""
        return any(window.open for window in self.windows)

    @contextlib.contextmanager
    def try_lock(self) -> Iterator[Self | None]:
        """Hold the lock; abandon the source and yield ``None`` if a reading blocks it too long."""
        if self.forked:
            yield None
            return
        is_held = self._lock.acquire(timeout=0 if self._stalled else MAX_STALL_S)
        if not is_held:
            self._stalled = True
            self._abandon_source(f"the meter did not answer within {MAX_STALL_S:g} s")
        try:
            yield self if is_held else None
        finally:
            if is_held:
                self._lock.release()

    def start(self) -> None:
        """Start the thread."""
        source, now_s = self.source, time.monotonic()
        self._tasks = [PeriodicTask(source.hz, self.sample, now_s + 1 / source.hz)]
        if source.state_hz:
            self._tasks.append(PeriodicTask(source.state_hz, self._record_board_state, now_s))
        if source.shared_use_hz:
            self._tasks.append(PeriodicTask(source.shared_use_hz, self._record_shared_use, now_s))
        self._started = True
        self._scheduler.start()

    def take_reading(
        self, opening: Sequence[MeterWindow] = (), closing: Sequence[MeterWindow] = ()
    ) -> None:
        """Take a reading with the lock held; wake the thread if an edge has to be timed.

        If the source fails, opening windows start at the next reading, and closing windows have
        ended at the one before.

        Args:
            opening: Windows that open at this reading.
            closing: Windows that close at this reading.
        """
        if self.stopped:
            return
        for window in opening:
            window.open = True
            window.totals = window.totals.with_shared_use(
                self._last_shared_use or SharedUse(False, "")
            ).with_power_limit((self.state or UNKNOWN_BOARD_STATE).power_limit_w)
        try:
            now = self._read_source()
            self._extend_windows(now, closing)
            if self.recorded_window is not None:
                self._append_row(now, self.recorded_window)
        except Exception as error:  # a fault of the source must not stop training
            if self._consecutive_failures >= MAX_FAILURES:
                self._abandon_source(
                    f"{MAX_FAILURES} readings in a row failed: {error_text_without_paths(error)}"
                )
        finally:
            for window in closing:
                window.open, window.last_reading = False, None
        if self._started and not self.update_timer.edges_settled:
            self._scheduler.wake()

    def sample(self) -> None:
        """Take a reading now, if anything is being metered."""
        with self.try_lock() as thread:
            if thread and self.is_metering:
                self.take_reading()

    def remove_window(self, window: MeterWindow) -> None:
        """Remove a window that has ended, with the lock held."""
        self.windows.remove(window)
        window.is_final = not self.problem

    def wait_while_reading(self, seconds: float) -> None:
        """Wait for ``seconds`` while the thread keeps reading, or until it stops."""
        if self._started and not self.forked:
            self._scheduler.wait_until(lambda: self.stopped, seconds)

    def settle_edges(self) -> None:
        """Wait up to 150 ms for the counter updates next to the last edges."""
        if not self._started or self.stopped or self.forked:
            return
        self._scheduler.wait_until(lambda: self.update_timer.edges_settled, MAX_EDGE_WAIT_S)
        with self.try_lock() as thread:
            if thread:
                self.update_timer.abandon_edges()

    def close(self, run_window: MeterWindow, stopped_windows: Sequence[MeterWindow]) -> None:
        """Stop reading, check for other processes, append the last row, and close the source.

        Waits for a reading in progress, but not for one that hangs.

        Args:
            run_window: The window that the table records.
            stopped_windows: Windows that have just ended.
        """
        self.settle_edges()
        self.stopped = True
        if self._started and not self.forked:
            self._scheduler.stop(0 if self._stalled else MAX_STALL_S)
        # Without the lock a call hangs in the driver, and closing could crash it.
        with self.try_lock() as thread, contextlib.suppress(Exception):
            if not thread or self._closed:
                return
            self._closed = True
            if stopped_windows and not self.problem:
                if self.source.shared_use_hz:
                    self._record_shared_use(stopped_windows)
                last = self._last_reading
                if self.source.times_counter_updates and last is not None and len(self.table):
                    # Repeat the last row with the joules known after the last edge was timed.
                    joules = power_row(run_window.totals, last, self.source)[3:]
                    self.table.append(*self.table.view()[:4, -1], *joules)
                    self.trace.append(*self.trace.view()[:, -1])
            self.source.close()

    # Readings ------------------------------------------------------------------------

    def _open_windows(self) -> list[MeterWindow]:
        return [window for window in self.windows if window.open]

    def _read_source(self) -> Reading:
        try:
            now = self.source.read()
        except Exception:
            self._consecutive_failures += 1
            for window in self._open_windows():
                window.totals = window.totals.with_failure()
            raise
        self._consecutive_failures, self.last_read_s = 0, now.t_mono
        return now

    def _extend_windows(self, now: Reading, closing: Sequence[MeterWindow]) -> None:
        self._track_counter(now)
        cross_check = self._cross_check.add_reading(now)
        counter_updates = self.update_timer.update_count - self._updates_counted
        self._updates_counted = self.update_timer.update_count
        windows = self._open_windows()
        needs_edge = self.source.times_counter_updates and (
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
                totals = totals.with_untimed_edge(1 if stops else -1, edge)
            window.totals, window.last_reading = totals.with_settled_edges(), now

    def _track_counter(self, now: Reading) -> None:
        """Void open windows after a counter fault, and time the counter's updates."""
        before, self._last_reading = self._last_reading, now
        if before is not None and (fault := counter_fault(before, now, self.source.max_power_w)):
            for window in self._open_windows():
                if window.last_reading is not None:  # a fault during a pause does not affect it
                    window.totals = window.totals.with_void_reason(fault)
        if self.source.times_counter_updates:
            self.update_timer.add_poll(now.t_mono, now.energy_j)

    def _append_row(self, now: Reading, window: MeterWindow) -> None:
        seconds, state = self._clock(), self.state or UNKNOWN_BOARD_STATE
        self.table.append(seconds, *power_row(window.totals, now, self.source))
        self.trace.append(
            seconds,
            now.power_average_w,
            now.power_instant_w,
            state.temperature_c,
            state.sm_clock_mhz,
            state.power_limit_w,
            state.utilisation_frac,
            math.nan if state.throttle_reasons is None else state.throttled,
        )

    # Tasks of the thread -------------------------------------------------------------

    def _run_due_tasks(self) -> float | None:
        try:
            for task in self._tasks:
                task.run_if_due(time.monotonic())
            due_s = self._poll_counter()
        except Exception as error:  # report a fault of the meter itself as the reason
            self._abandon_source(
                f"the meter failed: {type(error).__name__}: {error_text_without_paths(error)}"
            )
        return None if self.stopped else min(due_s, *(task.due_s for task in self._tasks))

    def _poll_counter(self) -> float:
        """Poll the counter if an update is due; return the time of the next poll, s."""
        with self.try_lock() as thread:
            if not thread or not self.source.times_counter_updates:
                return math.inf
            if not self.is_metering and self.update_timer.edges_settled:
                return math.inf  # no window is open, possibly for a long pause
            now_s = time.monotonic()
            if now_s >= self.update_timer.next_poll_s():
                with contextlib.suppress(Exception):  # only readings count failures
                    self._track_counter(self.source.read_counter())
            # A failed poll must not be repeated at once.
            return max(self.update_timer.next_poll_s(), now_s + POLL_INTERVAL_S)

    def _record_board_state(self) -> None:
        """Store the board's state; add its power limit and throttled time to open windows."""
        state = self.source.state()  # not under the lock: it may take milliseconds
        with self.try_lock() as thread:
            if not thread:
                return
            before, self.state = self.state, state
            if state is None:
                return
            for window in self._open_windows():
                window.totals = window.totals.with_power_limit(state.power_limit_w)
            if before is not None and before.throttle_reasons is not None:
                until_s = min(state.t, before.t + MAX_STATE_AGE_S) if before.throttled else before.t
                for window in self._open_windows():
                    window.totals = window.totals.with_throttling(before.t, until_s)

    def _record_shared_use(self, stopped_windows: Sequence[MeterWindow] = ()) -> None:
        """Store who else uses the device, for open windows and those that have just ended."""
        shared_use = self.source.shared_use()
        with self.try_lock() as thread:
            if not thread:
                return
            self._last_shared_use = shared_use
            if shared_use is not None:
                for window in {*self._open_windows(), *stopped_windows}:
                    window.totals = window.totals.with_shared_use(shared_use)

    def _abandon_source(self, problem: str) -> None:
        self.problem = self.problem or problem
        self.stopped = True


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


# The meter -------------------------------------------------------------------------------


@with_old_names
class RunMeter:
    """Meters one run: ``start``, any number of ``pause`` and ``resume``, ``stop``.

    As a context manager it starts at the beginning of the block and stops at its end.

    Every method may be called from any thread. None raises for a fault of the instrument:
    training continues, and the energy's notes say why joules are missing.

    Args:
        source: The opened source, which the meter closes; ``None`` where there is none.
        clock: The run clock, s, pauses excluded; also read from the meter's thread.
        unavailable: Reasons why there is no source, the most useful one first.
        make_scheduler: Makes the thread that runs the meter's periodic tasks.
        phases: Whether energy will be attributed to phases, which needs every counter update
            timed; otherwise only updates next to edges are timed.

    Attributes:
        table: Rows of ``POWER_COLUMNS``, one per reading; after an hour the older ones are
            thinned. Energies count from ``start``, without pauses; for an estimate the point
            values are NaN.
        trace: Rows of ``TRACE_COLUMNS``, one per row of ``table``.
    """

    def __init__(
        self,
        source: EnergySource | None,
        clock: Callable[[], float],
        *unavailable: str,
        make_scheduler: SchedulerFactory = SchedulerThread,
        phases: bool = False,
    ) -> None:
        self._clock = clock
        self._unavailable_reasons = unavailable or ("no meter was opened",)
        self._thread = thread = (
            None if source is None else MeterThread(source, clock, make_scheduler, phases)
        )
        self.table = thread.table if thread else AppendOnlyTable(len(POWER_COLUMNS), 1)
        self.trace = thread.trace if thread else AppendOnlyTable(len(TRACE_COLUMNS), 1)
        self._run_window = MeterWindow("run", self._energy_with_idle)
        self._begun_windows: list[MeterWindow] = []  # begun by name and not ended
        self._ended_windows: EndedWindows = ({}, ())
        self._idle_readings: list[Energy | MeterWindow] = []

    @classmethod
    def open(
        cls, device: str, clock: Callable[[], float] = time.monotonic, *, phases: bool = False
    ) -> Self:
        """Return a meter with the first source, by rank, that opens for ``device``."""
        source, reasons = open_first_source(device)
        return cls(source, clock, *reasons, phases=phases)

    @property
    def has_source(self) -> bool:
        """Whether the meter has a source."""
        return self._thread is not None

    @property
    def times_counter_updates(self) -> bool:
        """Whether it reads a counter that updates only every few tens of ms."""
        return self._thread is not None and self._thread.source.times_counter_updates

    @property
    def is_measured(self) -> bool:
        """Whether its energy is measured, so that a short idle reading is meaningful."""
        return self._thread is not None and self._thread.source.quality is EnergyQuality.MEASURED

    # A run ---------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Start the meter."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the meter, also after an exception."""
        self.stop()

    def start(self) -> None:
        """Take the first reading and start the thread; may be called once.

        Raises:
            RuntimeError: The meter was started before.
        """
        if self._has_started:
            raise RuntimeError("this meter was started before; open a new one for each run")
        self._run_window.start_s = self._clock()
        if self._thread is not None:
            self._thread.windows.append(self._run_window)
            self.resume()
            self._thread.start()

    def pause(self) -> None:
        """Take an edge reading, and count no energy until :meth:`resume`."""
        with self._locked_thread() as thread:
            if thread and thread.recorded_window:
                thread.take_reading(closing=_windows_paused_with_run(thread))
                thread.recorded_window = None

    def resume(self) -> None:
        """Take an edge reading, and count energy from it on."""
        with self._locked_thread() as thread:
            if thread and not thread.recorded_window and not self._has_ended:
                thread.recorded_window = self._run_window
                thread.take_reading(opening=_windows_paused_with_run(thread))

    def sample(self) -> None:
        """Take one reading now, unless paused or stopped; the thread does so at ``hz``."""
        if self._thread is not None:
            self._thread.sample()

    def stop(self) -> Energy:
        """Take a last edge reading, end the thread, close the source, and return the energy.

        Waits up to 150 ms for the next counter update. Further calls return the same energy.
        """
        stopped: list[MeterWindow] = []
        with self._locked_thread() as thread:
            if thread and not self._has_ended:
                stopped = list(thread.windows)
                if thread.is_metering:
                    thread.take_reading(closing=stopped)
                thread.recorded_window = None
                for window in stopped:
                    thread.remove_window(window)
            for window in tuple(self._begun_windows):
                self._record_window_end(window)
            self._run_window.duration_s = self._duration_s(self._run_window)
        if self._thread is not None:
            self._thread.close(self._run_window, stopped)
        return self.energy()

    def energy(self) -> Energy:
        """Return the energy so far, without a new reading and without blocking."""
        return self._energy_with_idle(self._run_window)

    def state(self) -> BoardState | None:
        """Return the board's last state, about a second old at most while the meter runs.

        Its ``t`` is the time it was read; ``None`` where the source reports no state.
        """
        return self._thread.state if self._thread else None

    def reading_age_s(self) -> float:
        """Return the age of the last reading, s; NaN before the first."""
        return time.monotonic() - self._thread.last_read_s if self._thread else math.nan

    def counter_updates(self) -> FloatArray:
        """Return the well-timed counter updates, shape (2, n): monotonic s, J.

        Phase attribution uses them; empty where the source's updates are not timed. After an
        hour the older ones are thinned.
        """
        return self.counter_updates_since(0)[0]

    def counter_updates_since(self, first: int) -> tuple[FloatArray, int]:
        """Return the counter updates from number ``first`` on, and the number of all so far."""
        if self._thread is None:
            return np.empty((2, 0)), 0
        return self._thread.update_timer.table.rows_since(first)

    # Windows of it -------------------------------------------------------------------

    def begin(self, name: str, *, through_pauses: bool = False) -> MeterWindow:
        """Begin a window; any number may be open at once. It ends with the run at the latest.

        Args:
            name: What it covers.
            through_pauses: Whether it keeps counting while the run is paused.

        Raises:
            ValueError: A window of that name is open.
        """
        if any(open_window.name == name for open_window in self._begun_windows):
            raise ValueError(
                f"name={name!r} is taken by an open window: end that window or choose another name"
            )
        with self._locked_thread() as thread:
            if thread or self._thread is None:  # so that their number does not grow without limit
                self._ended_windows = self._merged_windows(), ()
        window = MeterWindow(name, self._energy_with_idle, through_pauses)
        self._begun_windows.append(window)
        self._start_window(window)
        return window

    def end(self, span: MeterWindow) -> Energy:
        """End a window and return its energy so far; ``span.energy()`` later returns the final one.

        A window that has already ended is not changed.
        """
        self._stop_window(span)
        self._record_window_end(span)
        return span.energy()

    @contextlib.contextmanager
    def window(self, name: str) -> Iterator[MeterWindow]:
        """Meter the block as a window, as :meth:`begin` and :meth:`end` do; windows may nest.

        The device is synchronised at both ends, so that launched work is counted in the window
        in which it was launched.
        """
        self._finish_work()
        window = self.begin(name)
        try:
            yield window
        finally:
            self._finish_work()
            self.end(window)

    def windows(self) -> Mapping[str, Energy]:
        """Return the energies of the ended windows by name, windows of the same name added up.

        A window that could not be metered is included, without joules and with the reason.
        """
        return {name: window.energy() for name, window in self._merged_windows().items()}

    def idle_baseline(self, seconds: float) -> Energy:
        """Meter the idle device for ``seconds``, blocking; this energy is not part of the run.

        Meant for before and after training, with the run's memory allocated. The run's energy
        then includes the idle power, which
        :func:`effcore.energy.arithmetic.dynamic_energy` subtracts.

        Raises:
            RuntimeError: The meter is not running.
            ValueError: ``seconds`` is out of range.
        """
        if not 0 <= seconds <= MAX_IDLE_S:
            raise ValueError(
                f"seconds={seconds!r} is not allowed: expected 0 to {MAX_IDLE_S:g}; "
                "10 s are usually enough"
            )
        if not self._has_started or self._has_ended:
            raise RuntimeError("an idle baseline needs a meter that was started and not stopped")
        was_counting = self._thread is not None and self._thread.recorded_window is not None
        self._finish_work()
        self.pause()
        window = MeterWindow("idle", self._energy_with_idle, through_pauses=True)
        try:
            self._start_window(window)
            if self._thread is not None:
                self._thread.wait_while_reading(seconds)
            self._stop_window(window)
            if self._thread is not None:
                self._thread.settle_edges()
        finally:  # if the wait is interrupted, the run must still resume
            self._stop_window(window)
            if was_counting:
                self.resume()
        self._idle_readings.append(window)
        return window.energy()

    def add_idle_reading(self, idle: Energy) -> bool:
        """Add an idle reading by another meter: the one before the run, or in place of the second.

        Returns whether it was read by the same instrument; otherwise it is ignored.
        """
        is_same = self._thread is not None and is_same_instrument(idle, self._thread.source)
        if is_same:
            self._idle_readings[1:] = [idle]
        return is_same

    # Helpers -------------------------------------------------------------------------

    def _locked_thread(self) -> AbstractContextManager[MeterThread | None]:
        """Hold the source's lock; yields ``None`` if there is no source or it does not answer."""
        return contextlib.nullcontext() if self._thread is None else self._thread.try_lock()

    @property
    def _has_started(self) -> bool:
        return not math.isnan(self._run_window.start_s)

    @property
    def _has_ended(self) -> bool:
        return not math.isnan(self._run_window.duration_s)

    def _start_window(self, window: MeterWindow) -> None:
        window.start_s = self._clock()
        with self._locked_thread() as thread:
            if thread:
                thread.windows.append(window)
                if thread.recorded_window or window.through_pauses:
                    thread.take_reading(opening=[window])

    def _stop_window(self, window: MeterWindow) -> None:
        """End a window; a window that has already ended is not changed."""
        with self._locked_thread() as thread:
            if thread and window in thread.windows:
                if window.open:
                    thread.take_reading(closing=[window])
                thread.remove_window(window)

    def _record_window_end(self, window: MeterWindow) -> None:
        """Move a window to the ended ones, whether it was metered or not."""
        if window in self._begun_windows:
            self._begun_windows.remove(window)
            window.duration_s = self._duration_s(window)
            if not window.is_final:  # the reading at its end failed
                window.totals = window.totals.with_void_reason(self._failure_reason())
            with self._locked_thread():
                merged, recent = self._ended_windows
                self._ended_windows = (merged, (*recent, window))

    def _merged_windows(self) -> dict[str, MeterWindow]:
        """Return the ended windows by name, those of the same name merged."""
        earlier_windows, windows = self._ended_windows
        merged_windows = dict(earlier_windows)
        for window in windows:
            merged = MeterWindow(window.name, self._energy_with_idle)
            merged.totals, merged.duration_s = window.totals, window.duration_s
            if (earlier := merged_windows.get(window.name)) is not None:
                merged.totals = earlier.totals.merged_with(window.totals).with_settled_edges()
                merged.duration_s += earlier.duration_s
            merged.is_final = True  # the reason for missing joules is in the totals
            merged_windows[window.name] = merged
        return merged_windows

    def _finish_work(self) -> None:
        if self._thread is not None and not self._thread.forked:
            self._thread.source.finish_work()

    def _energy_with_idle(self, window: MeterWindow) -> Energy:
        """Return a window's energy with the run's idle readings."""
        energy = self._window_energy(window)
        if window in self._idle_readings or not self._idle_readings:
            return energy
        return with_idle_readings(
            energy,
            (
                reading if isinstance(reading, Energy) else self._window_energy(reading)
                for reading in self._idle_readings
            ),
        )

    def _window_energy(self, window: MeterWindow) -> Energy:
        if self._thread is None:
            return unavailable_energy(self._duration_s(window), self._unavailable_reasons)
        problem = self._failure_reason()
        energy = energy_of_window(window.totals, self._thread.source)
        if not problem or window.is_final:
            return energy
        seconds = self._duration_s(window) if window is self._run_window else energy.seconds
        notes = tuple(note for note in energy.notes if note != problem)
        return unavailable_energy(seconds, (problem, *notes), self._thread.source)

    def _failure_reason(self) -> str:
        """Return why readings have stopped; empty while they work or without a source."""
        if self._thread is None:
            return ""
        return FORKED_REASON if self._thread.forked else self._thread.problem

    def _duration_s(self, window: MeterWindow) -> float:
        """Return a window's duration on the run clock so far, s."""
        if not math.isnan(window.duration_s):
            return window.duration_s
        return 0.0 if math.isnan(window.start_s) else self._clock() - window.start_s


def _windows_paused_with_run(thread: MeterThread) -> list[MeterWindow]:
    return [window for window in thread.windows if not window.through_pauses]
