from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from effcore.energy.sources.base import EnergySource, Reading, SharedUse
from effcore.energy.window import (
    COUNTER_STOPPED_REASON,
    EDGE_ERRORS_S,
    NOT_A_NUMBER_REASON,
    UNTIMED_EDGE_ERROR_STEPS,
    WindowTotals,
    energy_of_window,
    power_row,
    unavailable_energy,
)
from effcore.records import EnergyQuality
from tests.energy.scripted import Estimating, Scripted, Stepping, measured


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
