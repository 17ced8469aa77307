"""Paired differences and their intervals, by SciPy; never imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Paired:
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


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
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
    two, one = float(stats.t.ppf(0.975, n - 1)), float(stats.t.ppf(0.95, n - 1))
    return Paired(n, mean, se, mean - two * se, mean + two * se, mean - one * se)


@dataclass(frozen=True)
class Interval:
    """A median with its 95% bootstrap interval (percentile method)."""

    median: float
    lo: float
    hi: float
    n: int

    def __str__(self) -> str:
        """Write it with three decimals."""
        return f"{self.median:.3f} [{self.lo:.3f}, {self.hi:.3f}] n={self.n}"


def median_interval(values: Sequence[float], seed: int = 0) -> Interval:
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
    return Interval(float(np.median(values)), float(ends.low), float(ends.high), len(values))
