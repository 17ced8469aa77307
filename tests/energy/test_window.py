from __future__ import annotations

import math

import pytest

from effcore.energy.base import Reading
from effcore.energy.window import Window, fell
from effcore.events import Quality
from tests.energy.scripted import Estimating, Scripted, measured


def test_a_window_grows_by_differences() -> None:
    window = Window().plus(None, measured(10, 1e9)).plus(measured(10, 1e9), measured(16, 1e9 + 6))
    assert (window.seconds, window.energy_j, window.lo_j, window.hi_j) == (6.0, 6.0, 6.0, 6.0)
    assert window.readings == 2


def test_a_good_reading_ends_a_row_of_failures() -> None:
    window = Window().failed().failed()
    assert (window.failures, window.failures_in_row) == (2, 2)
    window = window.plus(None, measured(0, 0))
    assert (window.failures, window.failures_in_row) == (2, 0)


def test_the_error_widens_a_measurement_and_not_an_estimate() -> None:
    before, now = Reading.interval(0, (1, 2), (0, 0)), Reading.interval(10, (1, 2), (10, 20))
    window = Window().plus(None, before).plus(before, now)
    assert window.row(now, Scripted())[1:3] == pytest.approx((0.95, 2.1))
    estimate = window.energy(Estimating())
    assert (estimate.joules, estimate.lo, estimate.hi) == (None, 10.0, 20.0)
    assert estimate.quality is Quality.ESTIMATED


def test_an_interval_from_a_measuring_source_has_no_point() -> None:
    before, now = Reading.interval(0, (1, 2), (0, 0)), Reading.interval(10, (1, 2), (10, 20))
    energy = Window().plus(None, before).plus(before, now).energy(Scripted())
    assert energy.joules is None
    assert (energy.lo, energy.hi) == pytest.approx((9.5, 21.0))
    assert math.isnan(Window().plus(before, now).row(now, Scripted())[3])


@pytest.mark.parametrize(("before_j", "now_j"), [(1, 2), (2, 2), (2, 1)])
def test_only_a_smaller_count_is_a_fall(before_j: float, now_j: float) -> None:
    assert fell(measured(0, before_j), measured(1, now_j)) is (now_j < before_j)
