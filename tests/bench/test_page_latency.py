from __future__ import annotations

import numpy as np
import pytest

from effcore.bench.page_latency import (
    LatencySummary,
    slider_latencies,
    watching_speed_ratios,
)
from effcore.records import KnobChange

CLOCK = np.array([1.0, 1.1, 1.2, 1.3])  # when each step was done, s


def test_a_movement_ends_with_the_first_batch_under_its_value_or_a_later_one() -> None:
    moves = [(1010.0, 0.4), (1020.0, 0.5), (1150.0, 0.4)]  # the second replaced the first
    changes = [KnobChange(1, "mass", 0.5), KnobChange(3, "mass", 0.4)]
    assert slider_latencies(moves, changes, CLOCK) == pytest.approx([90, 80, 150])


def test_a_movement_without_effect_is_refused() -> None:
    moves = [(1010.0, 0.4), (1150.0, 0.5)]
    with pytest.raises(RuntimeError, match="only 1 of 2"):
        slider_latencies(moves, [KnobChange(1, "mass", 0.4), KnobChange(9, "mass", 0.5)], CLOCK)


def test_rates_count_steps_between_the_first_and_last_of_a_block() -> None:
    clock = np.concatenate([np.arange(0, 10, 0.1), np.arange(10, 20, 0.05)])
    pairs = [{True: (1.0, 9.0), False: (11.0, 19.0)}]
    assert watching_speed_ratios(clock, pairs) == pytest.approx([0.5])


def test_a_summary_has_median_and_95th_percentile() -> None:
    assert LatencySummary.from_values([float(i) for i in range(101)]) == LatencySummary(
        50.0, 95.0, 101
    )
