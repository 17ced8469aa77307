"""A saving carried over to a cluster; the figures are worked out here by other means."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effcore.impact.assumptions import ElectricityPrice, Pue
from effcore.impact.costs import Cluster, project_saving
from effcore.impact.grid_factors import GridFactor, GridSpread
from effcore.impact.ranges import ImpactError, Range, exact_range
from effcore.impact.saving import Saving, SavingBasis
from effcore.records import EnergyQuality

SAVING = Saving(Range(0.2, 0.3), SavingBasis.JOULES, "a task on one card", EnergyQuality.MEASURED)
CLUSTER = Cluster(
    gpus=100,
    hours=exact_range(8000),
    power_w=Range(400, 600),
    pue=Pue(exact_range(1.25), "as stated"),
    price=ElectricityPrice(Range(0.1, 0.2), "EUR"),
    factor=GridFactor("XYZ", "Somewhere", 2023, 400.0, "a test"),
    spread=GridSpread(0.5, 1.5, "a test"),
)
SHARES = st.floats(0, 1)


def test_a_hundred_cards_for_most_of_a_year() -> None:
    result = project_saving(SAVING, CLUSTER)
    assert result.energy.spent == pytest.approx((400_000, 600_000))
    assert result.energy.saved == pytest.approx((80_000, 180_000))
    assert result.co2e is not None
    assert result.co2e.spent == pytest.approx((400_000 * 0.2, 600_000 * 0.6))
    assert result.co2e.saved == pytest.approx((16_000, 108_000))
    assert result.money is not None
    assert result.money.saved == pytest.approx((8_000, 36_000))
    assert [row.name for row in result.rows()] == ["Energy", "CO2e of using it", "Cost"]
    assert result.money.saved_text() == "8,000 to 36,000 EUR"
    assert result.energy.spent_text() == "400,000 to 600,000 kWh"


def test_without_grid_and_price_there_is_only_energy() -> None:
    result = project_saving(SAVING, Cluster(1, exact_range(1), exact_range(1000)))
    assert [row.name for row in result.rows()] == ["Energy"]
    assert result.energy.spent == exact_range(1.0)
    said = " ".join(result.assumption_sentences)
    assert "not guessed" in said
    assert "No price" in said
    assert "not applied" in said


@given(SHARES, SHARES, SHARES, SHARES, SHARES)
def test_ranges_hold_whatever_their_parts_may_be(
    power: float, hours: float, saved: float, grid: float, price: float
) -> None:
    def at(ends: Range, share: float) -> float:
        return ends.lo + share * (ends.hi - ends.lo)

    wide = replace(CLUSTER, hours=Range(100, 8000))
    saving = replace(SAVING, fraction=Range(-0.1, 0.3))
    result = project_saving(saving, wide)
    kwh = at(wide.power_w, power) * at(wide.hours, hours) * 100 / 1000 * 1.25
    kwh_saved = kwh * at(saving.fraction, saved)
    kg = kwh_saved * at(Range(200, 600), grid) / 1000
    cost = kwh_saved * at(Range(0.1, 0.2), price)
    for row, value in zip(result.rows(), (kwh_saved, kg, cost), strict=True):
        slack = 1e-9 * max(1.0, abs(value))
        assert row.saved.lo - slack <= value <= row.saved.hi + slack


@given(st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_larger_saving_never_saves_less(less: float, more: float) -> None:
    low = project_saving(replace(SAVING, fraction=exact_range(min(less, more))), CLUSTER)
    high = project_saving(replace(SAVING, fraction=exact_range(max(less, more))), CLUSTER)
    assert high.energy.saved.lo >= low.energy.saved.lo


def test_a_saving_that_may_be_a_loss_stays_one() -> None:
    result = project_saving(replace(SAVING, fraction=Range(-0.1, 0.3)), CLUSTER)
    assert result.energy.saved == pytest.approx((-60_000, 180_000))
    assert result.energy.saved_text() == "−60,000 to 180,000 kWh"


@pytest.mark.parametrize("basis", [SavingBasis.FLOPS, SavingBasis.SECONDS, SavingBasis.STATED])
def test_what_was_not_measured_is_labelled_wherever_it_goes(basis: SavingBasis) -> None:
    result = project_saving(Saving(exact_range(0.3), basis, "a task"), CLUSTER)
    assert not result.measured
    assert "not measured" in result.claim
    assert f"{result.claim}." in result.assumption_sentences


def test_even_a_measured_saving_is_assumed_of_the_cluster() -> None:
    result = project_saving(replace(SAVING, notes=("4 pairs",)), CLUSTER)
    assert result.measured
    assert (
        "is assumed to hold on the cluster, too. It was not measured there."
        in result.assumption_sentences[0]
    )
    assert "Of the saving: 4 pairs." in result.assumption_sentences


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"gpus": 0}, "gpus"),
        ({"gpus": 10**9}, "gpus"),
        ({"hours": exact_range(9000)}, "hours"),
        ({"hours": Range(10, 1)}, "hours"),
        ({"power_w": exact_range(0)}, "power_w"),
        ({"power_w": exact_range(math.inf)}, "power_w"),
        ({"power_w": exact_range(70_000)}, "power_w"),
    ],
)
def test_what_is_no_cluster_is_refused_by_name(changes: dict[str, Any], argument: str) -> None:
    with pytest.raises(ImpactError, match=f"^{argument}=.* is not allowed: expected .*; "):
        replace(CLUSTER, **changes)
