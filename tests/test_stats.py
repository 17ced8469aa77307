from __future__ import annotations

import numpy as np
import pytest

from effcore.studies.statistics import median_interval, paired_difference


def test_a_paired_difference_equals_the_worked_example() -> None:
    # Differences 1, 2, 3: mean 2, standard error 1/sqrt(3), t(2) = 4.3027 and 2.9200.
    result = paired_difference([11, 12, 13], [10, 10, 10])
    assert (result.n, result.mean) == (3, 2)
    assert result.se == pytest.approx(3**-0.5)
    assert result.lo == pytest.approx(2 - 4.302653 / 3**0.5)
    assert result.hi == pytest.approx(2 + 4.302653 / 3**0.5)
    assert result.bound == pytest.approx(2 - 2.919986 / 3**0.5)


def test_what_pairs_share_cancels() -> None:
    seeds = np.random.default_rng(0).normal(size=6) * 100
    result = paired_difference((seeds + 1).tolist(), seeds.tolist())
    assert result.mean == pytest.approx(1)
    assert result.se == pytest.approx(0, abs=1e-12)


def test_swapping_the_arms_changes_the_sign() -> None:
    first, second = [1.0, 4.0, 2.0], [2.0, 3.0, 5.0]
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert (there.mean, there.lo, there.hi) == pytest.approx((-back.mean, -back.hi, -back.lo))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = above = 0
    for _ in range(2000):
        result = paired_difference(rng.normal(0.3, 1, 6).tolist(), rng.normal(0, 1, 6).tolist())
        covered += result.lo <= 0.3 <= result.hi
        above += result.bound > 0.3
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)
    assert above / 2000 == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize(("first", "second"), [([1], [1]), ([], []), ([1, 2, 3], [1, 2])])
def test_too_little_to_compare_is_refused(first: list[float], second: list[float]) -> None:
    with pytest.raises(ValueError, match=r"is not possible: give both arms the same seeds"):
        paired_difference(first, second)


def test_a_median_with_its_interval() -> None:
    values = np.random.default_rng(0).normal(5, 1, 101).tolist()
    result = median_interval(values)
    assert result.median == np.median(values)
    assert result.lo < result.median < result.hi
    assert result.hi - result.lo < 1
    assert result.n == 101
    assert result == median_interval(values)
    assert str(result).endswith("n=101")


def test_an_interval_needs_three_values() -> None:
    with pytest.raises(ValueError, match="at least 3 values, got 2"):
        median_interval([1.0, 2.0])
