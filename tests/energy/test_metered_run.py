"""A whole run over the fake library: what befalls the board costs joules and never training."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pynvml
import pytest

from effcore.energy.arithmetic import dynamic_energy
from effcore.energy.meter import RunMeter
from effcore.energy.run_energy import SHORT_IDLE_S
from effcore.energy.sources.nvml import NvmlSource
from effcore.records import EnergyQuality, Event, RunStatus, Snapshot, StepEvent
from effcore.runs.summary import run_summary
from effcore.store.serialization import decode_record, encode_record
from effcore.testing.tiny_task import tiny_task
from effcore.training.trainer import train
from tests.energy.fake_nvml import FakeNvml, install
from tests.energy.nvml_runs import COUNTER
from tests.energy.scripted import Turns
from tests.recorder import PATIENCE_S, Started
from tests.tiny_runs import ended, tiny_config

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
