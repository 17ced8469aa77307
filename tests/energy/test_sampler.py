from __future__ import annotations

import threading
import time

import pytest

from effcore.energy.scheduler import PeriodicTask, SchedulerThread

LONG_S = 60.0


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_a_nudge_brings_a_turn_and_an_end_ends() -> None:
    turns: list[float] = []

    def turn() -> float:
        turns.append(time.monotonic())
        return turns[-1] + LONG_S

    sampler = SchedulerThread(turn, "power-test")
    sampler.start()
    sampler.wait_until(lambda: len(turns) == 1, LONG_S)
    sampler.wake()
    sampler.wait_until(lambda: len(turns) == 2, LONG_S)
    assert len(turns) == 2
    sampler.stop(LONG_S)
    assert "power-test" not in names()


def test_a_turn_comes_when_it_asked_to() -> None:
    due: list[float] = []

    def turn() -> float | None:
        assert not due or time.monotonic() >= due[-1]
        due.append(time.monotonic() + 0.001)
        return due[-1] if len(due) < 5 else None

    sampler = SchedulerThread(turn, "power-test")
    sampler.start()
    sampler.wait_until(lambda: len(due) == 5, LONG_S)
    sampler.stop(LONG_S)
    assert len(due) == 5


def test_waiting_has_an_end() -> None:
    sampler = SchedulerThread(lambda: time.monotonic() + LONG_S, "power-test")
    sampler.start()
    sampler.wait_until(lambda: False, 0.01)
    sampler.stop(LONG_S)


@pytest.mark.parametrize(("now_s", "due_s"), [(10.0, 10.5), (10.3, 10.5), (12.0, 12.0)])
def test_a_lane_keeps_its_rate_and_makes_up_for_nothing(now_s: float, due_s: float) -> None:
    done: list[int] = []
    lane = PeriodicTask(2.0, lambda: done.append(1), 10.0)
    lane.run_if_due(9.9)
    assert done == []
    lane.run_if_due(now_s)
    assert (done, lane.due_s) == ([1], due_s)
