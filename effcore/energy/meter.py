"""Energy meter for one run or any other training: energy of the run and of windows within it.

Readings at the edges (start, pause, resume, stop, and those of windows) are taken in the
calling thread; in between, the meter's own thread takes them at the source's ``hz``. Where a
counter updates in steps, that thread times the updates next to the edges, so that only
``stop`` waits for one, up to 150 ms.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Self, TypeAlias

import numpy as np

from effcore.energy.accumulator import TRACE_COLUMNS, MeterWindow, merge_windows_by_name
from effcore.energy.idle_baseline import is_same_instrument, with_idle_readings
from effcore.energy.meter_thread import MeterThread, SchedulerFactory
from effcore.energy.scheduler import SchedulerThread
from effcore.energy.sources.base import BoardState, EnergySource, open_first_source
from effcore.energy.window_energy import energy_of_window, unavailable_energy
from effcore.records import POWER_COLUMNS, Energy, EnergyQuality, FloatArray
from effcore.records.append_only_table import AppendOnlyTable
from effcore.records.deprecation import with_old_names

#: Longest idle reading that may be requested, s.
MAX_IDLE_S = 3600.0
#: Ended windows: merged ones by name, and recent ones whose edges may still be timed.
EndedWindows: TypeAlias = tuple[Mapping[str, MeterWindow], tuple[MeterWindow, ...]]
FORKED_REASON = (
    "this process was forked from the one that opened the meter: open the meter in the process "
    "that trains"
)


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
        trace: Rows of ``accumulator.TRACE_COLUMNS``, one per row of ``table``.
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
        self._thread = (
            None if source is None else MeterThread(source, clock, make_scheduler, phases)
        )
        accumulator = self._thread.accumulator if self._thread else None
        self.table = accumulator.table if accumulator else AppendOnlyTable(len(POWER_COLUMNS), 1)
        self.trace = accumulator.trace if accumulator else AppendOnlyTable(len(TRACE_COLUMNS), 1)
        self._run_window = MeterWindow("run", self._energy_with_idle)
        self._begun_windows: list[MeterWindow] = []  # begun by name and not ended
        self._ended_windows: EndedWindows = ({}, ())
        self._idle_readings: list[Energy | MeterWindow] = []
        self._started_s: float | None = None
        self._ended_s: float | None = None

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
        if self._started_s is not None:
            raise RuntimeError("this meter was started before; open a new one for each run")
        self._started_s = self._clock()
        if self._thread is not None:
            self._thread.accumulator.windows.append(self._run_window)
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
            if thread and not thread.recorded_window and self._ended_s is None:
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
            if thread and self._ended_s is None:
                stopped = list(thread.accumulator.windows)
                if thread.accumulator.is_metering:
                    thread.take_reading(closing=stopped)
                thread.recorded_window = None
                for window in stopped:
                    self._remove_window(thread, window)
            for window in tuple(self._begun_windows):
                self._record_window_end(window)
            self._ended_s = self._clock() if self._ended_s is None else self._ended_s
        if self._thread is not None:
            self._thread.settle_edges()
            self._thread.stop()
            self._thread.close(self._run_window, stopped)
        return self.energy()

    def energy(self) -> Energy:
        """Return the energy so far, without a new reading and without blocking."""
        return self._energy_with_idle(self._run_window)

    def state(self) -> BoardState | None:
        """Return the board's last state, about a second old at most while the meter runs.

        Its ``t`` is the time it was read; ``None`` where the source reports no state.
        """
        return self._thread.accumulator.state if self._thread else None

    def reading_age_s(self) -> float:
        """Return the age of the last reading, s; NaN before the first."""
        return time.monotonic() - self._thread.accumulator.last_read_s if self._thread else math.nan

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
        return self._thread.accumulator.update_timer.table.rows_since(first)

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
        self._merge_ended_windows()
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
        return {
            name: window.energy()
            for name, window in merge_windows_by_name(
                *self._ended_windows, self._energy_with_idle
            ).items()
        }

    def idle_baseline(self, seconds: float) -> Energy:
        """Meter the idle device for ``seconds``, blocking; this energy is not part of the run.

        Meant for before and after training, with the run's memory allocated. The run's energy
        then includes the idle power, which
        :func:`effcore.energy.idle_baseline.dynamic_energy` subtracts.

        Raises:
            RuntimeError: The meter is not running.
            ValueError: ``seconds`` is out of range.
        """
        if not 0 <= seconds <= MAX_IDLE_S:
            raise ValueError(
                f"seconds={seconds!r} is not allowed: expected 0 to {MAX_IDLE_S:g}; "
                "10 s are usually enough"
            )
        if self._started_s is None or self._ended_s is not None:
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

    @contextlib.contextmanager
    def _locked_thread(self) -> Iterator[MeterThread | None]:
        """Hold the source's lock; yields ``None`` if there is no source or it does not answer."""
        if self._thread is None:
            yield None
            return
        with self._thread.hold_lock() as accumulator:
            yield self._thread if accumulator else None

    def _start_window(self, window: MeterWindow) -> None:
        window.start_s = self._clock()
        with self._locked_thread() as thread:
            if thread:
                thread.accumulator.windows.append(window)
                if thread.recorded_window or window.through_pauses:
                    thread.take_reading(opening=[window])

    def _stop_window(self, window: MeterWindow) -> None:
        """End a window; a window that has already ended is not changed."""
        with self._locked_thread() as thread:
            if thread and window in thread.accumulator.windows:
                if window.open:
                    thread.take_reading(closing=[window])
                self._remove_window(thread, window)

    def _remove_window(self, thread: MeterThread, window: MeterWindow) -> None:
        thread.accumulator.windows.remove(window)
        window.is_final = not thread.problem

    def _record_window_end(self, window: MeterWindow) -> None:
        """Move a window to the ended ones, whether it was metered or not."""
        if window in self._begun_windows:
            self._begun_windows.remove(window)
            window.duration_s = self._clock() - window.start_s
            if not window.is_final:  # the reading at its end failed
                window.totals = replace(
                    window.totals, void_reason=window.totals.void_reason or self._failure_reason()
                )
            with self._locked_thread():
                merged, recent = self._ended_windows
                self._ended_windows = (merged, (*recent, window))

    def _merge_ended_windows(self) -> None:
        """Merge ended windows by name, so that their number does not grow without limit."""
        with self._locked_thread() as thread:
            if thread or self._thread is None:
                self._ended_windows = (
                    merge_windows_by_name(*self._ended_windows, self._energy_with_idle),
                    (),
                )

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
        thread = self._thread
        if thread is None:
            return unavailable_energy(self._window_duration_s(window), self._unavailable_reasons)
        problem = self._failure_reason()
        energy = energy_of_window(window.totals, thread.source)
        if not problem or window.is_final:
            return energy
        seconds = self._elapsed_s() if window is self._run_window else energy.seconds
        notes = tuple(note for note in energy.notes if note != problem)
        return unavailable_energy(seconds, (problem, *notes), thread.source)

    def _failure_reason(self) -> str:
        """Return why readings have stopped; empty while they work or without a source."""
        if self._thread is None:
            return ""
        return FORKED_REASON if self._thread.forked else self._thread.problem

    def _window_duration_s(self, window: MeterWindow) -> float:
        """Return a window's duration on the run clock, s."""
        if window is self._run_window:
            return self._elapsed_s()
        return (
            self._clock() - window.start_s if math.isnan(window.duration_s) else window.duration_s
        )

    def _elapsed_s(self) -> float:
        if self._started_s is None:
            return 0.0
        end_s = self._clock() if self._ended_s is None else self._ended_s
        return end_s - self._started_s


def _windows_paused_with_run(thread: MeterThread) -> list[MeterWindow]:
    return [window for window in thread.accumulator.windows if not window.through_pauses]
