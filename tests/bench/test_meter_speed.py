from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from effcore.bench.step_overhead import meter_speed_ratio
from effcore.energy.sources.base import SOURCES
from effcore.testing.tiny_task import tiny_task
from tests.energy.scripted import Steady


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def test_speed_is_measured_with_the_meter_of_this_machine() -> None:
    messages: list[str] = []
    interval, ratios, name = meter_speed_ratio("tiny", 3, 0.02, messages.append)
    assert len(ratios) == len(messages) == interval.n == 3
    assert interval.lo <= interval.median <= interval.hi
    assert all(ratio > 0 for ratio in ratios)
    assert name


def test_a_given_source_reads_only_in_its_own_blocks() -> None:
    opened: list[Steady] = []

    def open_source() -> Steady:
        assert not [t for t in threading.enumerate() if t.name.startswith("power-")]
        opened.append(Steady(enough=1))
        return opened[-1]

    _, _, name = meter_speed_ratio("tiny", 3, 0.02, lambda _: None, open_source=open_source)
    assert name == "script"
    assert [(source.reads > 1, source.closed) for source in opened] == [(True, 1)] * 3


def test_a_device_without_a_meter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in SOURCES:
        monkeypatch.setattr(kind, "open", lambda device: 1 / 0)
    with pytest.raises(RuntimeError, match="nothing meters 'cpu'"):
        meter_speed_ratio("tiny", 3, 0.01, lambda _: None)
