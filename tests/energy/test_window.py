from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from effcore.energy.sources.base import EnergySource, Reading, SharedUse
from effcore.energy.window import (
    COUNTER_STOPPED_REASON,
    EDGE_ERRORS_S,
    MAX_EDGE_WAIT_S,
    MAX_MISSED_UPDATES,
    NOT_A_NUMBER_REASON,
    PERIOD_LEARNING_S,
    POLL_INTERVAL_S,
    UNTIMED_EDGE_ERROR_STEPS,
    CounterUpdate,
    CounterUpdateTimer,
    CrossCheck,
    CrossCheckInterval,
    WindowEdge,
    WindowTotals,
    energy_of_window,
    power_row,
    unavailable_energy,
)
from effcore.records import EnergyQuality
from tests.energy.scripted import Estimating, Scripted, Stepping, measured

# Totals of a window --------------------------------------------------------------------


def long(seconds: float, parts: int = 1) -> WindowTotals:
    """A window of 100 W in equal parts."""
    window = WindowTotals()
    for part in range(parts):
        t = 100.0 * part
        before, now = measured(t, 0), measured(t + seconds / parts, 100 * seconds / parts)
        window = window.with_reading(None, before).with_reading(before, now)
    return window


def settled_edge(extra_j: float, sharp: bool = True) -> WindowEdge:
    return WindowEdge(0.0, 0.0, None, CounterUpdate(0.1, 0.0, 10.0, sharp), extra_j)


def test_a_window_grows_by_differences() -> None:
    window = (
        WindowTotals()
        .with_reading(None, measured(10, 1e9))
        .with_reading(measured(10, 1e9), measured(16, 1e9 + 6))
    )
    assert (window.seconds, window.energy_j, window.lo_j, window.hi_j) == (6.0, 6.0, 6.0, 6.0)
    assert (window.readings, window.parts, window.max_gap_s) == (2, 1, 6.0)


def test_the_longest_gap_is_kept() -> None:
    readings = [measured(t, 0) for t in (0, 1, 4, 4.5)]
    window = WindowTotals().with_reading(None, readings[0])
    for before, now in zip(readings, readings[1:], strict=False):
        window = window.with_reading(before, now)
    assert window.max_gap_s == 3.0


def test_edges_add_what_the_counter_had_not_shown() -> None:
    pending = WindowEdge(0.0, 0.0, None)
    window = (
        long(10.0)
        .with_untimed_edge(-1, settled_edge(8.0))
        .with_untimed_edge(1, settled_edge(3.0, False))
    )
    window = window.with_untimed_edge(1, pending).with_settled_edges()
    assert (window.energy_j, window.lo_j, window.hi_j) == (995.0, 995.0, 995.0)
    assert window.untimed_edges == 1
    assert window.edges == ((1, pending),)
    pending.unshown_j = 2.0
    assert window.with_settled_edges().energy_j == 997.0
    assert (window.with_settled_edges().untimed_edges, window.with_settled_edges().edges) == (2, ())


def test_pauses_make_edges_weigh_more() -> None:
    assert long(8.0).effective_length_s == 8.0
    assert long(8.0, parts=4).seconds == pytest.approx(8.0)
    assert long(8.0, parts=4).effective_length_s == pytest.approx(4.0)
    assert WindowTotals().effective_length_s == 0.0


def test_the_check_leaves_out_what_looks_back_before_the_window() -> None:
    window = WindowTotals().with_reading(None, measured(20, 0))
    for since_s in (20.0, 20.9):
        window = window.with_reading(
            measured(20, 0), measured(20, 0), CrossCheckInterval(since_s, 0.1, 1.0, 2.0)
        )
    assert window.checked_s == 0.0
    window = window.with_reading(
        measured(20, 0), measured(20, 0), CrossCheckInterval(21.0, 0.1, 1.0, 2.0)
    )
    assert (window.checked_s, window.checked_counter_j, window.checked_average_j) == (0.1, 1.0, 2.0)


@pytest.mark.parametrize(
    ("seconds", "checked_s", "ratio"), [(9.9, 9.0, None), (10.0, 9.0, 1.25), (10.0, 4.9, None)]
)
def test_short_or_mostly_unchecked_windows_have_no_ratio(
    seconds: float, checked_s: float, ratio: float | None
) -> None:
    pair = CrossCheckInterval(5.0, checked_s, 500.0, 400.0)
    before = measured(0, 0)
    window = (
        WindowTotals().with_reading(None, before).with_reading(before, measured(seconds, 1.0), pair)
    )
    assert window.crosscheck == ratio


def test_only_the_part_of_throttling_inside_counts() -> None:
    window = WindowTotals().with_reading(None, measured(10, 0))
    assert window.with_throttling(9.5, 10.5).throttled_s == 0.5
    assert window.with_throttling(11.0, 12.0).with_throttling(12.0, 13.0).throttled_s == 2.0
    assert window.with_throttling(8.0, 9.0).throttled_s == 0.0


def test_the_lowest_limit_stays() -> None:
    window = WindowTotals().with_power_limit(math.nan)
    assert math.isnan(window.power_limit_w)
    window = (
        window.with_power_limit(700.0)
        .with_power_limit(300.0)
        .with_power_limit(math.nan)
        .with_power_limit(500.0)
    )
    assert window.power_limit_w == 300.0
    assert WindowTotals().with_power_limit(200.0).merged_with(window).power_limit_w == 200.0


def test_the_worst_that_is_known_of_others_stays() -> None:
    hidden, foreign = SharedUse(False, "hidden"), SharedUse(True, "process 7")
    window = WindowTotals().with_shared_use(SharedUse(False, "")).with_shared_use(hidden)
    assert window.with_shared_use(SharedUse(False, "")).shared_use == hidden
    assert window.with_shared_use(foreign).with_shared_use(hidden).shared_use == foreign


def test_joined_windows_are_one_with_a_pause() -> None:
    one, two = long(6.0), long(2.0).with_shared_use(SharedUse(True, "process 7")).with_failure()
    both = one.merged_with(two)
    assert (both.seconds, both.energy_j, both.parts, both.failures) == (8.0, 800.0, 2, 1)
    assert both.max_gap_s == 6.0
    assert both.shared_use.contended
    assert math.isclose(both.effective_length_s, 8 / math.sqrt(2))
    void = replace(two, void_reason="the counter fell")
    assert (
        void.merged_with(one).void_reason == one.merged_with(void).void_reason == "the counter fell"
    )


# Energy of a window --------------------------------------------------------------------


def window_of(seconds: float, joules: float = 100.0, parts: int = 1) -> WindowTotals:
    before = measured(0, 0)
    window = (
        WindowTotals().with_reading(None, before).with_reading(before, measured(seconds, joules))
    )
    return replace(window, parts=parts)


def spread() -> tuple[WindowTotals, Reading]:
    before, now = Reading.interval(0, (1, 2), (0, 0)), Reading.interval(10, (1, 2), (10, 20))
    return WindowTotals().with_reading(None, before).with_reading(before, now), now


def test_the_error_widens_a_measurement_and_not_an_estimate() -> None:
    window, now = spread()
    assert power_row(window, now, Scripted())[1:3] == pytest.approx((0.95, 2.1))
    estimate = energy_of_window(window, Estimating())
    assert (estimate.joules, estimate.lo, estimate.hi) == (None, 10.0, 20.0)
    assert estimate.quality is EnergyQuality.ESTIMATED


def test_an_interval_from_a_measuring_source_has_no_point() -> None:
    window, now = spread()
    energy = energy_of_window(window, Scripted())
    assert energy.joules is None
    assert (energy.lo, energy.hi) == pytest.approx((9.5, 21.0))
    assert math.isnan(power_row(window, now, Scripted())[3])


@pytest.mark.parametrize("source", [Scripted(), Stepping()])
@pytest.mark.parametrize(
    ("seconds", "told", "noted"),
    [(0.4, False, "shorter than 0.5 s"), (0.5, True, "short window"), (4.9, True, "short window"),
     (5.0, True, "")],
)  # fmt: skip
def test_short_windows_say_so(source: EnergySource, seconds: float, told: bool, noted: str) -> None:
    energy = energy_of_window(window_of(seconds), source)
    assert [value is not None for value in (energy.joules, energy.lo, energy.hi)] == [told] * 3
    said = [note for note in energy.notes if note not in source.notes]
    assert [noted in note for note in said] == ([True] if noted else [])


@pytest.mark.parametrize(
    ("parts", "told", "noted"),
    [(1, True, None),
     (4, True, "8.00 s in 4 parts is shorter than 5 s: its edges may change the result by about"),
     (300, False, "8.00 s in 300 parts is shorter than 0.5 s")],
)  # fmt: skip
def test_pauses_weigh_on_a_counter_that_moves_in_steps(
    parts: int, told: bool, noted: str | None
) -> None:
    energy = energy_of_window(window_of(8.0, parts=parts), Stepping())
    assert (energy.joules is not None) is told
    assert any(noted in note for note in energy.notes) if noted else energy.notes == ("as told",)
    assert energy_of_window(window_of(8.0, parts=parts), Scripted()).joules is not None


@pytest.mark.parametrize(
    ("ratio", "quality"),
    [
        (1.0, EnergyQuality.MEASURED),
        (0.971, EnergyQuality.MEASURED),
        (1.029, EnergyQuality.MEASURED),
        (0.969, EnergyQuality.SUSPECT),
        (1.031, EnergyQuality.SUSPECT),
        (0.57, EnergyQuality.SUSPECT),
    ],
)
def test_a_counter_that_disagrees_with_power_is_suspect(
    ratio: float, quality: EnergyQuality
) -> None:
    window = replace(
        window_of(12.0), checked_s=11.0, checked_counter_j=1000 * ratio, checked_average_j=1000.0
    )
    energy = energy_of_window(window, Stepping())
    assert energy.quality is quality
    assert energy.crosscheck == ratio
    shown = [n for n in energy.notes if f"{1000 * ratio:,.1f} J, average power 1,000.0 J" in n]
    assert len(shown) == (quality is EnergyQuality.SUSPECT)
    assert energy.joules == 100.0


def test_a_long_window_without_average_power_says_that_it_was_not_checked() -> None:
    assert any(
        "not cross-checked" in note for note in energy_of_window(window_of(10.0), Stepping()).notes
    )
    assert energy_of_window(window_of(9.0), Stepping()).notes == ("as told",)
    assert energy_of_window(window_of(10.0), Scripted()).notes == ("as told",)


def test_everything_else_that_a_reader_must_know_is_noted() -> None:
    window = replace(
        window_of(6.0), failures=2, throttled_s=3.2, untimed_edges=1, counter_updates=60,
        max_gap_s=0.4,
        shared_use=SharedUse(True, "process 77 computed on this board too"),
    )  # fmt: skip
    source = Stepping()
    source.device_uuid = "GPU-1"
    energy = energy_of_window(window, source)
    assert (energy.contended, energy.throttled_s, energy.ticks) == (True, 3.2, 60)
    assert (energy.max_gap_s, energy.device_uuid) == (0.4, "GPU-1")
    for words in ("2 of 4 readings failed", "process 77", "throttled for 3 s", "1 of its 2 edges"):
        assert any(words in note for note in energy.notes), words


def test_a_void_window_has_no_joules() -> None:
    window, source = replace(window_of(6.0), void_reason="the counter fell"), Stepping()
    energy = energy_of_window(window, source)
    assert (energy.joules, energy.lo, energy.hi) == (None, None, None)
    assert energy.quality is EnergyQuality.UNAVAILABLE
    assert energy.notes[0] == "the counter fell"
    row = power_row(window, measured(6, 1, power_w=50), source)
    assert row[:3] == pytest.approx((50.0, 47.5, 52.5))
    assert all(math.isnan(value) for value in row[3:])


def test_only_an_estimate_may_gain_nothing() -> None:
    still = energy_of_window(window_of(6.0, joules=0.0), Scripted())
    assert (still.quality, still.joules, still.hi) == (EnergyQuality.UNAVAILABLE, None, None)
    assert still.notes[0] == COUNTER_STOPPED_REASON
    assert (
        energy_of_window(window_of(6.0, joules=0.0), Estimating()).quality
        is EnergyQuality.ESTIMATED
    )


@pytest.mark.parametrize("joules", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("source", [Scripted(), Stepping(), Estimating()])
def test_what_is_no_number_is_no_energy(source: EnergySource, joules: float) -> None:
    energy = energy_of_window(window_of(6.0, joules=joules), source)
    assert (energy.quality, energy.joules, energy.lo) == (EnergyQuality.UNAVAILABLE, None, None)
    assert energy.notes[0] == NOT_A_NUMBER_REASON


@pytest.mark.parametrize(("parts", "weight_s"), [(1, 6.0), (4, 3.0)])
def test_edges_widen_the_interval_of_a_counter_that_moves_in_steps(
    parts: int, weight_s: float
) -> None:
    window = window_of(6.0, joules=100.0, parts=parts)
    edge_frac = EDGE_ERRORS_S[1] / weight_s
    stepping, flowing = energy_of_window(window, Stepping()), energy_of_window(window, Scripted())
    assert (flowing.lo, flowing.hi) == pytest.approx((95.0, 105.0))
    assert stepping.lo == pytest.approx(95.0 - 100 * edge_frac)
    assert stepping.hi == pytest.approx(105.0 + 100 * edge_frac)


class Unhurried(Scripted):
    """A source whose counter moves in steps that nobody times."""

    step_s = 0.12


def test_steps_that_are_not_timed_weigh_more() -> None:
    energy = energy_of_window(window_of(4.0, joules=100.0, parts=4), Unhurried())
    edge_frac = 0.12 / 2.0
    assert (energy.lo, energy.hi) == pytest.approx((95.0 - 100 * edge_frac, 105 + 100 * edge_frac))
    assert energy.step_s == 0.12
    assert (
        "in 4 parts is shorter than 5 s: its edges may change the result by about 4.8%, up to 6.0%"
        in " ".join(energy.notes)
    )
    assert energy_of_window(window_of(1.0, parts=9), Unhurried()).joules is None


def test_what_is_said_of_untimed_steps_is_so() -> None:
    draw = np.random.default_rng(0)
    late = draw.uniform(0, 1, (2, 100_000))  # of each edge's step, what was not yet shown
    assert np.quantile(np.abs(late[1] - late[0]), 0.95) <= UNTIMED_EDGE_ERROR_STEPS


def test_average_power_of_nothing_beside_a_counter_that_counts_is_suspect() -> None:
    window = replace(window_of(12.0), checked_s=11.0, checked_counter_j=2200.0)
    energy = energy_of_window(window, Stepping())
    assert (energy.quality, energy.crosscheck) == (EnergyQuality.SUSPECT, None)
    assert "the counter gives 2,200.0 J, average power 0 J" in energy.notes[-1]
    unchecked = replace(window, checked_s=1.0)
    assert energy_of_window(unchecked, Stepping()).quality is EnergyQuality.MEASURED


def test_no_source_is_said_too() -> None:
    energy = unavailable_energy(3.0, ("no driver",))
    assert (energy.source, energy.scope, energy.notes) == (
        "no meter", "nothing measured", ("no driver",)
    )  # fmt: skip


# Timing of counter updates -------------------------------------------------------------


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


# Cross-check ---------------------------------------------------------------------------


def ramp(t: float) -> float:
    """The power's integral where it grows by 10 W a second, J."""
    return 5 * t * t


def flat(t: float) -> float:
    return 200 * t


def reading(t: float, energy: Callable[[float], float]) -> Reading:
    return Reading.point(t, 0.0, energy(t), average_w=energy(t) - energy(t - 1.0))


def pairs(times: Sequence[float], energy: Callable[[float], float]) -> list[CrossCheckInterval]:
    check = CrossCheck()
    found = [check.add_reading(reading(t, energy)) for t in times]
    return [pair for pair in found if pair is not None]


@pytest.mark.parametrize("energy", [flat, ramp])
def test_the_same_energy_by_both_is_told_apart_by_nothing(
    energy: Callable[[float], float],
) -> None:
    found = pairs([10 + i / 10 for i in range(100)], energy)
    counter_j = sum(pair.counter_j for pair in found)
    assert counter_j == pytest.approx(sum(pair.average_j for pair in found), rel=1e-3)
    assert sum(pair.seconds for pair in found) == pytest.approx(9.3, abs=0.15)


def test_without_half_a_second_of_past_there_is_nothing_to_compare() -> None:
    assert pairs([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], flat) == []


def test_gaps_are_left_out() -> None:
    times = [i / 10 for i in range(20)] + [8 + i / 10 for i in range(20)]
    found = pairs(times, flat)
    assert max(pair.seconds for pair in found) < 0.2
    assert sum(pair.counter_j for pair in found) == pytest.approx(
        sum(pair.average_j for pair in found), rel=1e-6
    )


def test_an_unknown_average_is_left_out() -> None:
    check = CrossCheck()
    found = [
        check.add_reading(Reading.point(i / 10, 0.0, 20 * i, math.nan if i == 15 else 200.0))
        for i in range(30)
    ]
    known = [i for i, pair in enumerate(found) if pair is not None]
    assert known == [*range(6, 15), *range(17, 30)]
