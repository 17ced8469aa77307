from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, cast

import numpy as np
import pynvml
import pytest

from effcore.energy import run_energy as continued_module
from effcore.energy.arithmetic import dynamic_energy
from effcore.energy.meter import RunMeter
from effcore.energy.run_energy import RESUMED_NOTE, SHORT_IDLE_S, RecordedEnergy, RunEnergy
from effcore.energy.sources.nvml import NvmlSource
from effcore.records import (
    POWER_COLUMNS,
    Energy,
    EnergyQuality,
    Event,
    FloatArray,
    RunStatus,
    Snapshot,
    StepEvent,
)
from effcore.records.append_only_table import AppendOnlyTable
from effcore.records.run_clock import RunClock
from effcore.runs.run import FaultTolerantWriter
from effcore.runs.summary import run_summary
from effcore.store import RunWriter
from effcore.store.serialization import decode_record, encode_record
from effcore.testing.tiny_task import tiny_task
from effcore.training.trainer import train
from tests.energy.fake_nvml import FakeNvml, install
from tests.energy.nvml_runs import COUNTER
from tests.energy.scripted import Turns
from tests.recorder import PATIENCE_S, Started
from tests.tiny_runs import ended, tiny_config

# Resumed runs --------------------------------------------------------------------------


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


# Whole runs ----------------------------------------------------------------------------


CONFIG = {"epochs": 1}  # 12 steps
STEP_S, BUSY_W, IDLE_W = 0.3, 500.0, 70.0
OPENING_S = 1.0  # the instrument takes its time to open


class Machine:
    """A board that is busy while steps are taken and idle else; the time is its own.

    Args:
        befalls: Done once, in the middle of the run.
    """

    def __init__(self, befalls: Callable[[FakeNvml], None]) -> None:
        self.fake = FakeNvml(lambda t: self.watts)
        self.watts, self._befalls = IDLE_W, befalls
        self.trained_s = 0.0

    def open(self, device: str, clock: Callable[[], float], *, phases: bool = False) -> RunMeter:
        source = NvmlSource.open("cuda")
        self.fake.t += OPENING_S
        return RunMeter(source, clock, make_scheduler=self._sampler, phases=phases)

    def _sampler(self, turn: Callable[[], float | None], name: str) -> Turns:
        self._turns = Turns(turn, name, self.fake)
        return self._turns

    def train(self, *arguments: Any) -> Iterator[Event]:
        """Train as ever, each step taking a while."""
        for event in train(*arguments):
            if isinstance(event, StepEvent):
                self._pass(STEP_S, BUSY_W)
                if event.step == 6:
                    self._befalls(self.fake)
            yield event

    def _pass(self, seconds: float, watts: float) -> None:
        self.watts = watts
        self._turns.pass_time(self.fake.t + seconds)
        self.trained_s += seconds
        self.fake.used_mj(self.fake.t)  # what was drawn up to here stays
        self.watts = IDLE_W


def trained(
    monkeypatch: pytest.MonkeyPatch, befalls: Callable[[FakeNvml], None] = lambda fake: None
) -> tuple[Snapshot, Machine]:
    machine = Machine(befalls)
    # The run's own thread lives in the board's time; waiting for it does not.
    monkeypatch.setattr(time, "monotonic", lambda: machine.fake.t)
    monkeypatch.setattr(RunMeter, "open", machine.open)
    monkeypatch.setattr("effcore.runs.run.train", machine.train)
    with install(machine.fake), tiny_task(), Started(tiny_config(**CONFIG)) as (run, _):
        assert run.join(PATIENCE_S)
        look = run.snapshot()
    assert not [t for t in threading.enumerate() if t.name.startswith("power-")]
    assert machine.fake.users == 0
    return look, machine


def test_the_idle_board_is_metered_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    look, machine = trained(monkeypatch)
    assert look.end is not None
    # Neither opening the instrument nor idling is time of the run.
    assert look.end.seconds == pytest.approx(machine.trained_s)
    energy = look.energy
    assert energy.joules == pytest.approx(BUSY_W * machine.trained_s, rel=0.02)
    assert [power[1] for power in energy.idle_w] == [pytest.approx(IDLE_W, rel=0.1)] * 2
    assert machine.fake.t - machine.trained_s < OPENING_S + 2 * SHORT_IDLE_S + 0.5, "no longer"
    net = dynamic_energy(energy)
    assert net.joules == pytest.approx((BUSY_W - IDLE_W) * machine.trained_s, rel=0.03)
    assert (energy.card, energy.driver) == ("NVIDIA Fake", "NVIDIA driver 535.00")
    assert (energy.power_limit_w, energy.hz) == (700.0, 10.0)
    assert decode_record(type(energy), encode_record(energy)) == energy
    assert run_summary(look)["energy"]["idle_w"] == [list(power) for power in energy.idle_w]


@cache
def unmetered() -> str | None:
    """The parameters that the same run ends with where nothing meters it."""
    with tiny_task():
        return ended(tiny_config(**CONFIG)).parameters_sha256


def lose(fake: FakeNvml) -> None:
    fake.codes = {COUNTER: pynvml.NVML_ERROR_GPU_IS_LOST}


def reload(fake: FakeNvml) -> None:
    fake.base_mj = -500_000


def leap(fake: FakeNvml) -> None:
    fake.base_mj += 10_000_000_000


def share(fake: FakeNvml) -> None:
    fake.pids = [77]


@pytest.mark.parametrize(
    ("befalls", "quality", "said"),
    [
        (lose, EnergyQuality.UNAVAILABLE, "the GPU has dropped off the bus"),
        (reload, EnergyQuality.UNAVAILABLE, "a driver reload"),
        (leap, EnergyQuality.UNAVAILABLE, "more power than this device can draw"),
        (share, EnergyQuality.MEASURED, "process 77 computed on this board too"),
    ],
)
def test_whatever_befalls_the_board_training_goes_on(
    befalls: Callable[[FakeNvml], None],
    quality: EnergyQuality,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look, _ = trained(monkeypatch, befalls)
    assert look.status is RunStatus.FINISHED
    assert look.end is not None
    assert look.end.parameters_sha256 == unmetered()
    assert look.energy.quality is quality
    assert look.energy.contended is (befalls is share)
    assert any(said in note for note in look.energy.notes)
    assert (dynamic_energy(look.energy).joules is None) is (quality is EnergyQuality.UNAVAILABLE)


def test_a_slice_of_a_board_leaves_the_run_unmetered_and_says_why() -> None:
    fake = FakeNvml(lambda t: IDLE_W)
    fake.mig = pynvml.NVML_DEVICE_MIG_ENABLE
    with install(fake):
        energy = RunMeter.open("cuda").energy()
    assert energy.quality is EnergyQuality.UNAVAILABLE
    assert "the counter covers the whole board, not this run's slice" in energy.notes[0]
