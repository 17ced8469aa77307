"""Energy, power table and phase attribution of one run, across interruptions.

A resumed run has a new meter. Its energy is added to the energy recorded up to the checkpoint
if both are of the same kind; otherwise the run's energy is unknown. The energy of steps that
were lost with the interruption, and trained again, is counted only once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final, NamedTuple

from effcore.energy.arithmetic import EnergySumError, has_joules, sum_energies, without_joules
from effcore.energy.meter import MAX_ROWS, RunMeter
from effcore.energy.phase_attribution import RunPhaseAttributor
from effcore.records import POWER_COLUMNS, Energy, Event, FloatArray, PhaseEvent, RunStart
from effcore.records.append_only_table import AppendOnlyTable
from effcore.records.attribution import PhaseAttribution
from effcore.records.run_clock import RunClock

#: Length of the idle readings for which a run waits, s: longer than the shortest window that
#: has joules, and short enough not to delay a start noticeably. Its interval allows 13% for
#: its edges. :mod:`effcore.energy.idle_power` takes long readings.
SHORT_IDLE_S: Final = 0.6
#: Note on the energy of a resumed run.
RESUMED_NOTE: Final = (
    "the run was interrupted and resumed: this energy excludes the steps that were lost and "
    "trained again"
)
#: Why the energy of a resumed run is not attributed to phases.
RESUMED_ATTRIBUTION: Final = PhaseAttribution(
    why="the run was interrupted and resumed, and its energy by phase before that is not known"
)
UNMETERED_ATTRIBUTION: Final = PhaseAttribution(
    why="this run had no energy meter, so there is no energy to attribute to phases"
)
_ENERGY_COLUMNS = slice(POWER_COLUMNS.index("energy_j"), None)


class RecordedEnergy(NamedTuple):
    """Energy of a run up to the checkpoint from which it resumes."""

    energy: Energy
    rows: FloatArray  # its power table, shape (columns, n)


class RunEnergy:
    """One run's energy: that of its meter, added to the energy from before it was resumed.

    Energy and power rows may be read from any thread; all else is for the training thread.

    Args:
        meter: The meter of the run's current part.
        clock: The run clock.
        before: Energy of the earlier parts; ``None`` for a run that was not resumed.
        idle: A full idle reading from before the run, if there is one.
    """

    def __init__(
        self,
        meter: RunMeter,
        clock: RunClock,
        before: RecordedEnergy | None = None,
        idle: Energy | None = None,
    ) -> None:
        self._meter, self._clock, self._before = meter, clock, before
        self._idle_reading = idle
        self._phases = RunPhaseAttributor(
            meter.counter_updates_since if meter.times_counter_updates else None
        )
        self._rows = AppendOnlyTable(len(POWER_COLUMNS), limit=MAX_ROWS)
        self._meter_rows_read = 0  # rows of the meter's table
        self._start_cpu_s, self._cpu_time_note = time.process_time(), ""
        self._lock = threading.Lock()  # pages read the rows from other threads
        if before is not None:
            self._rows.extend(before.rows)
        self._energy_offset = (
            self._rows.view()[_ENERGY_COLUMNS, -1:].copy() if len(self._rows) else 0.0
        )

    @property
    def needs_phase_marks(self) -> bool:
        """Whether phase marks are needed: with timed counter updates, of all parts of the run."""
        return self._meter.times_counter_updates and self._before is None

    @contextmanager
    def pause_metering(self) -> Iterator[None]:
        """Pause the run clock and the meter for the block."""
        begin_s = time.monotonic()
        self._clock.pause()
        self._meter.pause()
        try:
            yield
        finally:  # after an exception too, the clock must not stay paused
            self._clock.resume()
            self._meter.resume()
        if self.needs_phase_marks:
            self._phases.add_pause(begin_s, time.monotonic())

    def on_event(self, event: Event) -> None:
        """Meter the idle board at the run's start, and add phase events; ignore other events.

        Never raises.
        """
        if isinstance(event, RunStart):
            self._meter_idle_before_run()
        elif isinstance(event, PhaseEvent):
            self._phases.add_event(event)

    def _meter_idle_before_run(self) -> None:
        """Meter the idle board with the run's memory allocated, before training.

        Only where energy is measured: an estimate has no idle power. A full reading from before
        the run is used in place of the short one that there is time for here.
        """
        with suppress(Exception):  # a failed idle reading must not stop training
            if self._meter.is_measured and not (
                self._idle_reading and self._meter.add_idle_reading(self._idle_reading)
            ):
                with self.pause_metering():
                    self._meter.idle_baseline(SHORT_IDLE_S)

    def meter_idle_after_run(self) -> None:
        """Meter the idle board after the run has ended; never raises. The meter stays paused."""
        if self._meter.is_measured:
            with suppress(Exception):
                self._meter.pause()
                self._meter.idle_baseline(SHORT_IDLE_S)

    def stop(self) -> tuple[Energy, PhaseAttribution]:
        """Stop the meter; return the run's energy and its attribution to phases."""
        attribution = self._phases.finish(self._meter.stop())
        if not self._meter.has_source:
            attribution = UNMETERED_ATTRIBUTION
            busy_s = time.process_time() - self._start_cpu_s
            since_text = ", counted since the run was resumed" if self._before is not None else ""
            self._cpu_time_note = (
                f"in place of energy: this process was busy for {busy_s:,.1f} CPU s{since_text}"
            )
        return self.energy(), attribution if self._before is None else RESUMED_ATTRIBUTION

    def energy(self) -> Energy:
        """Return the energy so far, without a new reading and without blocking."""
        now = self._meter.energy()
        if self._cpu_time_note and not has_joules(now):
            now = replace(now, notes=(*now.notes, self._cpu_time_note))
        return now if self._before is None else add_run_parts(self._before.energy, now)

    def power_rows_since(self, row: int) -> tuple[FloatArray, int]:
        """Return the power table from row ``row`` on, and the number of all rows so far.

        Energies in it count from the run's start.
        """
        if self._before is None:
            return self._meter.table.rows_since(row)
        with self._lock:
            new_rows, row_count = self._meter.table.rows_since(self._meter_rows_read)
            if new_rows.shape[1] and has_joules(self.energy()):
                self._meter_rows_read = row_count
                shifted_rows = new_rows.copy()
                shifted_rows[_ENERGY_COLUMNS] += self._energy_offset
                self._rows.extend(shifted_rows)
            return self._rows.rows_since(row)


def add_run_parts(before: Energy, now: Energy) -> Energy:
    """Return the total energy of an interrupted run's parts, if they are of the same kind."""
    try:
        total = sum_energies([before, now])
    except EnergySumError as error:
        why = f"the run was interrupted, and its parts cannot be added: {error}"
        return replace(without_joules(now, (why,)), seconds=before.seconds + now.seconds)
    notes = (RESUMED_NOTE, *total.notes) if has_joules(total) else (*total.notes, RESUMED_NOTE)
    return replace(total, notes=tuple(dict.fromkeys(notes)))
