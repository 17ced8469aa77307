from __future__ import annotations

import math
from dataclasses import replace

import pytest

from effcore.energy.sources.base import SharedUse
from effcore.energy.window import CounterUpdate, CrossCheckInterval, WindowEdge, WindowTotals
from tests.energy.scripted import measured


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
    window = long(10.0).with_edge(-1, settled_edge(8.0)).with_edge(1, settled_edge(3.0, False))
    window = window.with_edge(1, pending).with_settled_edges()
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
