from __future__ import annotations

import dataclasses
import time
from typing import cast

import numpy as np
import pytest

from effcore.energy import run_energy as continued_module
from effcore.energy.meter import RunMeter
from effcore.energy.run_energy import RESUMED_NOTE, RecordedEnergy, RunEnergy
from effcore.records import POWER_COLUMNS, Energy, EnergyQuality, FloatArray
from effcore.records.append_only_table import AppendOnlyTable
from effcore.records.run_clock import RunClock
from effcore.runs.fault_tolerant_writer import FaultTolerantWriter
from effcore.store import RunWriter

MEASURED = Energy(
    100.0, 90.0, 110.0, 5.0, EnergyQuality.MEASURED, "a counter", "the board", ("a note",)
)


class Meter(RunMeter):
    """A meter that says what it is told to."""

    def __init__(self, now: Energy) -> None:
        super().__init__(None, lambda: 0.0)
        self.now = now
        self.table = AppendOnlyTable(len(POWER_COLUMNS))

    def energy(self) -> Energy:
        return self.now


def continued(now: Energy, before: Energy | None = MEASURED) -> tuple[Meter, RunEnergy]:
    meter = Meter(now)
    rows = np.arange(14.0).reshape(7, 2)
    recorded = RecordedEnergy(before, rows) if before is not None else None
    return meter, RunEnergy(cast(RunMeter, meter), RunClock(), recorded)


def test_joules_of_one_kind_add_and_say_what_is_missing() -> None:
    meter, both = continued(dataclasses.replace(MEASURED, joules=50.0, lo=45.0, hi=55.0))
    found = both.energy()
    assert (found.joules, found.lo, found.hi, found.seconds) == (150.0, 135.0, 165.0, 10.0)
    assert found.notes == (RESUMED_NOTE, "a note")
    meter.table.append(*range(100, 107))
    table = both.power_rows_since(0)[0]
    assert table[:, -1].tolist() == [100, 101, 102, 103, 104 + 9, 105 + 11, 106 + 13]
    meter.table.append(*range(200, 207))
    assert both.power_rows_since(0)[0].shape == (7, 4)


def test_joules_of_two_kinds_are_not_known() -> None:
    other = dataclasses.replace(MEASURED, quality=EnergyQuality.ESTIMATED, joules=None)
    meter, both = continued(other)
    meter.table.append(*range(100, 107))
    found = both.energy()
    assert (found.joules, found.lo, found.quality) == (None, None, EnergyQuality.UNAVAILABLE)
    assert found.notes[0].startswith("the run was interrupted, and its parts cannot be added: ")


def test_what_was_not_known_before_stays_unknown() -> None:
    unknown = Energy(None, None, None, 5.0, EnergyQuality.UNAVAILABLE, "none", "this run", ("why",))
    meter, both = continued(MEASURED, unknown)
    meter.table.append(*range(100, 107))
    assert both.energy().quality is EnergyQuality.UNAVAILABLE
    assert both.power_rows_since(0)[0].shape == (7, 2), (
        "power whose joules do not add up is left out"
    )


def test_a_run_that_was_never_left_is_its_meter_s() -> None:
    meter, both = continued(MEASURED, None)
    assert both.energy() is MEASURED
    assert both.power_rows_since(0)[0].shape == (7, 0)
    assert both.stop()[0] is MEASURED


class Sink:
    """A record that keeps what it is given."""

    run_id = "a"

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def queue_power_rows(self, rows: FloatArray) -> None:
        self.seconds += rows[0].tolist()

    def queue_energy(self, energy: Energy) -> None:
        assert energy.quality is EnergyQuality.MEASURED


@pytest.mark.parametrize("before", [None, MEASURED])
def test_the_record_has_every_row_of_a_run_too_long_for_memory(before: Energy | None) -> None:
    meter, both = continued(MEASURED, before)
    meter.table = AppendOnlyTable(len(POWER_COLUMNS), limit=64)
    sink, first = Sink(), 0 if before is None else 2
    recording = FaultTolerantWriter(cast(RunWriter, sink), first)
    for row in range(1000):
        meter.table.append(*[10.0 + row] * len(POWER_COLUMNS))
        if row % 20 == 19:
            recording.queue_power_and_energy(both)
    assert sink.seconds == [10.0 + row for row in range(1000)]
    assert both.power_rows_since(0)[1] == 1000 + first
    assert len(meter.table) <= 64


def test_a_resumed_run_keeps_no_more_rows_than_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continued_module, "MAX_ROWS", 16)
    meter, both = continued(MEASURED)
    for row in range(100):
        meter.table.append(*[10.0 + row] * len(POWER_COLUMNS))
        assert both.power_rows_since(0)[0].shape[1] <= 16
    assert both.power_rows_since(0)[0][0, -8:].tolist() == [102.0 + row for row in range(8)]


def test_where_nothing_meters_processor_time_is_told_once_the_run_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    busy = iter((100.0, 107.5))
    monkeypatch.setattr(time, "process_time", lambda: next(busy))
    both = RunEnergy(RunMeter(None, RunClock(), "no driver"), RunClock())
    assert both.energy().notes == ("no driver",)
    energy, _ = both.stop()
    assert energy == both.energy()
    said = "in place of energy: this process was busy for 7.5 CPU s"
    assert energy.notes == ("no driver", said)


def test_the_processor_time_of_a_resumed_run_says_that_it_is_of_the_last_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "process_time", iter((100.0, 107.5)).__next__)
    without = Energy(
        None, None, None, 5.0, EnergyQuality.UNAVAILABLE, "no meter", "nothing measured"
    )
    energy, _ = continued(without)[1].stop()
    said = "this process was busy for 7.5 CPU s, counted since the run was resumed"
    assert any(note.endswith(said) for note in energy.notes)
