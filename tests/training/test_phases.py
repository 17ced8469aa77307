"""Where time goes, by phase of a step: told apart, never waited for, kept with the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from effcore.records import PHASE_COLUMNS, PHASES, FloatArray, PhaseEvent, RunConfig
from effcore.store.run_files import PHASES_FILE as FILE
from effcore.store.run_files import read_phase_table
from effcore.testing.tiny_task import tiny_task
from effcore.training.phase_clock import (
    BACKWARD,
    DATA,
    EVALUATION,
    FORWARD,
    OPTIMIZER,
    OUTSIDE_PHASES,
    SELECTION,
    DevicePhaseClock,
    HostPhaseClock,
    make_phase_clock,
)
from effcore.training.trainer import train
from tests.tiny_runs import tiny_config


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.t = 0.0

    def __call__(self) -> float:
        return self.t


def test_each_phase_has_the_time_until_the_next() -> None:
    now = Hands()
    phases = HostPhaseClock(lambda: 100.0 + now.t, now)
    for phase, length in (
        (DATA, 1.0),
        (FORWARD, 4.0),
        (BACKWARD, 8.0),
        (DATA, 2.0),
        (OUTSIDE_PHASES, 64.0),
    ):
        phases.enter(phase)
        now.t += length
    assert phases.enter(EVALUATION) == OUTSIDE_PHASES
    now.t += 0.5
    event = phases.read()
    spent = dict(zip(PHASES, event.spent, strict=True))
    assert spent == {
        "data": 3.0, "selection": 0.0, "forward": 4.0, "backward": 8.0, "optimizer": 0.0,
        "evaluation": 0.5,
    }  # fmt: skip
    assert event.seconds == 100.0 + now.t


class Stream:
    """A device that gets through its events when it is told to."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.passed = 0

    def event(self) -> Any:
        stream = self

        class Event:
            def record(self, place: Any) -> None:
                assert place == "the device's", "not whichever is current"
                self.place = len(stream.events)
                stream.events.append(self)

            def query(self) -> bool:
                return self.place < stream.passed

            def elapsed_time(self, later: Any) -> Any:
                assert self.query(), "asked for a time that would have to be waited for"
                assert later.query(), "asked for a time that would have to be waited for"
                return 1000.0 * (later.place - self.place) * (1 + self.place)

        return Event()


def test_a_devices_phases_count_once_it_has_passed_them() -> None:
    stream, now = Stream(), Hands()
    phases = DevicePhaseClock(now, stream.event, lambda: "the device's")
    for phase in (DATA, FORWARD, BACKWARD, OUTSIDE_PHASES):
        phases.enter(phase)
    now.t = 7.0
    assert phases.read() == PhaseEvent(0.0, (0.0,) * len(PHASES))
    stream.passed = 3  # data and forward are over, backward has begun
    event = phases.read()
    assert event.spent[DATA] == 1.0
    assert event.spent[FORWARD] == 2.0
    assert event.spent[BACKWARD] == 0.0
    assert event.seconds == 7.0
    stream.passed = 4
    assert phases.read().spent[BACKWARD] == 3.0
    assert len(phases._waiting) == 1, "what was read is not kept"


def test_the_host_and_a_gpu_have_a_clock_each() -> None:
    assert isinstance(make_phase_clock(torch.device("cpu"), Hands()), HostPhaseClock)
    assert isinstance(make_phase_clock(torch.device("cuda"), Hands()), DevicePhaseClock)


def test_the_host_marks_when_each_phase_began_where_that_is_wanted() -> None:
    now = Hands()
    phases = HostPhaseClock(now, now, record_starts=True)
    for phase in (DATA, FORWARD, OUTSIDE_PHASES):
        now.t += 1.0
        phases.enter(phase)
    now.t += 1.0
    marks = phases.read().marks
    assert marks is not None
    np.testing.assert_array_equal(
        marks, [[DATA, FORWARD, OUTSIDE_PHASES, OUTSIDE_PHASES], [1.0, 2.0, 3.0, 4.0]]
    )
    again = phases.read().marks
    assert again is not None
    np.testing.assert_array_equal(again, [[OUTSIDE_PHASES], [4.0]])
    assert HostPhaseClock(now, now).read().marks is None


class Device:
    """A device that takes its time over what it is given, its own clock running too fast.

    Args:
        now: The host's time.
        fast: Device seconds for each of the host's.
    """

    def __init__(self, now: Hands, fast: float) -> None:
        self.now, self.fast = now, fast
        self.free = 0.0  # when all that was put in is done, by the host's time

    def work(self, seconds: float) -> None:
        self.free = max(self.free, self.now.t + 1e-5) + seconds

    def event(self) -> Any:
        device = self

        class Event:
            def record(self, place: Any) -> None:
                device.free = max(device.free, device.now.t + 1e-5)
                self.t = device.free

            def query(self) -> bool:
                return self.t <= device.now.t

            def elapsed_time(self, later: Any) -> float:
                # To the half microsecond, as CUDA tells it.
                return float(round(1e3 * device.fast * (later.t - self.t) * 2000) / 2000)

        return Event()


@pytest.mark.parametrize("drift", [0.0, 1e-4, -1e-4])
def test_a_devices_marks_stay_in_the_hosts_time(drift: float) -> None:
    now = Hands()
    device = Device(now, 1.0 + drift)
    device.work(0.3)  # of the set-up, not over when the clock is made
    phases = DevicePhaseClock(now, device.event, lambda: None, now, record_starts=True)
    true: list[tuple[int, float]] = []
    errors: list[FloatArray] = []
    for step in range(2000):
        for phase, seconds in ((DATA, 0.001), (FORWARD, 0.004), (BACKWARD, 0.007)):
            phases.enter(phase)
            true.append((phase, device.free))
            device.work(seconds)
            now.t += 2e-4  # the host runs ahead
        phases.enter(OUTSIDE_PHASES)
        true.append((OUTSIDE_PHASES, device.free))
        if step % 8 == 7:
            now.t = max(now.t, device.free) + 3e-5  # losses are copied
            marks = phases.read().marks
            assert marks is not None
            told, true = np.array(true[: marks.shape[1]]).T, true[marks.shape[1] :]
            np.testing.assert_array_equal(marks[0], told[0])
            errors.append(marks[1] - told[1])
    late_s = np.abs(np.concatenate(errors))
    assert late_s.max() < 1e-4, "24 s at a drift of 100 ppm come to 2.4 ms"


def last(config: RunConfig) -> PhaseEvent:
    return [event for event in train(config) if isinstance(event, PhaseEvent)][-1]


@pytest.mark.parametrize("selection", ["dense", "confident-skip", "selective-backprop"])
def test_a_run_tells_where_its_time_went(selection: str) -> None:
    event = last(tiny_config(selection=selection, epochs=6))
    spent = np.array(event.spent)
    assert (spent[[DATA, SELECTION, FORWARD, BACKWARD, OPTIMIZER, EVALUATION]] > 0).all()
    assert spent.sum() <= event.seconds


def test_nothing_runs_on_while_somebody_holds_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    # A hold between two events of a training counts for no phase.
    now = Hands()
    monkeypatch.setattr(
        "effcore.training.training_loop.make_phase_clock",
        lambda device, clock, marked: HostPhaseClock(clock, now),
    )
    for event in train(tiny_config(selection="confident-skip", epochs=2)):
        now.t += 1000.0
        if isinstance(event, PhaseEvent):
            assert sum(event.spent) == 0.0


def test_a_run_from_before_there_were_phases_has_none(tmp_path: Any) -> None:
    assert read_phase_table(tmp_path).shape == (len(PHASE_COLUMNS), 0)
    row = np.arange(float(len(PHASE_COLUMNS)))
    (tmp_path / FILE).write_bytes(row.astype("<f8").tobytes())
    np.testing.assert_array_equal(read_phase_table(tmp_path)[:, 0], row)
