"""Joules and power of a run that may have been interrupted: of all its parts, or of none.

Each time a run is resumed a new meter begins. What it reads joins what was recorded up to
the checkpoint where both are of one kind; otherwise what the run took is not known. Joules
of steps that were lost, and were then taken again, are in neither.
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

#: What a reader of the joules must know.
RESUMED_NOTE: Final = (
    "the run was interrupted and resumed: what was lost in between, and then trained again, is "
    "not in these joules"
)
#: Why the joules of a resumed run are not told by phase.
RESUMED_ATTRIBUTION: Final = PhaseAttribution(
    why="the run was interrupted and resumed, and what its phases took before is not known"
)
_ENERGY_COLUMNS = slice(POWER_COLUMNS.index("energy_j"), None)


class RecordedEnergy(NamedTuple):
    """What a run had taken by the checkpoint that it goes on from.

    Attributes:
        energy: Its joules by then.
        rows: Its power table by then, shape (columns, n).
    """

    energy: Energy
    rows: FloatArray


class RunEnergy:
    """One run's meter and account, with what was recorded before the run was resumed.

    Args:
        meter: The meter of the run's last part.
        clock: The run clock.
        before: What was recorded of the parts before it; ``None`` where there are none.
        idle: What the idle board was read to take before, if it was read for long.
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
        self._meter_rows_read = 0  # rows of the meter
        self._start_cpu_s, self._cpu_time_note = time.process_time(), ""
        self._lock = threading.Lock()  # pages look, too
        if before is not None:
            self._rows.extend(before.rows)
        self._energy_offset = (
            self._rows.view()[_ENERGY_COLUMNS, -1:].copy() if len(self._rows) else 0.0
        )

    @property
    def needs_phase_marks(self) -> bool:
        """Whether it matters when each phase began."""
        return self._phase_energy.needs_phase_marks and self._before is None

    def pause_metering(self) -> AbstractContextManager[None]:
        """Count neither time nor joules."""
        return self._phase_energy.pause_metering()

    def on_event(self, event: Event) -> None:
        """Meter the idle board before anything trains, then what each phase takes.

        Raises nothing; most events say nothing of either.
        """
        if isinstance(event, RunStart):
            self._phase_energy.meter_idle_before_run()
        elif isinstance(event, PhaseEvent):
            self._phase_energy.add_phase_event(event)

    def meter_idle_after_run(self) -> None:
        """Meter the board once the run has ended; raises nothing."""
        self._phase_energy.meter_idle_after_run()

    def stop(self) -> tuple[Energy, PhaseAttribution]:
        """End the account; return what the run took, and what it went to."""
        attribution = self._phase_energy.finish_attribution(self.meter.stop())
        if not self.meter.has_source:
            busy_s = time.process_time() - self._start_cpu_s
            since = ", counted since the run was resumed" if self._before is not None else ""
            said = f"this process was busy for {busy_s:,.1f} CPU s{since}"
            self._cpu_time_note = f"in place of joules: {said}"
        return self.energy(), attribution if self._before is None else RESUMED_ATTRIBUTION

    def energy(self) -> Energy:
        """Return the joules so far; takes no reading and waits for nothing."""
        now = self.meter.energy()
        if self._cpu_time_note and not has_joules(now):
            now = dataclasses.replace(now, notes=(*now.notes, self._cpu_time_note))
        return now if self._before is None else add_run_parts(self._before.energy, now)

    def power_rows(self) -> FloatArray:
        """Return the power table so far, as far as it is kept; energies count from the start."""
        return self.power_rows_since(0)[0]

    def power_rows_since(self, row: int) -> tuple[FloatArray, int]:
        """Return the power table from a row on, and how many rows there ever were."""
        if self._before is None:
            return self.meter.table.rows_since(row)
        with self._lock:
            fresh, ever = self.meter.table.rows_since(self._meter_rows_read)
            if fresh.shape[1] and has_joules(self.energy()):
                self._meter_rows_read = ever
                moved = fresh.copy()
                moved[_ENERGY_COLUMNS] += self._energy_offset
                self._rows.extend(moved)
            return self._rows.rows_since(row)


def add_run_parts(before: Energy, now: Energy) -> Energy:
    """Return the joules of an interrupted run's parts together, if they are of one kind."""
    try:
        found = sum_energies([before, now])
    except EnergySumError as error:
        return dataclasses.replace(
            now,
            joules=None,
            lo=None,
            hi=None,
            seconds=before.seconds + now.seconds,
            quality=EnergyQuality.UNAVAILABLE,
            notes=(f"the run was interrupted, and its parts do not add up: {error}",),
        )
    notes = (RESUMED_NOTE, *found.notes) if has_joules(found) else (*found.notes, RESUMED_NOTE)
    return dataclasses.replace(found, notes=tuple(dict.fromkeys(notes)))
