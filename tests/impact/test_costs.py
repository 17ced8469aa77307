"""kWh, CO2e, money and the SCI; examples are worked out here by other means."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effcore.impact.assumptions import (
    PUE_MEAN_2025,
    Assumptions,
    ElectricityPrice,
    EmbodiedEmissions,
    Pue,
)
from effcore.impact.costs import EnergyImpact, energy_impact, joules_range
from effcore.impact.grid_factors import GridFactor, GridSpread
from effcore.impact.ranges import ImpactError, Range, exact_range
from effcore.records import Energy, EnergyQuality
from tests.fakes import ESTIMATED, MEASURED, UNAVAILABLE

GRID = GridFactor("XYZ", "Somewhere", 2023, 400.0, "a test")
EVEN = GridSpread(0.5, 1.5, "a test says so")
EUR = ElectricityPrice(exact_range(0.30), "EUR")
HOUR = Energy(3.6e6, 3.4e6, 3.8e6, 3600.0, EnergyQuality.MEASURED, "a counter", "GPU board")
ENDS = st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)).map(lambda e: Range(min(e), max(e)))


def amounts(impact: EnergyImpact) -> dict[str, Range]:
    found = {"kwh": impact.kwh, "co2e": impact.co2e, "money": impact.money, "sci": impact.sci}
    return {name: amount.values for name, amount in found.items() if amount is not None}


def test_without_a_word_only_the_unit_changes() -> None:
    impact = energy_impact(HOUR)
    assert amounts(impact)["kwh"] == pytest.approx((3.4 / 3.6, 3.8 / 3.6))
    assert (impact.building_kwh, impact.co2e, impact.money, impact.sci) == (None,) * 4
    said = " ".join(impact.assumption_sentences)
    for words in ("not applied", "not guessed", "No price", "not included", "MEASURED"):
        assert words in said


def test_an_hour_at_a_kilowatt() -> None:
    impact = energy_impact(HOUR, Assumptions(PUE_MEAN_2025, GRID, EVEN, EUR))
    found = amounts(impact)
    assert impact.building_kwh is not None
    assert impact.building_kwh.values == pytest.approx((1.4544444, 1.6255556))
    assert found["co2e"] == pytest.approx((290.88889, 975.33333))
    assert found["money"] == pytest.approx((0.43633333, 0.48766667))
    assert found["sci"] == found["co2e"]
    assert impact.sci_name == "SCI operational part"
    assert any("a test says so" in sentence for sentence in impact.assumption_sentences)


def test_embodied_emissions_follow_the_sci_s_own_example() -> None:
    # The specification: 1,000 kg over four years, one hour reserved, is around 28 g.
    made = EmbodiedEmissions(exact_range(1000), exact_range(4), "the specification")
    assert made.grams(3600.0) == pytest.approx((28.5388, 28.5388), rel=1e-4)
    # An A100's 318 kg over four years are about 9 g an hour.
    assert made.__class__(exact_range(318), exact_range(4), "").grams(3600.0).lo == pytest.approx(
        9, rel=0.02
    )


def test_the_sci_is_whole_only_with_the_hardware_in_it() -> None:
    made = EmbodiedEmissions(Range(900, 1100), Range(3, 5), "a maker's sheet", share=0.5)
    impact = energy_impact(HOUR, Assumptions(factor=GRID, spread=EVEN, embodied=made, units=10))
    assert impact.sci_name == "SCI (ISO/IEC 21031)"
    hour_share = 1 / (365 * 24)
    expected = [
        (joules / 3.6e6 * grams + kg * 500 * hour_share / years) / 10
        for joules, grams, kg, years in ((3.4e6, 200, 900, 5), (3.8e6, 600, 1100, 3))
    ]
    assert amounts(impact)["sci"] == pytest.approx(expected)
    assert amounts(impact)["co2e"].lo == pytest.approx(3.4 / 3.6 * 200), "using it is kept apart"


@given(ENDS, st.floats(0, 1), ENDS, st.floats(1, 5))
def test_ranges_hold_what_any_reading_within_would_give(
    joules: Range, at: float, grams: Range, pue: float
) -> None:
    energy = replace(HOUR, joules=None, lo=joules.lo, hi=joules.hi)
    factor = GRID._replace(gco2e_kwh=grams.hi)
    terms = Assumptions(Pue(exact_range(pue), "a test"), factor, EVEN, EUR)
    wide = amounts(energy_impact(energy, terms))
    one = joules.lo + at * (joules.hi - joules.lo)
    narrow = amounts(energy_impact(replace(energy, lo=one, hi=one), terms))
    for name, values in narrow.items():
        slack = 1e-9 * max(1.0, abs(wide[name].hi))
        assert wide[name].lo - slack <= values.lo <= values.hi <= wide[name].hi + slack


@given(st.floats(0, 1e9), st.floats(1, 2))
def test_more_joules_never_come_to_less(joules: float, factor: float) -> None:
    terms = Assumptions(factor=GRID, price=EUR)
    less = amounts(energy_impact(replace(HOUR, lo=joules, hi=joules), terms))
    more = amounts(energy_impact(replace(HOUR, lo=joules, hi=joules * factor), terms))
    assert all(more[name].hi >= less[name].hi for name in less)


@pytest.mark.parametrize(
    "quality", [q for q in EnergyQuality if q is not EnergyQuality.UNAVAILABLE]
)
def test_no_amount_is_written_without_its_quality(quality: EnergyQuality) -> None:
    terms = Assumptions(PUE_MEAN_2025, GRID, EVEN, EUR)
    rows = dict(energy_impact(replace(HOUR, quality=quality), terms).rows())
    assert len(rows) == 5
    for text in rows.values():
        assert quality.value.upper() in text
    for name in ("CO2e of using it", "Cost", "SCI operational part"):
        assert f"from {quality.value.upper()} joules" in rows[name]


def test_an_estimate_stays_one() -> None:
    impact = energy_impact(ESTIMATED, Assumptions(factor=GRID))
    assert impact.kwh is not None
    assert impact.kwh.values == pytest.approx((5 / 3.6e6, 20 / 3.6e6))
    assert "not a measurement" in " ".join(impact.assumption_sentences)


def test_where_nothing_is_measured_there_is_nothing_but_the_reason() -> None:
    impact = energy_impact(UNAVAILABLE, Assumptions(factor=GRID, price=EUR))
    assert list(impact.rows()) == []
    assert impact.assumption_sentences == ("There are no joules: No TDP..",)


def test_a_value_without_an_interval_says_so() -> None:
    assert joules_range(MEASURED) == exact_range(10.0)
    assert "states no interval" in " ".join(energy_impact(MEASURED).assumption_sentences)
    assert joules_range(replace(MEASURED, joules=None)) is None


@pytest.mark.parametrize(("lo", "hi"), [(5.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (1.0, math.inf)])
def test_joules_that_contradict_themselves_are_refused(lo: float, hi: float) -> None:
    with pytest.raises(ImpactError, match="^energy="):
        energy_impact(replace(HOUR, lo=lo, hi=hi))


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: Pue(exact_range(0.9), "x"), "pue"),
        (lambda: Pue(Range(2.0, 1.5), "x"), "pue"),
        (lambda: ElectricityPrice(exact_range(-0.1), "EUR"), "price"),
        (lambda: ElectricityPrice(exact_range(0.1), "  "), "currency"),
        (lambda: ElectricityPrice(exact_range(0.1), "E\nR"), "currency"),
        (lambda: ElectricityPrice(exact_range(0.1), "far too long"), "currency"),
        (lambda: EmbodiedEmissions(exact_range(-1), exact_range(4), "x"), "total_kg"),
        (lambda: EmbodiedEmissions(exact_range(1), exact_range(0), "x"), "life_years"),
        (lambda: EmbodiedEmissions(exact_range(1), exact_range(4), "x", share=1.5), "share"),
        (lambda: Assumptions(units=0), "units"),
    ],
)
def test_terms_that_cannot_be_are_refused_by_name(make: object, argument: str) -> None:
    assert callable(make)
    with pytest.raises(ImpactError, match=f"^{argument}=.* is not allowed: expected .*; "):
        make()
