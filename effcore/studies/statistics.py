"""Paired differences, their intervals and tests, computed with SciPy; never imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

#: Paired differences that vary by less than this are equal: metrics have single precision.
_ROUNDING_ERROR = 2e-7


@dataclass(frozen=True)
class PairedDifference:
    """A paired difference over seeds.

    Attributes:
        n: Number of pairs.
        mean: Mean difference, first minus second.
        se: Standard error of the mean; 0 where all differences are equal.
        lo: Lower end of the two-sided 95% t interval.
        hi: Upper end.
        bound: Lower one-sided 95% t bound, which decides non-inferiority.
    """

    n: int
    mean: float
    se: float
    lo: float
    hi: float
    bound: float


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """Compare two arms over the same seeds by Student's t on their differences.

    Raises:
        ValueError: Fewer than two pairs, or arms of different length.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(
            f"a paired comparison of {len(first)} and {len(second)} values is not possible: "
            "give both arms the same seeds, at least two"
        )
    difference = np.subtract(first, second)
    n, mean = len(difference), float(difference.mean())
    se = float(difference.std(ddof=1) / np.sqrt(n))
    two, one = (float(special.stdtrit(n - 1, level)) for level in (0.975, 0.95))
    return PairedDifference(n, mean, se, mean - two * se, mean + two * se, mean - one * se)


def _equal_but_for_rounding(values: NDArray[np.float64]) -> bool:
    """Return whether all values are equal up to rounding."""
    return bool(np.ptp(values) <= _ROUNDING_ERROR)


def p_value_above(difference: Sequence[float], limit: float) -> float:
    """Return the one-sided p of Student's t for a mean above ``limit``.

    Where all differences are equal up to rounding, nothing is random: p is 0 above the limit, and
    1 at or below it.
    """
    values = np.asarray(difference, dtype=np.float64)
    if _equal_but_for_rounding(values):
        return 0.0 if values.mean() - limit > _ROUNDING_ERROR else 1.0
    t = (values.mean() - limit) / (values.std(ddof=1) / np.sqrt(len(values)))
    return float(special.stdtr(len(values) - 1, -t))


def sign_flip_p_value(difference: Sequence[float], seed: int = 0) -> float:
    """Return the two-sided p of the sign-flip test of a mean of zero.

    p is the share of sign flips for which the mean is at least as far from zero. Up to 12 pairs all
    flips are counted; with more, 10,000 are drawn.
    """
    values = np.asarray(difference, dtype=np.float64)
    if not values.any():
        return 1.0
    result = stats.permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**12 if len(values) <= 12 else 10_000,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def bca_interval(difference: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the mean, bias-corrected and accelerated.

    Efron 1987, "Better Bootstrap Confidence Intervals". With few pairs it is too narrow, so it is
    shown but does not decide.
    """
    values = np.asarray(difference, dtype=np.float64)
    if _equal_but_for_rounding(values):
        return float(values.mean()), float(values.mean())
    result = stats.bootstrap((values,), np.mean, method="BCa", rng=np.random.default_rng(seed))
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def holm_adjusted(p: Sequence[float], questions: int = 0) -> list[float]:
    """Return p-values adjusted for several questions asked at once, in the given order.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".

    Args:
        p: p-values of the questions that have an answer.
        questions: Number of all questions; those without an answer count as if their p were 1.
    """
    order = np.argsort(p, kind="stable")
    factors = max(questions, len(p)) - np.arange(len(p))
    stepped = np.maximum.accumulate(np.asarray(p, dtype=np.float64)[order] * factors)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def pairs_needed(
    difference: Sequence[float],
    limit: float,
    alpha: float,
    power: float = 0.8,
    max_pairs: int = 1000,
) -> int | None:
    """Return how many pairs are needed to show a mean above ``limit`` if mean and scatter stay.

    It is the smallest number for which Student's t has the wanted power, by the noncentral t
    distribution.

    Args:
        difference: Differences of the pairs so far, at least two.
        limit: The mean is tested to lie above this.
        alpha: One-sided level of the test.
        power: Wanted probability of showing it.
        max_pairs: ``None`` is returned where more pairs than this are needed, or where no number
            is enough.
    """
    values = np.asarray(difference, dtype=np.float64)
    effect, spread = float(values.mean()) - limit, float(values.std(ddof=1))
    if effect <= _ROUNDING_ERROR:
        return None
    if _equal_but_for_rounding(values):
        return 2
    n = np.arange(2, max_pairs + 1)
    critical = stats.t.ppf(1 - alpha, n - 1)
    reached = np.asarray(stats.nct.sf(critical, n - 1, effect / spread * np.sqrt(n)) >= power)
    return int(n[reached][0]) if reached.any() else None


@dataclass(frozen=True)
class MedianInterval:
    """A median with its 95% bootstrap interval (percentile method)."""

    median: float
    lo: float
    hi: float
    n: int

    def __str__(self) -> str:
        """Return the median, its interval and n with three decimals."""
        return f"{self.median:.3f} [{self.lo:.3f}, {self.hi:.3f}] n={self.n}"


def median_interval(values: Sequence[float], seed: int = 0) -> MedianInterval:
    """Return the median of ``values`` with its 95% bootstrap interval.

    Raises:
        ValueError: Fewer than three values.
    """
    if len(values) < 3:
        raise ValueError(f"an interval needs at least 3 values, got {len(values)}")
    result = stats.bootstrap(
        (np.asarray(values),),
        np.median,
        method="percentile",
        rng=np.random.default_rng(seed),
        n_resamples=4000,
    )
    interval = result.confidence_interval
    return MedianInterval(
        float(np.median(values)), float(interval.low), float(interval.high), len(values)
    )
