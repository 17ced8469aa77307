from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effcore.impact.ranges import (
    ImpactError,
    Range,
    exact_range,
    full_precision_text,
    number_text,
    range_text,
    si_text,
)

NUMBERS = st.floats(-1e6, 1e6)
RANGES = st.tuples(NUMBERS, NUMBERS).map(lambda ends: Range(min(ends), max(ends)))
SHARES = st.floats(0.0, 1.0)


def inside(values: Range, share: float) -> float:
    """A number within a range."""
    return min(max(values.lo + share * (values.hi - values.lo), values.lo), values.hi)


@given(RANGES, RANGES, SHARES, SHARES)
def test_results_hold_the_results_of_whatever_the_ranges_hold(
    first: Range, second: Range, one: float, other: float
) -> None:
    a, b = inside(first, one), inside(second, other)
    product, total = first.times(second), first.plus(second)
    slack = 1e-9 * max(1.0, abs(a * b), abs(a) + abs(b))
    assert product.lo - slack <= a * b <= product.hi + slack
    assert total.lo - slack <= a + b <= total.hi + slack


@given(RANGES, NUMBERS)
def test_a_number_is_a_range_of_its_own(values: Range, number: float) -> None:
    assert values.times(number) == values.times(exact_range(number))
    assert values.plus(number) == values.plus(exact_range(number))
    assert number in exact_range(number)
    assert math.nan not in values


@pytest.mark.parametrize(
    "bad",
    [
        Range(2, 1),
        Range(-1, 1),
        Range(0, 11),
        exact_range(math.nan),
        Range(0, math.inf),
        Range("a", 1),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_range_is_refused_with_a_remedy(bad: Range) -> None:
    with pytest.raises(
        ImpactError, match=r"^watts=.* is not allowed: expected from 0 to 10.*; do so"
    ):
        bad.require_within("watts", 0, 10, "do so")


def test_a_range_within_its_limits_is_returned() -> None:
    assert Range(0, 10).require_within("watts", 0, 10, "") == Range(0, 10)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.0, "1.00"),
        (-0.05, "−0.0500"),
        (0.002777, "0.00278"),
        (0.00001234, "1.23e−05"),
        (999.6, "1,000"),
        (0.9996, "1.00"),
        (1234567.0, "1,230,000"),
        (3.2e18, "3.20e+18"),
    ],
)
def test_numbers_are_written_with_three_digits(value: float, text: str) -> None:
    assert number_text(value) == text


def test_a_range_of_one_reading_is_one_number() -> None:
    assert range_text(Range(1.0, 1.0004)) == "1.00"
    assert range_text(Range(-0.5, 2)) == "−0.500 to 2.00"


def test_what_was_entered_keeps_its_digits() -> None:
    assert full_precision_text(exact_range(8784)) == "8,784"
    assert full_precision_text(Range(0.1, 1.54)) == "0.1 to 1.54"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 FLOP"),
        (12, "12.0 FLOP"),
        (999_600, "1.00 MFLOP"),
        (3.21e12, "3.21 TFLOP"),
        (4e18, "4,000 PFLOP"),
    ],
)
def test_large_amounts_have_a_prefix(value: float, text: str) -> None:
    assert si_text(value, "FLOP") == text
