"""Scale ladder: the saving at three or more model sizes, with a fit and its prediction band.

The saving is fitted against the logarithm of the size by weighted least squares. The band is the
95% prediction interval of one more rung, by Student's t with n − 2 degrees of freedom; with three
rungs the quantile is 12.7, so the band is wide. Its variance is never below that implied by the
rungs' own errors (Birge's ratio: scatter around the line scales them up, never down). The band
assumes that the saving is linear in the logarithm of the size. This was not measured beyond the
largest rung, so that range is marked as not measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from effcore.impact.ranges import ImpactError, Range, exact_range
from effcore.impact.saving import SAVING_LIMITS
from effcore.records import FloatArray

MIN_RUNGS: Final = 3
_T_QUANTILE_LEVEL: Final = 0.975  # of a two-sided 95% interval
_DECADE_LIMITS: Final = (0.0, 12.0)
_POINT_LIMITS: Final = (3.0, 10_000.0)
#: A smaller standard error is a rounding error, so the true error is unknown.
_MIN_KNOWN_ERROR: Final = 1e-12


class Rung(NamedTuple):
    """The saving at one size.

    Attributes:
        size: Parameters, examples or FLOPs; above 0.
        saving: Saving as a share of full training's amount.
        interval: Its 95% interval; the value itself if the error is unknown.
        error: Its standard error; 0 if unknown.
    """

    size: float
    saving: float
    interval: Range
    error: float


class LadderFit(NamedTuple):
    """The fit and its band over sizes, each array of shape (points,), float64.

    Attributes:
        size: From the smallest rung to some decades beyond the largest.
        fit: The fitted saving.
        lo: Lower end of the 95% prediction interval of one more rung.
        hi: Its upper end, at most 1, the largest possible saving.
        measured: bool, true only between the smallest and the largest rung.
    """

    size: FloatArray
    fit: FloatArray
    lo: FloatArray
    hi: FloatArray
    measured: NDArray[np.bool_]


def make_rung(size: float, repeats: Sequence[float]) -> Rung:
    """Return the rung of a size from repeated savings, with the 95% t interval of their mean.

    Raises:
        ImpactError: The size or a saving is invalid, or there are no repeats.
    """
    values = [_checked_saving(value) for value in repeats]
    if not values:
        raise ImpactError("repeats", values, "expected at least one saving", "train this size")
    mean, error = float(np.mean(values)), 0.0
    if len(values) > 1:
        error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = error * float(special.stdtrit(max(len(values) - 1, 1), _T_QUANTILE_LEVEL))
    return Rung(_checked_size(size), mean, Range(mean - half, min(mean + half, 1.0)), error)


def fit_ladder(rungs: Sequence[Rung], decades: float = 2.0, points: int = 121) -> LadderFit:
    """Fit the rungs; return the fit and its band from the smallest rung to beyond the largest.

    If the error of any rung is unknown or negligible, all rungs have the same weight.

    Args:
        rungs: Three or more rungs of different sizes, in any order.
        decades: Length of the range beyond the largest rung, in powers of ten.
        points: Number of sizes to return, half of them beyond the rungs if ``decades`` is above 0.

    Raises:
        ImpactError: Too few rungs, or decades or points out of range.
    """
    _check_fit_arguments(rungs, decades, points)
    x, y, error = np.array([(math.log10(r.size), r.saving, r.error) for r in rungs]).T
    known = bool((error > _MIN_KNOWN_ERROR).all())
    sigma = error if known else np.ones_like(error)
    line, covariance = np.polyfit(x, y, 1, w=1 / sigma, cov="unscaled")
    freedom = len(rungs) - 2
    scatter = float((((y - np.polyval(line, x)) / sigma) ** 2).sum() / freedom)
    scale = max(scatter, 1.0) if known else scatter
    over = _log_sizes(float(x.min()), float(x.max()), decades, points)
    basis = np.stack([over, np.ones_like(over)])
    of_the_line = np.einsum("ip,ij,jp->p", basis, covariance, basis)
    half = special.stdtrit(freedom, _T_QUANTILE_LEVEL) * np.sqrt(
        scale * (of_the_line + np.median(sigma**2))
    )
    fit = np.polyval(line, over)
    return LadderFit(
        size=10**over,
        fit=np.minimum(fit, 1.0),
        lo=np.minimum(fit - half, 1.0),
        hi=np.minimum(fit + half, 1.0),
        measured=over <= x.max(),
    )


def _log_sizes(first: float, last: float, decades: float, points: int) -> FloatArray:
    """Return logarithms of sizes, including that of the largest rung."""
    beyond = points // 2 if decades > 0 else 0
    between = np.linspace(first, last, points - beyond)
    return np.append(between, np.linspace(last, last + decades, beyond + 1)[1:])


def _check_fit_arguments(rungs: Sequence[Rung], decades: float, points: int) -> None:
    sizes = {f"{math.log10(r.size):.6f}": r.size for r in rungs}
    if len(sizes) < MIN_RUNGS:
        raise ImpactError(
            "rungs", sorted(sizes.values()), f"expected at least {MIN_RUNGS} different sizes",
            "train more sizes: a line through two points has no error estimate",
        )  # fmt: skip
    exact_range(decades).require_within("decades", *_DECADE_LIMITS, "choose a number in this range")
    exact_range(points).require_within("points", *_POINT_LIMITS, "choose a number in this range")


def _checked_saving(value: float) -> float:
    exact_range(value).require_within("saving", *SAVING_LIMITS, "give a share such as 0.3")
    return value


def _checked_size(size: float) -> float:
    exact_range(size).require_within("size", 1e-300, 1e300, "count parameters, examples or FLOPs")
    return size
