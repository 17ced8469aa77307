"""The Energy page: what joules come to elsewhere, at larger sizes, and in a claim."""

from __future__ import annotations

from dataclasses import replace

import pytest

from effcore.impact.saving import SavingBasis
from effcore.impact.scale_ladder import ladder_path, save_ladder
from effcore.records import EnergyQuality
from effcore.runs.manager import shared_run_manager
from tests.impact.test_ladder_file import LADDER
from tests.pages.energy import (
    ESTIMATED,
    HOSTILE,
    METERED,
    NOTHING,
    PAGE,
    amounts,
    opened,
    stored,
    table,
    words,
)
from tests.pages.visit import said

pytestmark = pytest.mark.usefixtures("machine")


# CO2e and cost ---------------------------------------------------------------------------


def test_kwh_alone_until_something_is_stated() -> None:
    stored()
    app = opened()
    assert amounts(app, 1) == {"Energy": "0.00194 to 0.00206 kWh MEASURED"}
    for sentence in ("is not guessed", "No price is stated", "not applied", "not included"):
        assert sentence in words(app)


def test_country_price_and_overhead_come_from_the_address_with_their_sources() -> None:
    stored()
    app = opened(country="DEU", price="0.3", currency="EUR", pue="mean")
    rows = amounts(app, 1)
    assert set(rows) >= {"CO2e of using it", "Cost", "SCI operational part"}
    # 7,000 to 7,400 J at PUE 1.54 and 380.95 g, hours 0.19 to 2.07 times that.
    lo = 7000 / 3.6e6 * 1.54 * 380.95 * 0.19
    assert rows["CO2e of using it"].startswith(f"{lo:.3f} to 2.50 g CO2e, from MEASURED")
    assert "Germany, 381 g CO2e/kWh on average over 2023" in words(app)
    assert "Wiesner" in words(app)
    app.selectbox(key="energy_country").set_value("FRA").run()
    assert app.query_params["country"] == "FRA"
    assert amounts(app, 1)["CO2e of using it"] != rows["CO2e of using it"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"price": "-1", "currency": "EUR"}, "price="),
        ({"pue": "own", "own_pue": "0.5"}, "pue="),
        ({"country": "DEU", "hour_lo": "1.5"}, "spread="),
        ({"grid": "50"}, "grid_year="),
        ({"grid": "50", "grid_year": "2025"}, "source="),
        ({"grid": "1e9", "grid_year": "2025", "grid_source": "x"}, "gco2e_kwh="),
    ],
)
def test_what_cannot_be_used_is_said_with_a_remedy(query: dict[str, str], message: str) -> None:
    stored()
    app = opened(**query)
    assert not app.exception
    assert message in said(app, "error")
    assert "is not allowed: expected" in said(app, "error")


@pytest.mark.parametrize(
    "query",
    [
        {"country": "deu"},
        {"price": "cheap"},
        {"price": "nan"},
        {"gpus": "1e3"},
        {"pue": "3"},
        {"saving": "watts"},
        {"currency": "x" * 500},
        {"grid_year": "9" * 5000},
    ],
)
def test_what_of_the_address_is_nonsense_is_named_and_left_out(query: dict[str, str]) -> None:
    app = opened(**query, hours="100")
    assert not app.exception
    assert "Left out of the address" in said(app, "warning")
    assert app.number_input(key="energy_hours").value == 100


def test_what_was_stated_survives_a_look_at_another_page() -> None:
    app = opened(country="DEU", gpus="8")
    app.switch_page("runs.py").run()
    app.query_params.clear()  # as the browser leaves it
    app.switch_page(PAGE).run()
    assert app.selectbox(key="energy_country").value == "DEU"
    assert app.number_input(key="energy_gpus").value == 8
    assert app.query_params["gpus"] == "8"


# The cluster -----------------------------------------------------------------------------

CLUSTER = {"gpus": "100", "hours": "8000", "watts_lo": "400", "watts_hi": "600"}


def test_computation_not_spent_is_carried_over_and_not_called_saved() -> None:
    stored()  # which skipped 60% of what it considered, and spent 60% of full training
    app = opened(**CLUSTER)
    assert table(app, "Not spent. Computation not spent:") == {"Energy": "128,000 to 192,000 kWh"}
    assert "full training of seed 0 has not finished, so there is no comparison" in words(app)
    assert app.radio(key="energy_saving").options[0] == "Computation not spent"
    claim = next(c.value for c in app.code if c.value.startswith("Claim:"))
    assert "Computation not spent: 40.0% · Computation not spent" in claim
    assert "Saving against full training" not in claim
    assert "is assumed to hold on the cluster, too. It was not measured there" in words(app)


def test_flops_saved_are_carried_over_with_their_label() -> None:
    stored(reference=stored(ESTIMATED, "dense", flops_spent=1e10, metric=0.96))
    app = opened(**CLUSTER)
    claim = "Saved. Assumes that joules follow FLOPs: not measured"
    assert table(app, claim) == {"Energy": "128,000 to 192,000 kWh"}
    assert "Assumes that joules follow FLOPs: not measured" in words(app)
    assert "−40% computation, −1.00 points, one seed" in words(app)
    assert "is assumed to hold on the cluster, too. It was not measured there" in words(app)


def test_measured_joules_beside_a_reference_are_offered_first() -> None:
    dense = stored(replace(METERED, joules=1e4, lo=9.9e3, hi=1.01e4), "dense", flops_spent=1e10)
    stored(reference=dense)
    app = opened(**CLUSTER, price="0.1", currency="EUR")
    box = app.radio(key="energy_saving")
    assert box.value == "joules"
    assert "Saving of MEASURED joules" in words(app)
    assert set(table(app, "Saved")) == {"Energy", "Cost"}
    box.set_value("seconds").run()
    assert "Assumes that joules follow seconds: not measured" in words(app)


def test_over_several_seeds_a_saving_has_their_scatter() -> None:
    dense = replace(METERED, joules=1e4, lo=9.9e3, hi=1.01e4)
    for seed, joules in ((0, 7000.0), (1, 7200.0), (2, 7100.0)):
        stored(dense, "dense", seed=seed, flops_spent=1e10)
        stored(replace(METERED, joules=joules), seed=seed)
    app = opened()
    assert not app.exception
    assert "3 pairs of runs, each with the same seed" in words(app)
    claim = next(c.value for c in app.code if c.value.startswith("Claim:"))
    # 1 - mean ± t(2) x sem of 0.70, 0.72, 0.71.
    assert "Saving against full training: 26.5% to 31.5% · Saving of MEASURED joules" in claim
    assert "Repeats: 3 pairs, 95% t interval; accuracy 0.950 on average" in claim


def test_a_saving_can_be_stated_where_no_run_has_one() -> None:
    app = opened(**CLUSTER)
    assert "There are no default values" in words(app)
    app = opened(**CLUSTER, saved_lo="10", saved_hi="20")
    assert table(app, "Saved") == {"Energy": "32,000 to 96,000 kWh"}
    assert "stated by the reader: not measured here" in words(app)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"saved_lo": "30", "saved_hi": "20"}, "saving in %=(30.0, 20.0)"),
        ({"saved_lo": "30", "saved_hi": "200"}, "saving in %=(30.0, 200.0)"),
        ({"saved_lo": "10", "saved_hi": "20", "hours": "9000"}, "hours="),
        ({"saved_lo": "10", "saved_hi": "20", "watts_lo": "700"}, "power_w="),
        ({"saved_lo": "10", "saved_hi": "20", "gpus": "0"}, "gpus="),
    ],
)
def test_an_impossible_cluster_is_said(query: dict[str, str], message: str) -> None:
    app = opened(**{**CLUSTER, **query})
    assert not app.exception
    assert message in said(app, "error")


def test_a_price_without_a_currency_waits_for_it_and_holds_nothing_up() -> None:
    stored()
    app = opened(price="0.3", country="DEU")
    assert said(app, "error") == ""
    assert "State the currency, too" in words(app)
    assert "CO2e" in words(app)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"gpus": "abc"}, "gpus='abc' is not allowed: expected a whole number; correct it in the"),
        ({"country": "deu"}, "country='deu' is not allowed: expected a country's code of three"),
        ({"saving": "x"}, "saving='x' is not allowed: expected one of joules, seconds, FLOPs, s"),
        ({"gpus": "-1"}, "gpus=-1 is not allowed: expected from 1 to 10,000,000; count the GPUs"),
        ({"watts_lo": "0"}, "power_w=0.0 is not allowed: expected from 1 to 5,000"),
    ],
)
def test_an_address_that_cannot_be_is_told_what_is_allowed(
    query: dict[str, str], message: str
) -> None:
    app = opened(**query)
    assert message in said(app, "warning") + said(app, "error")


@pytest.mark.parametrize("name", ["grid_year", "gpus"])
def test_a_number_without_end_is_left_out(name: str) -> None:
    app = opened(**{name: "1" + "0" * 400, "grid": "100"})
    assert not app.exception
    assert "Left out of the address" in said(app, "warning")


# The ladder and the claim ----------------------------------------------------------------


def test_without_a_ladder_its_command_stands_there() -> None:
    assert "python -m effcore bench ladder" in [c.value for c in opened().code]


def test_a_ladder_is_drawn_with_where_it_stops_being_measured() -> None:
    save_ladder(ladder_path(shared_run_manager().store.home), LADDER)
    app = opened()
    assert not app.exception
    (chart,) = app.get("plotly_chart")
    assert "not measured" in chart.proto.spec
    assert table(app, "Seconds saved")["of 10"] == "−1.7% to 23.7%"
    assert "a processor" in words(app)
    app.radio(key="energy_ladder_basis").set_value("FLOPs").run()
    assert "FLOPs saved" in app.get("plotly_chart")[0].proto.spec


def test_joules_saved_on_a_ladder_name_their_quality() -> None:
    steps = tuple(
        replace(step, savings={**step.savings, SavingBasis.JOULES: (0.1, 0.12)})
        for step in LADDER.steps
    )
    save_ladder(
        ladder_path(shared_run_manager().store.home),
        replace(LADDER, steps=steps, quality=EnergyQuality.RECORDED),
    )
    app = opened()
    assert not app.exception
    assert app.radio(key="energy_ladder_basis").options[0] == "RECORDED joules"
    assert len(table(app, "RECORDED joules saved")) == 3
    assert "RECORDED joules saved" in app.get("plotly_chart")[0].proto.spec


def test_a_damaged_ladder_is_said_and_the_rest_of_the_page_stands() -> None:
    path = ladder_path(shared_run_manager().store.home)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("nonsense")
    app = opened()
    assert not app.exception
    assert "The ladder cannot be read" in said(app, "error")
    assert len(app.header) == 7


def test_the_claim_says_what_is_missing_and_takes_what_is_added() -> None:
    run_id = stored()
    app = opened()
    claim = next(c.value for c in app.code if c.value.startswith("Claim:"))
    assert "7,200.0 J MEASURED" in claim
    assert "Driver: not stated." in claim
    assert "Accuracy 95.00 % on the test split" in claim
    assert run_id in claim
    app.text_input(key="energy_claim_driver").set_value("580.65").run()
    claim = next(c.value for c in app.code if c.value.startswith("Claim:"))
    assert "Driver: 580.65." in claim
    assert app.get("download_button")


def test_what_a_run_says_is_no_markup() -> None:
    stored(replace(NOTHING, source=HOSTILE, notes=(HOSTILE,)))
    app = opened()
    texts = [str(part.value) for part in [*app.markdown, *app.caption]]
    texts += [str(cell) for t in app.table for cell in t.value.reset_index().to_numpy().ravel()]
    shown = [text for text in texts if "y\\.png" in text]
    assert len(shown) == 2, "as the instrument, and its note"
    assert all("![" not in text and "<b>" not in text for text in texts)
