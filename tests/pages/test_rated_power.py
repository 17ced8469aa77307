"""The rated power of the processor is stated on the page, and joules estimated from then on."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from effcore.energy.meter import RunMeter
from effcore.energy.sources.cpu_estimate import TDP_VARIABLE, stored_tdp_w, tdp_file
from effcore.records import EnergyQuality
from pages.ui.energy import sources as sources_module
from tests.pages.visit import visit

FIELD = "energy_rated_power"


@pytest.fixture(autouse=True)
def nothing_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TDP_VARIABLE)
    sources_module.cached_source_survey.clear()


def words(app: AppTest) -> str:
    return " ".join(element.value for element in app.markdown)


def captions(app: AppTest) -> list[str]:
    return [caption.value.replace("\\", "") for caption in app.caption]


def quality_of_a_run() -> EnergyQuality:
    with RunMeter.open("cpu") as meter:
        return meter.energy().quality


def test_a_stated_power_is_kept_and_makes_joules_from_the_next_run_on() -> None:
    app = visit("energy.py")
    assert "This machine has no energy meter" in words(app)
    assert app.number_input(key=FIELD).value is None
    assert quality_of_a_run() is EnergyQuality.UNAVAILABLE
    app.number_input(key=FIELD).set_value(65.0).run()
    assert not app.exception
    assert stored_tdp_w() == 65
    assert "energy can only be estimated" in words(app)
    assert quality_of_a_run() is EnergyQuality.ESTIMATED
    assert visit("energy.py").number_input(key=FIELD).value == 65
    app.button(key="energy_forget").click().run()
    assert not app.exception
    assert app.number_input(key=FIELD).value is None
    assert stored_tdp_w() is None
    assert "This machine has no energy meter" in words(app)


def test_the_environment_wins_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TDP_VARIABLE, "65")
    app = visit("energy.py")
    assert app.number_input(key=FIELD).disabled
    assert any(f"{TDP_VARIABLE}=65 overrides" in text for text in captions(app))


def test_that_it_cannot_be_kept_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = visit("energy.py")
    tdp_file().with_suffix(".new").mkdir(parents=True)
    app.number_input(key=FIELD).set_value(65.0).run()
    assert not app.exception
    assert "could not be stored" in app.error[0].value
    assert stored_tdp_w() is None
