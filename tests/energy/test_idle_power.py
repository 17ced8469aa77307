"""Idle boards, read between runs in the real time of a thread, over boards that answer at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from effcore.energy import idle_power as idling_module
from effcore.energy import run_energy
from effcore.energy.idle_power import IdlePowerReader
from effcore.energy.meter import RunMeter
from effcore.energy.sources.base import Reading
from effcore.records import Energy, EnergyQuality
from effcore.runs import run as run_module
from effcore.runs.manager import RunManager
from effcore.store import Store
from effcore.testing.tiny_task import tiny_task
from effcore.training.checkpoint import CheckpointError
from tests.energy.scripted import Scripted, measured
from tests.left import leave
from tests.tiny_runs import tiny_config

PATIENCE_S = 30.0


class Instant(Scripted):
    """Answers for a board, a second further on each time; no two draw the same."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        Instant.made += 1
        self.answered, self.watts = 0, 70.0 + Instant.made

    def read(self) -> Reading:
        self.answered += 1
        return measured(self.answered, self.watts * self.answered, power_w=self.watts)


@pytest.fixture(autouse=True)
def _boards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def opened(
        device: str, clock: Callable[[], float] = float, *, phases: bool = False
    ) -> RunMeter:
        return RunMeter(Instant(), clock)

    monkeypatch.setattr(RunMeter, "open", opened)
    monkeypatch.setattr(idling_module, "process_tree_cpu_s", float)
    with tiny_task():
        yield
    assert not [t for t in threading.enumerate() if t.name.startswith(("power-", "idle-"))]


def read(idling: IdlePowerReader, device: str = "cpu") -> Energy:
    """Let a reading come to its end."""
    told: queue.SimpleQueue[Energy] = queue.SimpleQueue()
    idling.start_reading(device, told.put)
    return told.get(timeout=PATIENCE_S)


def test_a_reading_that_nothing_cuts_short_is_kept_for_the_next_run() -> None:
    idling = IdlePowerReader(reading_s=0.0)
    found = read(idling)
    assert found.quality is EnergyQuality.MEASURED
    assert idling.cancel_reading("cuda:0") is None
    assert idling.cancel_reading("cpu") == found
    assert idling.cancel_reading("cpu") is None, "the run after the next follows on another run"
    idling.close()


def test_a_reading_of_long_ago_says_nothing_of_a_board_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    idling = IdlePowerReader(reading_s=0.0)
    monkeypatch.setattr(idling_module, "MAX_READING_AGE_S", -1.0)
    read(idling)
    assert idling.cancel_reading("cpu") is None
    idling.close()


@pytest.mark.parametrize(("device", "read_on"), [("cpu", False), ("cuda:0", True)])
def test_a_processor_that_this_process_kept_busy_was_not_idle(
    device: str, read_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idling_module, "process_tree_cpu_s", iter([0.0, 1e6]).__next__)
    told: list[Energy] = []
    idling = IdlePowerReader(reading_s=0.0)
    idling.start_reading(device, told.append)
    idling._threads[0].join(PATIENCE_S)
    assert len(told) == read_on
    idling.close()


@pytest.mark.parametrize(("read_on", "cut"), [("cpu", True), ("cuda:1", False)])
def test_what_begins_elsewhere_ends_a_reading_of_the_processor_alone(
    read_on: str, cut: bool
) -> None:
    idling = IdlePowerReader(reading_s=PATIENCE_S)
    idling.start_reading(read_on, lambda found: None)
    under_way = idling._cancel_events[read_on]
    idling.cancel_reading("cuda:0")
    assert under_way.is_set() is cut
    idling.close()


def test_whoever_begins_cuts_a_reading_short_and_waits_for_nothing() -> None:
    told: list[Energy] = []
    idling = IdlePowerReader(reading_s=PATIENCE_S)
    idling.start_reading("cpu", told.append)
    assert idling.cancel_reading("cpu") is None
    idling.close()
    assert (told, idling.cancel_reading("cpu")) == ([], None)


@pytest.mark.parametrize("what", [{"contended": True}, {"quality": EnergyQuality.SUSPECT}])
def test_a_reading_of_more_than_the_board_is_none(
    what: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = RunMeter.energy
    monkeypatch.setattr(RunMeter, "energy", lambda meter: replace(plain(meter), **what))
    told: list[Energy] = []
    idling = IdlePowerReader(reading_s=0.0)
    idling.start_reading("cpu", told.append)
    idling._threads[0].join(PATIENCE_S)
    assert (told, idling.cancel_reading("cpu")) == ([], None)


def test_the_reading_after_a_run_is_stored_with_it_and_is_the_next_ones_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        run_energy, "SHORT_IDLE_S", 0.0
    )  # readings of these boards are long all the same
    runs = RunManager(Store(tmp_path))
    monkeypatch.setattr(runs, "_idle_power", IdlePowerReader(reading_s=0.0))
    noted = threading.Event()
    plain = runs._store_idle_power

    def note(*arguments: Any) -> None:
        plain(*arguments)
        noted.set()

    monkeypatch.setattr(runs, "_store_idle_power", note)
    first, second = "", ""
    for _ in range(2):
        noted.clear()
        run = runs.start(tiny_config(epochs=1))[-1]
        assert run.join(PATIENCE_S)
        assert noted.wait(PATIENCE_S)
        first, second = second, run.run_id
    runs.stop_all(PATIENCE_S)
    before, after = (runs.store.load_snapshot(run_id).energy for run_id in (first, second))
    assert len(before.idle_w) == len(after.idle_w) == 2
    assert before.idle_w[1] == after.idle_w[0], "the same reading"
    assert len({*before.idle_w, *after.idle_w}) == 3
    runs.store.close()


def test_a_run_that_cannot_be_resumed_keeps_the_joules_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = RunManager(Store(tmp_path))
    monkeypatch.setattr(runs, "_idle_power", IdlePowerReader(reading_s=0.0))
    run_id = leave(runs.store, tiny_config(), 12, 1)
    before = runs.store.load_snapshot(run_id)

    def refuse(*_: object) -> None:
        raise CheckpointError("it does not fit")

    monkeypatch.setattr(run_module, "train", refuse)
    assert runs.resume(run_id).join(PATIENCE_S)
    for reading in runs._idle_power._threads:
        reading.join(PATIENCE_S)
    look = runs.store.load_snapshot(run_id)
    assert (look.status, look.energy) == (before.status, before.energy)
    runs.stop_all(PATIENCE_S)
    runs.store.close()


def test_a_processor_rests_only_while_nothing_trains_anywhere(tmp_path: Path) -> None:
    runs = RunManager(Store(tmp_path))
    runs.reserve_device("cuda:0", "a study")
    assert [runs._is_device_idle(device) for device in ("cpu", "cuda:0", "cuda:1")] == [
        False,
        False,
        True,
    ]
    runs.release_device("cuda:0")
    assert runs._is_device_idle("cpu")
    runs.stop_all(PATIENCE_S)
    assert not runs._is_device_idle("cpu")
    runs.store.close()
