"""The ladder's fit, its band and where it stops being measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from effcore.impact.ranges import ImpactError, Range
from effcore.impact.scale_ladder import Rung, fit_ladder, make_rung

RUNGS = [
    make_rung(1e4, [0.10, 0.12, 0.11]),
    make_rung(1e5, [0.16, 0.15, 0.17]),
    make_rung(1e6, [0.20, 0.19, 0.21]),
]


def single(sizes: list[float], savings: list[float]) -> list[Rung]:
    return [make_rung(size, [saving]) for size, saving in zip(sizes, savings, strict=True)]


def test_without_errors_it_is_the_ordinary_fit_and_its_prediction_interval() -> None:
    sizes, savings = [1e3, 1e4, 1e5, 1e6], [0.1, 0.16, 0.18, 0.26]
    band = fit_ladder(single(sizes, savings), decades=2, points=6)
    x, y = np.log10(sizes), np.array(savings)
    line = stats.linregress(x, y)  # the textbook, by another road
    residual = y - line.intercept - line.slope * x
    s = math.sqrt((residual**2).sum() / 2)
    at = np.log10(band.size)
    spread = ((x - x.mean()) ** 2).sum()
    half = stats.t.ppf(0.975, 2) * s * np.sqrt(1 + 1 / 4 + (at - x.mean()) ** 2 / spread)
    fit = line.intercept + line.slope * at
    np.testing.assert_allclose(band.fit, fit)
    np.testing.assert_allclose(band.lo, fit - half)
    np.testing.assert_allclose(band.hi, np.minimum(fit + half, 1))


def test_only_what_lies_between_the_rungs_is_measured() -> None:
    band = fit_ladder(RUNGS[::-1], decades=2, points=5)
    np.testing.assert_allclose(band.size, [1e4, 1e5, 1e6, 1e7, 1e8])
    assert band.measured.tolist() == [True, True, True, False, False]
    assert fit_ladder(RUNGS, decades=0).measured.all()


def test_the_band_widens_beyond_the_rungs_and_three_of_them_say_little() -> None:
    band = fit_ladder(RUNGS, decades=3)
    width = band.fit - band.lo
    beyond = width[~band.measured]
    assert (np.diff(beyond) > 0).all()
    assert beyond[-1] > 2 * width[0]
    five = [*RUNGS, make_rung(3e4, [0.13, 0.14, 0.135]), make_rung(3e5, [0.18, 0.17, 0.175])]
    assert (
        fit_ladder(five, decades=3).fit - fit_ladder(five, decades=3).lo
    ).max() < width.max() / 3


def test_scatter_around_the_line_widens_the_band_and_never_narrows_it() -> None:
    errors = [0.01, 0.01, 0.01]

    def width(savings: list[float]) -> float:
        rungs = [
            Rung(10.0**i, y, Range(y, y), e)
            for i, (y, e) in enumerate(zip(savings, errors, strict=True))
        ]
        band = fit_ladder(rungs)
        return float((band.fit - band.lo)[0])

    straight = width([0.1, 0.2, 0.3])
    assert width([0.1, 0.201, 0.3]) == pytest.approx(straight)
    assert width([0.1, 0.4, 0.3]) > 2 * straight


def test_a_scatter_of_rounding_is_none() -> None:
    rungs = [make_rung(size, [0.1, 0.1 + 5e-17, 0.1]) for size in (1e3, 1e4, 1e5)]
    tiny = [Rung(size, 0.1, Range(0.1, 0.1), 5e-324) for size in (1e3, 1e4, 1e5)]
    for found in (fit_ladder(rungs), fit_ladder(tiny)):
        assert np.isfinite([found.fit, found.lo, found.hi]).all()


def test_rungs_known_better_weigh_more() -> None:
    def at_the_end(error: float) -> float:
        rungs = [Rung(10.0**i, y, Range(y, y), 0.01) for i, y in enumerate((0.1, 0.2, 0.3))]
        return float(fit_ladder([*rungs, Rung(1e3, 0.8, Range(0.8, 0.8), error)], points=3).fit[0])

    assert at_the_end(1.0) == pytest.approx(0.1, abs=0.01)
    assert abs(at_the_end(0.001) - 0.1) > 0.05


def test_the_band_holds_one_more_rung_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(0), 0
    x = np.array([4.0, 4.4, 4.8, 5.2])
    for _ in range(400):
        rungs = [make_rung(10**i, (0.05 * i + rng.normal(0, 0.02, 3)).tolist()) for i in x]
        band = fit_ladder(rungs, decades=2, points=3)
        new = 0.05 * 7.2 + rng.normal(0, 0.02, 3).mean()
        hits += bool(band.lo[-1] <= new <= band.hi[-1])
    assert hits / 400 >= 0.94


SAVINGS = st.lists(st.floats(-2, 1), min_size=3, max_size=6)


@given(SAVINGS, st.floats(0, 6))
def test_whatever_the_rungs_the_band_is_in_order_and_at_most_all(
    savings: list[float], decades: float
) -> None:
    band = fit_ladder(single([10.0**i for i in range(len(savings))], savings), decades)
    assert (band.lo <= band.fit + 1e-12).all()
    assert (band.fit <= band.hi + 1e-12).all()
    assert band.hi.max() <= 1


def test_repeats_give_the_t_interval_of_their_mean() -> None:
    found = make_rung(10, [0.1, 0.2, 0.3])
    expected = stats.t.interval(0.95, 2, loc=0.2, scale=0.1 / math.sqrt(3))
    assert found.saving == pytest.approx(0.2)
    assert found.interval == pytest.approx(expected)
    assert make_rung(10, [0.9, 1.0]).interval.hi == 1.0


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: fit_ladder(RUNGS[:2]), "rungs"),
        (lambda: fit_ladder([RUNGS[0]] * 3), "rungs"),
        (lambda: fit_ladder(single([1e17, 1e17 + 64, 1e17 + 128], [0.1, 0.2, 0.3])), "rungs"),
        (lambda: fit_ladder([]), "rungs"),
        (lambda: fit_ladder(RUNGS, decades=-1), "decades"),
        (lambda: fit_ladder(RUNGS, decades=math.nan), "decades"),
        (lambda: fit_ladder(RUNGS, points=2), "points"),
        (lambda: make_rung(0, [0.1]), "size"),
        (lambda: make_rung(math.inf, [0.1]), "size"),
        (lambda: make_rung(10, []), "repeats"),
        (lambda: make_rung(10, [1.5]), "saving"),
        (lambda: make_rung(10, [math.nan]), "saving"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_name(call: object, argument: str) -> None:
    assert callable(call)
    with pytest.raises(ImpactError, match=f"^{argument}=.* is not allowed: expected"):
        call()
