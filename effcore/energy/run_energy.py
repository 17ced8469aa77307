"""Energy and power table of one run, across interruptions.

A resumed run has a new meter. Its energy is added to the energy recorded up to the checkpoint
if both are of the same kind; otherwise the run's energy is unknown. The energy of steps that
were lost with the interruption, and trained again, is counted only once.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

from effcore.energy.accumulator import MAX_ROWS
from effcore.energy.arithmetic import EnergySumError, has_joules, sum_energies
from effcore.energy.meter import RunMeter
from effcore.energy.phase_energy import PhaseEnergyMeter
from effcore.records import (
    POWER_COLUMNS,
    Energy,
    EnergyQuality,
    Event,
    FloatArray,
    PhaseEvent,
    RunStart,
)
from effcore.records.append_only_table import AppendOnlyTable
from effcore.records.attribution import PhaseAttribution
from effcore.records.run_clock import RunClock

#: Note on the energy of a resumed run.
RESUMED_NOTE: Final = (
    "the run was interrupted and resumed: this energy excludes the steps that were lost and "
    "trained again"
)
#: Why the energy of a resumed run is not attributed to phases.
RESUMED_ATTRIBUTION: Final = PhaseAttribution(
    why="the run was interrupted and resumed, and its energy by phase before that is not known"
)
_ENERGY_COLUMNS = slice(POWER_COLUMNS.index("energy_j"), None)


class RecordedEnergy(NamedTuple):
    """Energy of a run up to the checkpoint from which it resumes.

    Attributes:
        energy: Its energy up to then.
        rows: Its power table up to then, shape (columns, n).
    """

    energy: Energy
    rows: FloatArray


class RunEnergy:
    """One run's meter and phase energy, added to the energy from before it was resumed.

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
        self.meter, self._before = meter, before
        self._phase_energy = PhaseEnergyMeter(meter, clock, idle)
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
        """Whether phase marks are needed, for attribution of energy to phases."""
        return self._phase_energy.needs_phase_marks and self._before is None

    def pause_metering(self) -> AbstractContextManager[None]:
        """Pause the run clock and the meter for a ``with`` block."""
        return self._phase_energy.pause_metering()

    def on_event(self, event: Event) -> None:
        """Meter the idle board at the run's start, and add phase events; ignore other events.

        Never raises.
        """
        if isinstance(event, RunStart):
            self._phase_energy.meter_idle_before_run()
        elif isinstance(event, PhaseEvent):
            self._phase_energy.add_phase_event(event)

    def meter_idle_after_run(self) -> None:
        """Meter the idle board after the run has ended; never raises."""
        self._phase_energy.meter_idle_after_run()

    def stop(self) -> tuple[Energy, PhaseAttribution]:
        """Stop the meter; return the run's energy and its attribution to phases."""
        attribution = self._phase_energy.finish_attribution(self.meter.stop())
        if not self.meter.has_source:
            busy_s = time.process_time() - self._start_cpu_s
            resumed_text = ", counted since the run was resumed" if self._before is not None else ""
            cpu_time_text = f"this process was busy for {busy_s:,.1f} CPU s{resumed_text}"
            self._cpu_time_note = f"in place of energy: {cpu_time_text}"
        return self.energy(), attribution if self._before is None else RESUMED_ATTRIBUTION

    def energy(self) -> Energy:
        """Return the energy so far, without a new reading and without blocking."""
        now = self.meter.energy()
        if self._cpu_time_note and not has_joules(now):
            now = dataclasses.replace(now, notes=(*now.notes, self._cpu_time_note))
        return now if self._before is None else add_run_parts(self._before.energy, now)

    def power_rows(self) -> FloatArray:
        """Return the stored rows of the power table; energies count from the run's start."""
        return self.power_rows_since(0)[0]

    def power_rows_since(self, row: int) -> tuple[FloatArray, int]:
        """Return the power table from row ``row`` on, and the number of all rows so far."""
        if self._before is None:
            return self.meter.table.rows_since(row)
        with self._lock:
            new_rows, row_count = self.meter.table.rows_since(self._meter_rows_read)
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
        return dataclasses.replace(
            now,
            joules=None,
            lo=None,
            hi=None,
            seconds=before.seconds + now.seconds,
            quality=EnergyQuality.UNAVAILABLE,
            notes=(f"the run was interrupted, and its parts cannot be added: {error}",),
        )
    notes = (RESUMED_NOTE, *total.notes) if has_joules(total) else (*total.notes, RESUMED_NOTE)
    return dataclasses.replace(total, notes=tuple(dict.fromkeys(notes)))
