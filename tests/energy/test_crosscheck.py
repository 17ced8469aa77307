from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from effcore.energy.sources.base import Reading
from effcore.energy.window import CrossCheck, CrossCheckInterval


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
