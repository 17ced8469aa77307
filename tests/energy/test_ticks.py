from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest

from effcore.energy.window import (
    MAX_EDGE_WAIT_S,
    MAX_MISSED_UPDATES,
    PERIOD_LEARNING_S,
    POLL_INTERVAL_S,
    CounterUpdate,
    CounterUpdateTimer,
    WindowEdge,
)


class Counter:
    """Counts ``watts`` from 0 on and shows it in steps.

    Args:
        period_s: Time between two steps.
        watts: Power, W.
        jitter_s: How much later than due a step may come.
    """

    def __init__(self, period_s: float, watts: float = 100.0, jitter_s: float = 0.0) -> None:
        self.period_s, self.watts, self.jitter_s = period_s, watts, jitter_s
        self.phase_s = 0.0371
        self._draws: dict[int, float] = {}
        self._random = random.Random(3)

    def shown_j(self, t: float) -> float:
        step = math.floor((t - self.phase_s) / self.period_s)
        late_s = self._draws.setdefault(step, self._random.uniform(0, self.jitter_s))
        if t - self.phase_s - step * self.period_s < late_s:
            step -= 1
        return self.watts * step * self.period_s


def follow(
    ticks: CounterUpdateTimer, shown_j: Callable[[float], float], t: float, until_s: float
) -> int:
    """Look whenever it is due, up to 1 ms late; return how often that was."""
    draw, looks = random.Random(0), 0
    while t <= until_s:
        ticks.add_poll(t, shown_j(t))
        looks += 1
        t = ticks.next_poll_s() + draw.uniform(0, 0.001)
    return looks


@pytest.mark.parametrize("period_s", [0.02, 0.05, 0.1])
def test_the_period_is_learnt_at_once(period_s: float) -> None:
    ticks = CounterUpdateTimer(time_all_updates=True)
    follow(ticks, Counter(period_s).shown_j, 0.0, PERIOD_LEARNING_S)
    assert ticks.period_s == pytest.approx(period_s, abs=0.003)


@pytest.mark.parametrize("period_s", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("jitter_s", [0.0, 0.004])
def test_steps_are_timed_with_a_few_looks_each(period_s: float, jitter_s: float) -> None:
    ticks, counter = CounterUpdateTimer(time_all_updates=True), Counter(period_s, jitter_s=jitter_s)
    looks = follow(ticks, counter.shown_j, 0.0, 60.0)
    times, joules = ticks.table.view()
    assert 540 <= len(times) <= 620  # ten a second, and more at first
    assert looks < 40 * 60
    true_s = counter.phase_s + joules / counter.watts
    assert np.abs(times - true_s).max() <= POLL_INTERVAL_S + jitter_s


def test_a_counter_that_moves_at_every_look_is_followed_too() -> None:
    ticks = CounterUpdateTimer(time_all_updates=True)
    looks = follow(ticks, lambda t: 100 * t, 0.0, 30.0)
    assert looks < 40 * 30
    assert len(ticks.table) > 250


def test_a_counter_that_stands_still_is_not_looked_at() -> None:
    ticks = CounterUpdateTimer(time_all_updates=True)
    assert follow(ticks, lambda t: 5.0, 0.0, 60.0) <= PERIOD_LEARNING_S / POLL_INTERVAL_S + 1
    assert ticks.next_poll_s() == math.inf


def test_steps_that_never_come_are_looked_for_less_often() -> None:
    ticks, counter = CounterUpdateTimer(time_all_updates=True), Counter(0.1)
    follow(ticks, counter.shown_j, 0.0, 5.0)
    stuck_j = counter.shown_j(5.0)
    first = follow(ticks, lambda t: stuck_j, 5.0, 6.0 + 0.1 * MAX_MISSED_UPDATES)
    later = follow(ticks, lambda t: stuck_j, 20.0, 30.0)
    assert later / 10 < first / 2
    follow(ticks, counter.shown_j, 30.0, 35.0)
    assert ticks.table.view()[0, -1] > 34.8  # and found again


def test_a_late_look_tells_no_time() -> None:
    ticks = CounterUpdateTimer(time_all_updates=True)
    for t, joules in ((0.0, 0.0), (0.005, 0.0), (0.05, 5.0)):
        ticks.add_poll(t, joules)
    assert (ticks.update_count, len(ticks.table)) == (1, 0)


@pytest.mark.parametrize("at_s", [0.0, 0.05, 0.0999, 2.345])
def test_what_the_counter_had_not_shown_is_found(at_s: float) -> None:
    ticks, counter = CounterUpdateTimer(time_all_updates=True), Counter(0.1)
    if at_s > PERIOD_LEARNING_S:
        follow(ticks, counter.shown_j, 0.0, at_s)
    ticks.add_poll(at_s, counter.shown_j(at_s))
    edge = ticks.add_edge()
    follow(ticks, counter.shown_j, at_s + POLL_INTERVAL_S, at_s + PERIOD_LEARNING_S)
    assert ticks.edges_settled
    assert edge.is_well_timed
    assert edge.unshown_j is not None
    true_j = counter.watts * (at_s - counter.phase_s)
    assert edge.shown_j + edge.unshown_j == pytest.approx(
        true_j, abs=counter.watts * POLL_INTERVAL_S
    )


def test_without_following_only_edges_are_looked_at() -> None:
    ticks, counter = CounterUpdateTimer(), Counter(0.1)
    assert follow(ticks, counter.shown_j, 0.0, 60.0) <= PERIOD_LEARNING_S / POLL_INTERVAL_S + 1
    for at_s in (70.02, 90.0999, 110.0372):
        ticks.add_poll(at_s, counter.shown_j(at_s))
        edge = ticks.add_edge()
        assert (
            follow(ticks, counter.shown_j, at_s + POLL_INTERVAL_S, at_s + 10.0)
            <= 0.1 / POLL_INTERVAL_S + 1
        )
        true_j = counter.watts * (at_s - counter.phase_s)
        assert edge.shown_j + (edge.unshown_j or 0) == pytest.approx(true_j, abs=0.6)


def test_an_edge_without_a_step_stands_as_it_was_shown() -> None:
    ticks = CounterUpdateTimer(time_all_updates=True)
    ticks.add_poll(0.0, 5.0)
    edge = ticks.add_edge()
    follow(ticks, lambda t: 5.0, POLL_INTERVAL_S, MAX_EDGE_WAIT_S + 3 * POLL_INTERVAL_S)
    assert (edge.unshown_j, edge.is_well_timed, ticks.edges_settled) == (0.0, False, True)


def test_an_edge_whose_period_is_never_learnt_stands_too() -> None:
    ticks = CounterUpdateTimer(time_all_updates=True)
    ticks.add_poll(0.0, 5.0)
    edge = ticks.add_edge()
    follow(
        ticks,
        lambda t: 5.0 if t < 0.1 else 9.0,
        POLL_INTERVAL_S,
        PERIOD_LEARNING_S + 3 * POLL_INTERVAL_S,
    )
    assert (edge.unshown_j, ticks.edges_settled) == (0.0, True)


def test_giving_up_lets_edges_stand() -> None:
    ticks = CounterUpdateTimer(time_all_updates=True)
    ticks.add_poll(0.0, 5.0)
    edge = ticks.add_edge()
    ticks.abandon_edges()
    assert (edge.unshown_j, ticks.edges_settled) == (0.0, True)


def test_a_counter_that_began_anew_settles_nothing() -> None:
    ticks, counter = CounterUpdateTimer(time_all_updates=True), Counter(0.1)
    follow(ticks, counter.shown_j, 0.0, 1.0)
    ticks.add_poll(1.0, counter.shown_j(1.0))
    edge = ticks.add_edge()
    ticks.add_poll(1.005, -1e6)
    assert (edge.unshown_j, ticks.edges_settled) == (0.0, True)
    follow(ticks, lambda t: counter.shown_j(t) - 1e6, 1.01, 3.0)
    assert ticks.table.view()[0, -1] > 2.8


def test_interpolation_never_leaves_the_step() -> None:
    early = WindowEdge(0.0, 10.0, 0.05, CounterUpdate(0.1, 10.0, 20.0, True))
    late = WindowEdge(0.2, 10.0, 0.05, CounterUpdate(0.1, 10.0, 20.0, True))
    early.interpolate(0.1)
    late.interpolate(0.1)
    assert (early.unshown_j, late.unshown_j) == (0.0, 10.0)
