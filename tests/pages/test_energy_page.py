"""The Energy page: what is shown of a run, what a reader states, and what is never assumed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from effcore.config import resolve
from effcore.energy.sources.base import BoardState
from effcore.energy.sources.survey import SourceStatus
from effcore.impact.ranges import number_text
from effcore.records import Energy, EnergyQuality
from effcore.runs.manager import shared_run_manager
from effcore.runs.summary import run_summary
from tests.pages.energy import (
    COUNTER,
    DENIED,
    ESTIMATED,
    METERED,
    MODEL,
    NOTHING,
    amounts,
    as_read,
    opened,
    stored,
    table,
    words,
)
from tests.pages.visit import SHORT, said

pytestmark = pytest.mark.usefixtures("machine")


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
    assert "This machine has no energy meter; energy can only be estimated" in words(app)
    assert table(app, "Joules here") == {
        "RAPL": "none (would be MEASURED)",
        "CPU model": "ESTIMATED",
    }
    why = table(app, "What it covers, or why not")
    assert why == {"RAPL": "No permission. Remedy: add a rule.", "CPU model": "CPU, by a model."}


@pytest.mark.parametrize(
    ("have", "expected"),
    [
        ([DENIED], "This machine has no energy meter."),
        ([COUNTER, MODEL], "Energy is measured here"),
        ([COUNTER._replace(quality=EnergyQuality.MODELLED)], "Energy is modelled here"),
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
        ("Computation not spent", "40%"),
        ("Computation skipped", "60.0%"),
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
    short = "read for 0.6 s, shorter than the intended 10 s"
    assert rows["Idle board"] == f"40.0 W before and 50.0 W after training, MEASURED, {short}"
    # 7,200 J less 45 W for 60 s; the widest that both intervals allow.
    above = (
        "4,500.0 J MEASURED, 62% of the total; 3,820 to 5,120 J MEASURED; imprecise, since the "
        "idle readings are short"
    )
    assert rows["Above idle"] == above
    claim = next(c.value for c in app.code if c.value.startswith("Claim:"))
    for line in (
        f"Idle power: included in the joules: {rows['Idle board']}; above idle {above}.",
        "Card: NVIDIA Fake.",
        "Driver: NVIDIA driver 535.",
        "Power limit: 700 W.",
        "Not covered: everything outside the boundary, GPU board: CPU and memory.",
    ):
        assert line in claim
    assert app.text_input(key="energy_claim_card").placeholder == "As recorded: NVIDIA Fake"


@pytest.mark.parametrize("energy", [ESTIMATED, NOTHING])
def test_without_a_measurement_flops_and_seconds_are_the_headline(energy: Energy) -> None:
    stored(energy)
    app = opened()
    assert not app.exception
    labels = ["FLOPs spent", "Computation not spent", "Computation skipped", "Time"]
    assert [m.label for m in app.metric] == labels
    assert app.metric[0].value == "6.00 GFLOP"
    said = "not measured" if energy is NOTHING else "ESTIMATED"
    assert said in amounts(app, 0)["Energy"]


@pytest.mark.parametrize("quality", [EnergyQuality.ESTIMATED, EnergyQuality.RECORDED])
def test_whatever_comes_of_joules_names_their_quality_and_no_better_one(
    quality: EnergyQuality,
) -> None:
    idle_w = ((38.0, 40.0, 42.0), (47.0, 50.0, 53.0))
    joules = None if quality is EnergyQuality.ESTIMATED else METERED.joules
    stored(replace(METERED, joules=joules, quality=quality, idle_w=idle_w))
    app = opened(country="DEU", price="0.3", currency="EUR")
    claim = next(c.value for c in app.code if c.value.startswith("Claim:"))
    texts = [*amounts(app, 0).values(), *amounts(app, 1).values(), *claim.splitlines()]
    texts += [f"{tile.value} {tile.label}" for tile in app.metric]
    derived = [text for text in texts if re.search(r"\d [kMG]?(J|kWh|g CO2e|EUR)\b", text)]
    assert len(derived) > 6
    assert [text for text in derived if quality.value.upper() not in text] == []
    better = {each.value.upper() for each in EnergyQuality} - {quality.value.upper()}
    said = " ".join(texts)
    assert [word for word in better if word in said] == []


def test_the_address_names_the_run_and_the_newest_comes_first() -> None:
    first = stored()
    assert opened().query_params["run"] == first
    second = stored(seconds=30.0)
    app = opened(run=first)
    box = app.selectbox(key="energy_run")
    assert box.value == first
    assert [first in name for name in box.options] == [False, False], "what it is, no long id"
    box.set_value(second).run()
    assert app.query_params["run"] == second
    assert app.metric[3].value == "30.0 s"


def test_a_run_that_is_not_there_is_said() -> None:
    kept = stored()
    app = opened(run="20200101-000000-aaaa")
    assert not app.exception
    assert "no run" in said(app, "warning")
    assert app.selectbox(key="energy_run").value == kept


# Where the time went, and to a target ----------------------------------------------------


def trained() -> str:
    """Train the shortest run there is and return its id."""
    run = shared_run_manager().start(resolve({**SHORT, "device": "cpu"}))[-1]
    assert run.join(60)
    return run.run_id


def test_a_trained_run_says_where_its_time_went() -> None:
    run_id = trained()
    app = opened(run=run_id)
    assert not app.exception
    shares = table(app, "Seconds")
    assert {"forward", "backward", "optimizer", "evaluation"} <= set(shares)
    run = shared_run_manager().find_run(run_id)
    assert run is not None
    spent = run_summary(run.snapshot())["phases_s"]
    assert shares["backward"] == number_text(spent["backward"])
    assert "No energy by phase:" in words(app)
    assert "the updates of this source cannot be timed" in words(app)


def test_the_best_that_a_run_reached_is_a_target_it_reached() -> None:
    run_id = trained()
    app = opened(run=run_id)
    field = app.number_input(key=f"energy_target_{run_id}")
    assert "This run did not reach the target." not in words(app)
    field.set_value(100.5).run()
    assert "This run did not reach the target." in words(app)


def test_a_run_without_phases_or_evaluations_says_nothing_of_them() -> None:
    app = opened(run=stored())
    assert not app.exception
    assert "Where the time went" not in words(app)
    assert not [each for each in app.number_input if str(each.key).startswith("energy_target")]


# Now -------------------------------------------------------------------------------------


def test_nothing_trains_and_the_page_says_what_stands_there_else() -> None:
    assert "are shown here while a run trains" in words(opened())


def test_a_run_under_way_shows_what_its_meter_says() -> None:
    run = shared_run_manager().start(resolve({**SHORT, "epochs": 1000, "device": "cpu"}))[-1]
    try:
        run.meter.sample()
        app = opened()
        assert not app.exception
        told = as_read(app.table[1].value["Amount"])
        assert "not provided by this meter" in told["Temperature, clocks, limit"]
        assert told["Power"].endswith("ESTIMATED")
    finally:
        run.stop()
        assert run.join(60)


def test_what_a_board_says_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    state = BoardState(61.0, 1980.0, 700.0, ("power cap",), 0.93, 1.0)
    monkeypatch.setattr("effcore.energy.meter.RunMeter.state", lambda self: state)
    monkeypatch.setattr("effcore.energy.meter.RunMeter.reading_age_s", lambda self: 7.0)
    run = shared_run_manager().start(resolve({**SHORT, "epochs": 1000, "device": "cpu"}))[-1]
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
    assert told["Clocks throttled by"] == "power cap"
    assert "Reading from 7.00 s ago: the run is paused, or its meter has stopped." in words(app)
