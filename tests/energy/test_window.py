from __future__ import annotations

import math
from dataclasses import replace

import pytest

from effcore.energy.base import Tenancy
from effcore.energy.crosscheck import Pair
from effcore.energy.ticks import Edge, Tick
from effcore.energy.window import Window
from tests.energy.scripted import measured


def long(seconds: float, parts: int = 1) -> Window:
    """A window of 100 W in equal parts."""
    window = Window()
    for part in range(parts):
        t = 100.0 * part
        before, now = measured(t, 0), measured(t + seconds / parts, 100 * seconds / parts)
        window = window.plus(None, before).plus(before, now)
    return window


def settled_edge(extra_j: float, sharp: bool = True) -> Edge:
    return Edge(0.0, 0.0, None, Tick(0.1, 0.0, 10.0, sharp), extra_j)


def test_a_window_grows_by_differences() -> None:
    window = Window().plus(None, measured(10, 1e9)).plus(measured(10, 1e9), measured(16, 1e9 + 6))
    assert (window.seconds, window.energy_j, window.lo_j, window.hi_j) == (6.0, 6.0, 6.0, 6.0)
    assert (window.readings, window.parts, window.max_gap_s) == (2, 1, 6.0)


def test_the_longest_gap_is_kept() -> None:
    readings = [measured(t, 0) for t in (0, 1, 4, 4.5)]
    window = Window().plus(None, readings[0])
    for before, now in zip(readings, readings[1:], strict=False):
        window = window.plus(before, now)
    assert window.max_gap_s == 3.0


def test_edges_add_what_the_counter_had_not_shown() -> None:
    pending = Edge(0.0, 0.0, None)
    window = long(10.0).with_edge(-1, settled_edge(8.0)).with_edge(1, settled_edge(3.0, False))
    window = window.with_edge(1, pending).settled()
    assert (window.energy_j, window.lo_j, window.hi_j) == (995.0, 995.0, 995.0)
    assert window.loose == 1
    assert window.edges == ((1, pending),)
    pending.extra_j = 2.0
    assert window.settled().energy_j == 997.0
    assert (window.settled().loose, window.settled().edges) == (2, ())


def test_pauses_make_edges_weigh_more() -> None:
    assert long(8.0).weight_s == 8.0
    assert long(8.0, parts=4).seconds == pytest.approx(8.0)
    assert long(8.0, parts=4).weight_s == pytest.approx(4.0)
    assert Window().weight_s == 0.0


def test_the_check_leaves_out_what_looks_back_before_the_window() -> None:
    window = Window().plus(None, measured(20, 0))
    for since_s in (20.0, 20.9):
        window = window.plus(measured(20, 0), measured(20, 0), Pair(since_s, 0.1, 1.0, 2.0))
    assert window.checked_s == 0.0
    window = window.plus(measured(20, 0), measured(20, 0), Pair(21.0, 0.1, 1.0, 2.0))
    assert (window.checked_s, window.checked_counter_j, window.checked_average_j) == (0.1, 1.0, 2.0)


@pytest.mark.parametrize(
    ("seconds", "checked_s", "ratio"), [(9.9, 9.0, None), (10.0, 9.0, 1.25), (10.0, 4.9, None)]
)
def test_short_or_mostly_unchecked_windows_have_no_ratio(
    seconds: float, checked_s: float, ratio: float | None
) -> None:
    pair = Pair(5.0, checked_s, 500.0, 400.0)
    before = measured(0, 0)
    window = Window().plus(None, before).plus(before, measured(seconds, 1.0), pair)
    assert window.crosscheck == ratio


def test_only_the_part_of_throttling_inside_counts() -> None:
    window = Window().plus(None, measured(10, 0))
    assert window.throttled(9.5, 10.5).throttled_s == 0.5
    assert window.throttled(11.0, 12.0).throttled(12.0, 13.0).throttled_s == 2.0
    assert window.throttled(8.0, 9.0).throttled_s == 0.0


def test_the_lowest_limit_stays() -> None:
    window = Window().limited(math.nan)
    assert math.isnan(window.power_limit_w)
    window = window.limited(700.0).limited(300.0).limited(math.nan).limited(500.0)
    assert window.power_limit_w == 300.0
    assert Window().limited(200.0).joined(window).power_limit_w == 200.0


def test_the_worst_that_is_known_of_others_stays() -> None:
    hidden, foreign = Tenancy(False, "hidden"), Tenancy(True, "process 7")
    window = Window().shared(Tenancy(False, "")).shared(hidden)
    assert window.shared(Tenancy(False, "")).tenancy == hidden
    assert window.shared(foreign).shared(hidden).tenancy == foreign


def test_joined_windows_are_one_with_a_pause() -> None:
    one, two = long(6.0), long(2.0).shared(Tenancy(True, "process 7")).failed()
    both = one.joined(two)
    assert (both.seconds, both.energy_j, both.parts, both.failures) == (8.0, 800.0, 2, 1)
    assert both.max_gap_s == 6.0
    assert both.tenancy.contended
    assert math.isclose(both.weight_s, 8 / math.sqrt(2))
    void = replace(two, void="the counter fell")
    assert void.joined(one).void == one.joined(void).void == "the counter fell"
