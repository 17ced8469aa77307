"""Ranges and their arithmetic, and refusals that say what to do instead.

Whatever is uncertain is a range from ``lo`` to ``hi``; a product of ranges holds every
product of what they hold, so that nothing becomes more certain on the way.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class ImpactError(ValueError):
    """A value cannot be used.

    Args:
        argument: Name of the argument.
        value: The value received.
        allowed: What is allowed.
        remedy: What to do instead.
    """

    def __init__(self, argument: str, value: object, allowed: str, remedy: str) -> None:
        super().__init__(f"{argument}={value!r} is not allowed: {allowed}; {remedy}")
        self.argument = argument


class Range(NamedTuple):
    """Everything from ``lo`` to ``hi``, both included."""

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
        """Return the range itself, once it is known to be one and to lie from ``lo`` to ``hi``.

        Raises:
            ImpactError: An end is no finite number, the ends are in the wrong order, or one
                lies outside.
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
    """Return a number with three significant digits, as people write it."""
    if value == 0 or not math.isfinite(value):
        text = f"{abs(value):g}"
    elif not 1e-4 <= abs(value) < 1e15:
        text = f"{value:.2e}"
    else:
        digits = 2 - int(f"{value:.2e}".partition("e")[2])  # of what it is rounded to
        text = f"{round(value, digits):,.{max(digits, 0)}f}"
    return text.replace("-", "−")


def si_text(value: float, unit: str) -> str:
    """Return an amount with the prefix that leaves one to three digits before the point."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * size:
            return f"{number_text(value / size)} {prefix}{unit}"
    return f"{number_text(value)} {unit}"


def range_text(values: Range) -> str:
    """Return a range as people write it, one number where both ends read the same."""
    lo, hi = number_text(values.lo), number_text(values.hi)
    return lo if lo == hi else f"{lo} to {hi}"


def full_precision_text(values: Range) -> str:
    """Return a range that somebody entered, every digit of it."""
    lo, hi = (f"{value:,.10g}".replace("-", "−") for value in values)
    return lo if lo == hi else f"{lo} to {hi}"
