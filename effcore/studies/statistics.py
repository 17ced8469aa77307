"""Paired differences and their intervals, by SciPy; never imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

#: Differences of differences below it are rounding: metrics are of single precision.
_ROUNDING_ERROR = 2e-7


@dataclass(frozen=True)
class PairedDifference:
    """A paired difference over seeds.

    Attributes:
        n: Pairs.
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
    """Compare two arms of the same seeds by Student's t on their differences.

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
    """Return whether all are equal but for rounding."""
    return bool(np.ptp(values) <= _ROUNDING_ERROR)


def p_value_above(difference: Sequence[float], limit: float) -> float:
    """Return the one-sided p of Student's t for a mean above ``limit``.

    Where all differences are equal, but for rounding, there is nothing random left: 0 above the
    limit, 1 at it and below.
    """
    values = np.asarray(difference, dtype=np.float64)
    if _equal_but_for_rounding(values):
        return 0.0 if values.mean() - limit > _ROUNDING_ERROR else 1.0
    t = (values.mean() - limit) / (values.std(ddof=1) / np.sqrt(len(values)))
    return float(special.stdtr(len(values) - 1, -t))


def sign_flip_p_value(difference: Sequence[float], seed: int = 0) -> float:
    """Return the two-sided p of the sign-flip test of a mean of zero.

    It asks how often the mean would be as far from zero if each difference were as likely to
    have the other sign; all flips are counted up to 12 pairs, 10,000 drawn beyond.
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

    Efron 1987, "Better Bootstrap Confidence Intervals". With few pairs it is too narrow: it
    is shown beside Student's t, which decides.
    """
    values = np.asarray(difference, dtype=np.float64)
    if _equal_but_for_rounding(values):
        return float(values.mean()), float(values.mean())
    found = stats.bootstrap((values,), np.mean, method="BCa", rng=np.random.default_rng(seed))
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def holm_adjusted(p: Sequence[float], questions: int = 0) -> list[float]:
    """Return p-values adjusted for asking several questions at once, in the given order.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".

    Args:
        p: Of the questions that have an answer.
        questions: How many were asked, where some have none: as if their p were 1.
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
    """Return how many pairs would show a mean above ``limit``, were it as it seems now.

    The fewest for which Student's t has the power, from the noncentral t distribution.

    Args:
        difference: Pairs so far, two at least.
        limit: What the mean shall lie above.
        alpha: One-sided level.
        power: Wanted chance to show it.
        max_pairs: ``None`` is returned where more than so many are needed, or no number would do.
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
        """Write it with three decimals."""
        return f"{self.median:.3f} [{self.lo:.3f}, {self.hi:.3f}] n={self.n}"


def median_interval(values: Sequence[float], seed: int = 0) -> MedianInterval:
    """Return the median of ``values`` and its 95% bootstrap interval.

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
    ends = result.confidence_interval
    return MedianInterval(float(np.median(values)), float(ends.low), float(ends.high), len(values))
