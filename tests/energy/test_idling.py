"""Idle boards, read between runs in the real time of a thread, over boards that answer at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from effcore.energy import spending
from effcore.energy.base import Reading
from effcore.energy.idling import Idling
from effcore.energy.meter import RunMeter
from effcore.events import Energy, Quality
from effcore.runs.manager import Runs
from effcore.store import Store
from effcore.tiny import tiny_task
from tests.energy.scripted import Scripted, measured
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
    with tiny_task():
        yield
    assert not [t for t in threading.enumerate() if t.name.startswith(("power-", "idle-"))]


def read(idling: Idling, device: str = "cpu") -> Energy:
    """Let a reading come to its end."""
    told: queue.SimpleQueue[Energy] = queue.SimpleQueue()
    idling.begin(device, told.put)
    return told.get(timeout=PATIENCE_S)


def test_a_reading_that_nothing_cuts_short_is_kept_for_the_next_run() -> None:
    idling = Idling(whole_s=0.0)
    found = read(idling)
    assert found.quality is Quality.MEASURED
    assert idling.end("cpu") == found
    assert idling.end("cuda") is None
    idling.close()


def test_whoever_begins_cuts_a_reading_short_and_waits_for_nothing() -> None:
    told: list[Energy] = []
    idling = Idling(whole_s=PATIENCE_S)
    idling.begin("cpu", told.append)
    assert idling.end("cpu") is None
    idling.close()
    assert (told, idling.end("cpu")) == ([], None)


@pytest.mark.parametrize("what", [{"contended": True}, {"quality": Quality.SUSPECT}])
def test_a_reading_of_more_than_the_board_is_none(
    what: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = RunMeter.energy
    monkeypatch.setattr(RunMeter, "energy", lambda meter: replace(plain(meter), **what))
    told: list[Energy] = []
    idling = Idling(whole_s=0.0)
    idling.begin("cpu", told.append)
    idling._threads[0].join(PATIENCE_S)
    assert (told, idling.end("cpu")) == ([], None)


def test_the_reading_after_a_run_is_stored_with_it_and_is_the_next_ones_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spending, "IDLE_S", 0.0)  # readings of these boards are long all the same
    runs = Runs(Store(tmp_path))
    monkeypatch.setattr(runs, "_idling", Idling(whole_s=0.0))
    noted = threading.Event()
    plain = runs._read_idle

    def note(*arguments: Any) -> None:
        plain(*arguments)
        noted.set()

    monkeypatch.setattr(runs, "_read_idle", note)
    first, second = "", ""
    for _ in range(2):
        noted.clear()
        run = runs.start(tiny_config(epochs=1))[-1]
        assert run.join(PATIENCE_S)
        assert noted.wait(PATIENCE_S)
        first, second = second, run.run_id
    runs.stop_all(PATIENCE_S)
    before, after = (runs.store.load(run_id).energy for run_id in (first, second))
    assert len(before.idle_w) == len(after.idle_w) == 2
    assert before.idle_w[1] == after.idle_w[0], "the same reading"
    assert len({*before.idle_w, *after.idle_w}) == 3
    runs.store.close()
