"""A meter for one run, or for any training: joules of all of it, and of windows of it.

Readings are taken at the edges (start, pause, resume, stop, and those of windows) from
the calling thread, and by the meter's own thread at the source's ``hz`` in between. Where
a counter moves in steps, the thread times those beside the edges, so that nobody waits
for one but ``stop``, up to 150 ms.
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
from effcore.energy.source_opening import open_first_source
from effcore.energy.sources.base import BoardState, EnergySource
from effcore.energy.window_energy import energy_of_window, unavailable_energy
from effcore.records import POWER_COLUMNS, Energy, EnergyQuality, FloatArray
from effcore.records.append_only_table import AppendOnlyTable

#: Longest time for which an idle board may be metered, s.
MAX_IDLE_S = 3600.0
#: Windows that have ended: by their names, and those of late, of whom more may be found out.
EndedWindows: TypeAlias = tuple[Mapping[str, MeterWindow], tuple[MeterWindow, ...]]
FORKED_REASON = "this process was forked from the one that meters: meter in the process that trains"


class RunMeter:
    """Meters one run: ``start``, any number of ``pause`` and ``resume``, ``stop``.

    Or ``with`` it: started at the beginning of the block, stopped at its end.

    Every method may be called from any thread and none raises for what an instrument
    does: training goes on, and the joules say why they are missing.

    Args:
        source: The opened instrument, which the meter closes; ``None`` where there is none.
        clock: The run clock, s, pauses excluded; read from the meter's thread too.
        unavailable: Why there is no source, the first of it being said where there is no room.
        make_scheduler: Makes the thread that takes the meter's turns.
        phases: Whether joules are to be attributed to phases, for which all steps of the
            counter are timed; else only those beside edges are.

    Attributes:
        table: Rows of ``POWER_COLUMNS``, one for each reading; of more than an hour, fewer
            of the older ones. Energies count from ``start`` without pauses; an estimate
            leaves the points NaN.
        trace: Rows of ``account.TRACE_COLUMNS``, one for each row of ``table``.
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
        account = self._thread.accumulator if self._thread else None
        self.table = account.table if account else AppendOnlyTable(len(POWER_COLUMNS), 1)
        self.trace = account.trace if account else AppendOnlyTable(len(TRACE_COLUMNS), 1)
        self._run_window = MeterWindow("run", self._energy_with_idle)
        self._begun_windows: list[MeterWindow] = []  # by their names, and not ended
        self._ended_windows: EndedWindows = ({}, ())
        self._idle_readings: list[Energy | MeterWindow] = []
        self._started_s: float | None = None
        self._ended_s: float | None = None

    @classmethod
    def open(
        cls, device: str, clock: Callable[[], float] = time.monotonic, *, phases: bool = False
    ) -> Self:
        """Return a meter on the first source, by rank, that opens for ``device``."""
        source, reasons = open_first_source(device)
        return cls(source, clock, *reasons, phases=phases)

    @property
    def has_source(self) -> bool:
        """Whether there is an instrument at all."""
        return self._thread is not None

    @property
    def times_counter_updates(self) -> bool:
        """Whether it reads a counter that moves in steps of many ms."""
        return self._thread is not None and self._thread.source.times_counter_updates

    @property
    def is_measured(self) -> bool:
        """Whether its joules are measured, so that an idle reading of a second says much."""
        return self._thread is not None and self._thread.source.quality is EnergyQuality.MEASURED

    # A run ---------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, whatever went wrong."""
        self.stop()

    def start(self) -> None:
        """Take the first reading and start the thread; once only.

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
        """Take an edge reading and count nothing until :meth:`resume`."""
        with self._locked_thread() as watch:
            if watch and watch.recorded_window:
                watch.take_reading(closing=_windows_paused_with_run(watch))
                watch.recorded_window = None

    def resume(self) -> None:
        """Take an edge reading and count from it on."""
        with self._locked_thread() as watch:
            if watch and not watch.recorded_window and self._ended_s is None:
                watch.recorded_window = self._run_window
                watch.take_reading(opening=_windows_paused_with_run(watch))

    def sample(self) -> None:
        """Take one reading now, unless paused or over; the thread does so at ``hz``."""
        if self._thread is not None:
            self._thread.sample()

    def stop(self) -> Energy:
        """Take a last edge reading, end the thread, close the source, return the joules.

        Waits up to 150 ms for a counter's next step. Further calls return the same again.
        """
        stopped: list[MeterWindow] = []
        with self._locked_thread() as watch:
            if watch and self._ended_s is None:
                stopped = list(watch.accumulator.windows)
                if watch.accumulator.is_metering:
                    watch.take_reading(closing=stopped)
                watch.recorded_window = None
                for span in stopped:
                    self._remove_window(watch, span)
            for span in tuple(self._begun_windows):
                self._record_window_end(span)
            self._ended_s = self._clock() if self._ended_s is None else self._ended_s
        if self._thread is not None:
            self._thread.settle_edges()
            self._thread.stop()
            self._thread.close(self._run_window, stopped)
        return self.energy()

    def energy(self) -> Energy:
        """Return the joules so far; takes no reading and waits for nothing."""
        return self._energy_with_idle(self._run_window)

    def state(self) -> BoardState | None:
        """Return what the board was doing about a second ago at most, while the meter runs.

        Its ``t`` says when; ``None`` where the source does not know.
        """
        return self._thread.accumulator.state if self._thread else None

    def reading_age_s(self) -> float:
        """Return how long ago the last reading was, s; NaN before the first."""
        return time.monotonic() - self._thread.accumulator.last_read_s if self._thread else math.nan

    def counter_updates(self) -> FloatArray:
        """Return well-timed steps of the counter, shape (2, n): monotonic s, J.

        What phases are attributed from; empty where the counter does not move in steps. Of
        more than an hour, fewer of the older ones.
        """
        return self.counter_updates_since(0)[0]

    def counter_updates_since(self, first: int) -> tuple[FloatArray, int]:
        """Return the updates from a step on, and how many there ever were."""
        if self._thread is None:
            return np.empty((2, 0)), 0
        return self._thread.accumulator.update_timer.table.rows_since(first)

    # Windows of it -------------------------------------------------------------------

    def begin(self, name: str, *, through_pauses: bool = False) -> MeterWindow:
        """Begin a window; any number may be open at a time. It ends with the run at last.

        Args:
            name: What it covers.
            through_pauses: Whether it goes on while the run is held.

        Raises:
            ValueError: A window of that name is open.
        """
        if any(other.name == name for other in self._begun_windows):
            raise ValueError(f"name={name!r} is taken by an open window: end it, or choose another")
        self._merge_ended_windows()
        span = MeterWindow(name, self._energy_with_idle, through_pauses)
        self._begun_windows.append(span)
        self._start_window(span)
        return span

    def end(self, span: MeterWindow) -> Energy:
        """End a window and return its joules so far; ``span.energy()`` has them for good.

        A window that was ended before stays as it is.
        """
        self._stop_window(span)
        self._record_window_end(span)
        return span.energy()

    @contextlib.contextmanager
    def window(self, name: str) -> Iterator[MeterWindow]:
        """Meter what is inside, as :meth:`start_reading` does; windows nest.

        At both ends the device is waited for, so that work that was only launched counts
        where it was launched.
        """
        self._finish_work()
        span = self.begin(name)
        try:
            yield span
        finally:
            self._finish_work()
            self.end(span)

    def windows(self) -> Mapping[str, Energy]:
        """Return the joules of the ended windows, those of one name taken together.

        Each is there, also where nothing could be metered; it then says why.
        """
        return {
            name: total.energy()
            for name, total in merge_windows_by_name(
                *self._ended_windows, self._energy_with_idle
            ).items()
        }

    def idle_baseline(self, seconds: float) -> Energy:
        """Meter an idle board for some seconds, which the caller waits; not part of the run.

        For the time before and after training, with what training allocates in place. The
        run's energy then says the idle power, which
        :func:`effcore.energy.idle_baseline.dynamic_energy` takes off.

        Raises:
            RuntimeError: The meter is not running.
            ValueError: That is no time to wait.
        """
        if not 0 <= seconds <= MAX_IDLE_S:
            raise ValueError(
                f"seconds={seconds!r} is not allowed: expected 0 to {MAX_IDLE_S:g}; 10 will do"
            )
        if self._started_s is None or self._ended_s is not None:
            raise RuntimeError("an idle baseline needs a meter that was started and not stopped")
        counting = self._thread is not None and self._thread.recorded_window is not None
        self._finish_work()
        self.pause()
        span = MeterWindow("idle", self._energy_with_idle, through_pauses=True)
        try:
            self._start_window(span)
            if self._thread is not None:
                self._thread.wait_while_reading(seconds)
            self._stop_window(span)
            if self._thread is not None:
                self._thread.settle_edges()
        finally:  # who interrupts the wait has the run go on
            self._stop_window(span)
            if counting:
                self.resume()
        self._idle_readings.append(span)
        return span.energy()

    def add_idle_reading(self, idle: Energy) -> bool:
        """Take a reading by another meter, before the run or instead of the one after it.

        Returns whether it was by the same instrument; else it is left out.
        """
        fits = self._thread is not None and is_same_instrument(idle, self._thread.source)
        if fits:
            self._idle_readings[1:] = [idle]
        return fits

    # What all of them need -----------------------------------------------------------

    @contextlib.contextmanager
    def _locked_thread(self) -> Iterator[MeterThread | None]:
        """Hold the instrument's lock; ``None`` where there is none, or it does not answer."""
        if self._thread is None:
            yield None
            return
        with self._thread.hold_lock() as account:
            yield self._thread if account else None

    def _start_window(self, window: MeterWindow) -> None:
        window.start_s = self._clock()
        with self._locked_thread() as watch:
            if watch:
                watch.accumulator.windows.append(window)
                if watch.recorded_window or window.through_pauses:
                    watch.take_reading(opening=[window])

    def _stop_window(self, window: MeterWindow) -> None:
        """End a window; one that was ended before stays as it is."""
        with self._locked_thread() as watch:
            if watch and window in watch.accumulator.windows:
                if window.open:
                    watch.take_reading(closing=[window])
                self._remove_window(watch, window)

    def _remove_window(self, thread: MeterThread, window: MeterWindow) -> None:
        thread.accumulator.windows.remove(window)
        window.is_final = not thread.problem

    def _record_window_end(self, window: MeterWindow) -> None:
        """Count a window among the ended ones, whether it was metered or not."""
        if window in self._begun_windows:
            self._begun_windows.remove(window)
            window.duration_s = self._clock() - window.start_s
            if not window.is_final:  # its end was not read
                window.totals = replace(
                    window.totals, void_reason=window.totals.void_reason or self._failure_reason()
                )
            with self._locked_thread():
                totals, late = self._ended_windows
                self._ended_windows = (totals, (*late, window))

    def _merge_ended_windows(self) -> None:
        """Keep of windows that have ended what they come to, so that there may be many."""
        with self._locked_thread() as watch:
            if watch or self._thread is None:
                self._ended_windows = (
                    merge_windows_by_name(*self._ended_windows, self._energy_with_idle),
                    (),
                )

    def _finish_work(self) -> None:
        if self._thread is not None and not self._thread.forked:
            self._thread.source.finish_work()

    def _energy_with_idle(self, window: MeterWindow) -> Energy:
        """Return a window's joules, or why there are none, with the idle power beside them."""
        told = self._window_energy(window)
        if window in self._idle_readings or not self._idle_readings:
            return told
        return with_idle_readings(
            told,
            (i if isinstance(i, Energy) else self._window_energy(i) for i in self._idle_readings),
        )

    def _window_energy(self, window: MeterWindow) -> Energy:
        watch = self._thread
        if watch is None:
            return unavailable_energy(self._window_duration_s(window), self._unavailable_reasons)
        problem = self._failure_reason()
        energy = energy_of_window(window.totals, watch.source)
        if not problem or window.is_final:
            return energy
        seconds = self._elapsed_s() if window is self._run_window else energy.seconds
        notes = tuple(note for note in energy.notes if note != problem)
        return unavailable_energy(seconds, (problem, *notes), watch.source)

    def _failure_reason(self) -> str:
        """Return why nothing is read any more; empty where it is, or never was."""
        if self._thread is None:
            return ""
        return FORKED_REASON if self._thread.forked else self._thread.problem

    def _window_duration_s(self, window: MeterWindow) -> float:
        """Return how long a window has been, by the clock alone."""
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
    return [span for span in thread.accumulator.windows if not span.through_pauses]
