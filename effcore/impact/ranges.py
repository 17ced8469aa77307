"""Ranges and their arithmetic, their texts, and errors for invalid values.

Every uncertain value is a range from ``lo`` to ``hi``. A product of ranges contains every product
of their values, so that a computation never reduces the uncertainty.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class ImpactError(ValueError):
    """Raised for a value that cannot be used.

    Args:
        argument: Name of the argument.
        value: The value received.
        allowed: The allowed values.
        remedy: The remedy.
    """

    def __init__(self, argument: str, value: object, allowed: str, remedy: str) -> None:
        super().__init__(f"{argument}={value!r} is not allowed: {allowed}; {remedy}")
        self.argument = argument


class Range(NamedTuple):
    """A closed interval from ``lo`` to ``hi``."""

    lo: float
    hi: float

    def __contains__(self, value: object) -> bool:
        """Return whether a number lies within."""
        return isinstance(value, float | int) and self.lo <= value <= self.hi

    def times(self, other: Range | float) -> Range:
        """Return the range of the products."""
        ends = other if isinstance(other, Range) else exact_range(other)
        products = [a * b for a in self for b in ends]
        return Range(min(products), max(products))

    def plus(self, other: Range | float) -> Range:
        """Return the range of the sums."""
        ends = other if isinstance(other, Range) else exact_range(other)
        return Range(self.lo + ends.lo, self.hi + ends.hi)

    def require_within(self, argument: str, lo: float, hi: float, remedy: str) -> Range:
        """Return the range if it is valid and lies within ``lo`` and ``hi``.

        Raises:
            ImpactError: An end is not a finite number, the ends are in the wrong order, or an
                end lies outside.
        """
        allowed = f"expected from {lo:,.10g} to {hi:,.10g}"
        numbers = all(isinstance(end, float | int) and math.isfinite(end) for end in self)
        if not numbers or not lo <= self.lo <= self.hi <= hi:
            if self.lo == self.hi:
                raise ImpactError(argument, self.lo, allowed, remedy)
            raise ImpactError(argument, tuple(self), f"{allowed}, the lower end first", remedy)
        return self


def exact_range(value: float) -> Range:
    """Return the range that holds one value."""
    return Range(value, value)


def number_text(value: float) -> str:
    """Return a number with three significant digits."""
    if value == 0 or not math.isfinite(value):
        text = f"{abs(value):g}"
    elif not 1e-4 <= abs(value) < 1e15:
        text = f"{value:.2e}"
    else:
        digits = 2 - int(f"{value:.2e}".partition("e")[2])  # the exponent after rounding
        text = f"{round(value, digits):,.{max(digits, 0)}f}"
    return text.replace("-", "−")


def si_text(value: float, unit: str) -> str:
    """Return an amount with the SI prefix that gives one to three digits before the point."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * size:
            return f"{number_text(value / size)} {prefix}{unit}"
    return f"{number_text(value)} {unit}"


def range_text(values: Range) -> str:
    """Return a range as text; a single number if both ends have the same text."""
    lo, hi = number_text(values.lo), number_text(values.hi)
    return lo if lo == hi else f"{lo} to {hi}"


def full_precision_text(values: Range) -> str:
    """Return an entered range with all its digits."""
    lo, hi = (f"{value:,.10g}".replace("-", "−") for value in values)
    return lo if lo == hi else f"{lo} to {hi}"
