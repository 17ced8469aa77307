"""The Energy page: what is shown of a run, what a reader states, and what is never assumed."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from effcore.config import resolve
from effcore.energy.base import BoardState
from effcore.energy.survey import SourceStatus
from effcore.events import Energy, Quality, RunEnd, RunStatus
from effcore.impact.ladder_file import ladder_path, save_ladder
from effcore.impact.ranges import number_text
from effcore.impact.saving import Basis
from effcore.runs.manager import shared_runs
from effcore.store import new_run_id
from effcore.summary import summary
from pages.ui.energy import sources as sources_module
from tests.impact.test_ladder_file import LADDER
from tests.pages.visit import SHORT, said, visit

PAGE = "energy.py"
METERED = Energy(
    7200.0, 7000.0, 7400.0, 60.0, Quality.MEASURED, "a counter", "GPU board", ("whole board",)
)
ESTIMATED = replace(METERED, joules=None, quality=Quality.ESTIMATED, scope="CPU")
NOTHING = Energy(None, None, None, 60.0, Quality.UNAVAILABLE, "no meter", "nothing", ("No TDP",))
HOSTILE = "![x](http://x/y.png) <b>"
END = RunEnd(
    RunStatus.FINISHED, "", "accuracy", 0.95, 4, 4000, 2000, 6e9, 1e10, 60.0, None
)  # fmt: skip
COUNTER = SourceStatus("nvml", "Board counter", Quality.MEASURED, True, "", "", "GPU board", "NVML")
MODEL = SourceStatus("cpu", "CPU model", Quality.ESTIMATED, True, "", "", "CPU", "a model")
DENIED = SourceStatus(
    "rapl", "RAPL", Quality.MEASURED, False, "no permission", "add a rule", "", ""
)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> list[SourceStatus]:
    """What the machine has; a test may change it."""
    found = [DENIED, MODEL]
    monkeypatch.setattr(sources_module, "survey", lambda: found)
    sources_module.sources.clear()
    return found


def stored(energy: Energy = METERED, selection: str = "auto", **changes: Any) -> str:
    """Put a finished run into the store without training it."""
    store, run_id = shared_runs().store, new_run_id()
    reference = changes.pop("reference", None)
    config = resolve({**SHORT, "selection": selection, "seed": changes.pop("seed", 0)})
    writer = store.create(config, run_id=run_id, reference_id=reference)
    writer.finish(replace(END, **changes), energy)
    writer.close()
    return run_id


def opened(**query: str) -> AppTest:
    """Open the page as by its address."""
    return visit(PAGE, **query)


def words(app: AppTest) -> str:
    """Everything that is written on the page."""
    parts = [*app.markdown, *app.caption, *app.code, *app.info, *app.error, *app.warning]
    tables = [table.value.reset_index().to_string() for table in app.table]
    return "\n".join([*(str(part.value) for part in parts), *tables]).replace("\\", "")


def table(app: AppTest, column: str) -> dict[str, str]:
    """The table that has a column, by its first one."""
    found = {str(n).replace("\\", ""): t.value[n] for t in app.table for n in t.value.columns}
    (rows,) = (found[name] for name in found if name.startswith(column))
    return as_read(rows)


def amounts(app: AppTest, place: int) -> dict[str, str]:
    """What stands of the run's energy (0) or of its impact (1)."""
    found = [t.value for t in app.table if list(t.value.columns) == ["Amount"]]
    return as_read(found[place]["Amount"])


def as_read(column: Any) -> dict[str, str]:
    """A table's column as a person reads it, by the name of each row."""
    return {str(name).replace("\\", ""): text.replace("\\", "") for name, text in column.items()}


# Without a run ---------------------------------------------------------------------------


def test_an_empty_store_says_where_to_begin() -> None:
    app = opened()
    assert not app.exception
    assert app.title[0].value == "Energy"
    assert "Start a run on the Live page" in said(app, "info")
    assert [header.value for header in app.header] == [
        "What this machine can measure",
        "Now",
        "A run's energy",
        "CO2e and cost",
        "In your cluster, over a year",
        "At larger sizes",
        "The claim, written out",
    ]
    assert said(app, "error") == said(app, "warning") == ""


def test_every_field_says_what_it_is_for() -> None:
    app = opened(pue="own")
    for field in [*app.selectbox, *app.number_input, *app.text_input, *app.radio]:
        assert field.help, field.label
        assert field.label


def test_nothing_is_filled_in_unasked() -> None:
    app = opened()
    assert [field.value for field in app.number_input] == [None] * len(app.number_input)
    assert app.selectbox(key="energy_country").value is None
    assert app.radio(key="energy_pue").value == "none"
    assert not app.query_params


# What can be measured --------------------------------------------------------------------


def test_sources_are_listed_with_reason_and_remedy() -> None:
    app = opened()
    assert "Nothing here measures joules" in words(app)
    assert table(app, "Joules here") == {
        "RAPL": "none (would be MEASURED)",
        "CPU model": "ESTIMATED",
    }
    why = table(app, "What it covers, or why not")
    assert why == {"RAPL": "No permission. Remedy: add a rule.", "CPU model": "CPU, by a model."}


@pytest.mark.parametrize(
    ("have", "expected"),
    [
        ([DENIED], "Nothing here tells joules."),
        ([COUNTER, MODEL], "Joules here are measured"),
        ([COUNTER._replace(quality=Quality.MODELLED)], "Joules here are modelled"),
    ],
)
def test_the_best_source_is_said_first(
    machine: list[SourceStatus], have: list[SourceStatus], expected: str
) -> None:
    machine[:] = have
    app = opened()
    assert not app.exception
    assert expected in words(app)


# A run's energy --------------------------------------------------------------------------


def test_measured_joules_are_the_headline_with_their_quality() -> None:
    stored()
    app = opened()
    assert not app.exception
    assert [(m.label, m.value) for m in app.metric] == [
        ("Energy, MEASURED", "7.20 kJ"),
        ("Computation skipped", "40.0%"),
        ("Time", "60.0 s"),
    ]
    rows = amounts(app, 0)
    assert rows["Energy"] == "7,200.0 J MEASURED"
    assert rows["Interval"] == "7,000 to 7,400 J MEASURED"
    assert rows["Per example trained on"] == "3.50 to 3.70 J MEASURED"
    assert rows["Per example seen"] == "1.75 to 1.85 J MEASURED"
    assert "whole board" in words(app)


def test_what_the_record_holds_is_in_the_claim_unasked() -> None:
    idle_w = ((38.0, 40.0, 42.0), (47.0, 50.0, 53.0))
    facts = {"card": "NVIDIA Fake", "driver": "NVIDIA driver 535", "power_limit_w": 700.0}
    stored(replace(METERED, idle_w=idle_w, idle_s=(0.6,) * 2, left_out="CPU and memory", **facts))  # type: ignore[arg-type]
    app = opened()
    rows = amounts(app, 0)
    short = "read for 0.6 s, short of the 10 s that are meant"
    assert rows["Idle board"] == f"40.0 W before and 50.0 W after training, MEASURED, {short}"
    # 7,200 J less 45 W for 60 s; the widest that both intervals allow.
    above = "4,500.0 J MEASURED, 62% of all; 3,820 to 5,120 J MEASURED; rough, as the idle " \
        "readings are short"  # fmt: skip
    assert rows["Above idle"] == above
    claim = next(c.value for c in app.code if c.value.startswith("Claim:"))
    for line in (
        f"Idle power: in the joules: {rows['Idle board']}; above it {above}.",
        "Card: NVIDIA Fake.",
        "Driver: NVIDIA driver 535.",
        "Power limit: 700 W.",
        "Left out: whatever lies outside the boundary, GPU board: CPU and memory.",
    ):
        assert line in claim
    assert app.text_input(key="energy_claim_card").placeholder == "As recorded: NVIDIA Fake"


@pytest.mark.parametrize("energy", [ESTIMATED, NOTHING])
def test_without_a_measurement_flops_and_seconds_are_the_headline(energy: Energy) -> None:
    stored(energy)
    app = opened()
    assert not app.exception
    assert [m.label for m in app.metric] == ["FLOPs spent", "Computation skipped", "Time"]
    assert app.metric[0].value == "6.00 GFLOP"
    assert energy.quality.value.upper() in amounts(app, 0)["Energy"]


@pytest.mark.parametrize("quality", [Quality.ESTIMATED, Quality.RECORDED])
def test_whatever_comes_of_joules_names_their_quality_and_no_better_one(quality: Quality) -> None:
    idle_w = ((38.0, 40.0, 42.0), (47.0, 50.0, 53.0))
    joules = None if quality is Quality.ESTIMATED else METERED.joules
    stored(replace(METERED, joules=joules, quality=quality, idle_w=idle_w))
    app = opened(country="DEU", price="0.3", currency="EUR")
    claim = next(c.value for c in app.code if c.value.startswith("Claim:"))
    texts = [*amounts(app, 0).values(), *amounts(app, 1).values(), *claim.splitlines()]
    texts += [f"{tile.value} {tile.label}" for tile in app.metric]
    derived = [text for text in texts if re.search(r"\d [kMG]?(J|kWh|g CO2e|EUR)\b", text)]
    assert len(derived) > 6
    assert [text for text in derived if quality.value.upper() not in text] == []
    better = {each.value.upper() for each in Quality} - {quality.value.upper()}
    said = " ".join(texts)
    assert [word for word in better if word in said] == []


def test_the_address_names_the_run_and_the_newest_comes_first() -> None:
    first = stored()
    assert opened().query_params["run"] == first
    second = stored(seconds=30.0)
    app = opened(run=first)
    box = app.selectbox(key="energy_run")
    assert box.value == first
    box.set_value(second).run()
    assert app.query_params["run"] == second
    assert app.metric[2].value == "30.0 s"


def test_a_run_that_is_not_there_is_said() -> None:
    kept = stored()
    app = opened(run="20200101-000000-aaaa")
    assert not app.exception
    assert "no run" in said(app, "warning")
    assert app.selectbox(key="energy_run").value == kept


# CO2e and cost ---------------------------------------------------------------------------


def test_kwh_alone_until_something_is_stated() -> None:
    stored()
    app = opened()
    assert amounts(app, 1) == {"Energy": "0.00194 to 0.00206 kWh MEASURED"}
    for sentence in ("is not guessed", "No price is stated", "not applied", "left out"):
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


def test_flops_saved_are_carried_over_with_their_label() -> None:
    stored()
    app = opened(**CLUSTER)
    claim = "Saved. Assumes joules follow FLOPs: not measured"
    assert table(app, claim) == {"Energy": "128,000 to 192,000 kWh"}
    assert "Assumes joules follow FLOPs: not measured" in words(app)
    assert "holds for what the cluster trains: not measured there" in words(app)


def test_measured_joules_beside_a_reference_are_offered_first() -> None:
    dense = stored(replace(METERED, joules=1e4, lo=9.9e3, hi=1.01e4), "dense", flops_spent=1e10)
    stored(reference=dense)
    app = opened(**CLUSTER, price="0.1", currency="EUR")
    box = app.radio(key="energy_saving")
    assert box.value == "joules"
    assert "Saving of MEASURED joules" in words(app)
    assert set(table(app, "Saved")) == {"Energy", "Cost"}
    box.set_value("seconds").run()
    assert "Assumes joules follow seconds: not measured" in words(app)


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
    assert "Saving against dense training: 26.5% to 31.5% · Saving of MEASURED joules" in claim
    assert "Repeats: 3 pairs, 95% t interval; accuracy 0.950 on average" in claim


def test_a_saving_can_be_stated_where_no_run_has_one() -> None:
    app = opened(**CLUSTER)
    assert "nothing is assumed for you" in words(app)
    app = opened(**CLUSTER, saved_lo="10", saved_hi="20")
    assert table(app, "Saved") == {"Energy": "32,000 to 96,000 kWh"}
    assert "as stated by the reader: not measured here" in words(app)


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
    assert "used once its currency is stated" in words(app)
    assert "CO2e" in words(app)


@pytest.mark.parametrize("name", ["grid_year", "gpus"])
def test_a_number_without_end_is_left_out(name: str) -> None:
    app = opened(**{name: "1" + "0" * 400, "grid": "100"})
    assert not app.exception
    assert "Left out of the address" in said(app, "warning")


# The ladder and the claim ----------------------------------------------------------------


def test_without_a_ladder_its_command_stands_there() -> None:
    assert "python -m effcore bench ladder" in [c.value for c in opened().code]


def test_a_ladder_is_drawn_with_where_it_stops_being_measured() -> None:
    save_ladder(ladder_path(shared_runs().store.home), LADDER)
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
        replace(step, savings={**step.savings, Basis.JOULES: (0.1, 0.12)}) for step in LADDER.steps
    )
    save_ladder(
        ladder_path(shared_runs().store.home),
        replace(LADDER, steps=steps, quality=Quality.RECORDED),
    )
    app = opened()
    assert not app.exception
    assert app.radio(key="energy_ladder_basis").options[0] == "RECORDED joules"
    assert len(table(app, "RECORDED joules saved")) == 3
    assert "RECORDED joules saved" in app.get("plotly_chart")[0].proto.spec


def test_a_damaged_ladder_is_said_and_the_rest_of_the_page_stands() -> None:
    path = ladder_path(shared_runs().store.home)
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
    assert len(shown) == 3, "as the instrument, its note, and among what is assumed"
    assert all("![" not in text and "<b>" not in text for text in texts)


# Where the time went, and to a target ----------------------------------------------------


def trained() -> str:
    """Train the shortest run there is and return its id."""
    run = shared_runs().start(resolve({**SHORT, "device": "cpu"}))[-1]
    assert run.join(60)
    return run.run_id


def test_a_trained_run_says_where_its_time_went() -> None:
    run_id = trained()
    app = opened(run=run_id)
    assert not app.exception
    shares = table(app, "Seconds")
    assert {"forward", "backward", "optimizer", "evaluation"} <= set(shares)
    run = shared_runs().get(run_id)
    assert run is not None
    spent = summary(run.snapshot())["phases_s"]
    assert shares["backward"] == number_text(spent["backward"])
    assert "No energy by phase:" in words(app)
    assert "is no counter whose steps can be timed" in words(app)


def test_the_best_that_a_run_reached_is_a_target_it_reached() -> None:
    run_id = trained()
    app = opened(run=run_id)
    field = app.number_input(key=f"energy_target_{run_id}")
    assert "This run did not reach it." not in words(app)
    field.set_value(100.5).run()
    assert "This run did not reach it." in words(app)


def test_a_run_without_phases_or_evaluations_says_nothing_of_them() -> None:
    app = opened(run=stored())
    assert not app.exception
    assert "Where the time went" not in words(app)
    assert not [each for each in app.number_input if str(each.key).startswith("energy_target")]


# Now -------------------------------------------------------------------------------------


def test_nothing_trains_and_the_page_says_what_stands_there_else() -> None:
    assert "stand here while something trains" in words(opened())


def test_a_run_under_way_shows_what_its_meter_says() -> None:
    run = shared_runs().start(resolve({**SHORT, "epochs": 1000, "device": "cpu"}))[-1]
    try:
        run.metered.meter.sample()
        app = opened()
        assert not app.exception
        told = as_read(app.table[1].value["Amount"])
        assert "not told by this instrument" in told["Temperature, clocks, limit"]
        assert told["Power"].endswith("ESTIMATED")
    finally:
        run.stop()
        assert run.join(60)


def test_what_a_board_says_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    state = BoardState(61.0, 1980.0, 700.0, ("power cap",), 0.93, 1.0)
    monkeypatch.setattr("effcore.energy.meter.RunMeter.state", lambda self: state)
    monkeypatch.setattr("effcore.energy.meter.RunMeter.age_s", lambda self: 7.0)
    run = shared_runs().start(resolve({**SHORT, "epochs": 1000, "device": "cpu"}))[-1]
    try:
        app = opened()
        told = as_read(app.table[1].value["Amount"])
    finally:
        run.stop()
        assert run.join(60)
    assert told["Temperature"] == "61.0 °C"
    assert told["Clock"] == "1,980 MHz"
    assert told["Power limit"] == "700 W"
    assert told["Busy"] == "93.0 % of the time"
    assert told["Clocks held down by"] == "power cap"
    assert "As of 7.00 s ago: the run is held, or its meter silent." in words(app)
