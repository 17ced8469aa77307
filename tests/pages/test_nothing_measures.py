"""A machine on which nothing tells joules: every page says so, and goes by FLOPs and seconds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

import pytest

from effcore.config import resolve
from effcore.energy.sources.base import SOURCES, EnergyUnavailable
from effcore.live.tiles import status_with_tiles
from effcore.records import EnergyQuality
from effcore.runs.manager import shared_run_manager
from pages.ui.energy import sources as sources_module
from tests.pages.visit import SHORT, panels, visit

WHY = "there is no instrument"


@pytest.fixture(autouse=True)
def nothing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(device: str) -> NoReturn:
        raise EnergyUnavailable(WHY, "buy one")

    for kind in SOURCES:
        monkeypatch.setattr(kind, "open", refuse)
    sources_module.cached_source_survey.clear()
    yield
    sources_module.cached_source_survey.clear()


def test_every_page_says_so_and_headlines_flops_and_seconds() -> None:
    run = shared_run_manager().start(resolve({**SHORT, "device": "cpu"}))[-1]
    assert run.join(60)
    look = run.snapshot()
    assert look.energy.quality is EnergyQuality.UNAVAILABLE
    assert WHY in look.energy.notes[0]

    live = visit(run=run.run_id)
    assert panels(live)
    tiles = {tile["id"]: tile for tile in status_with_tiles(look, run.description())["tiles"]}
    assert (tiles["energy"]["label"], tiles["time"]["label"]) == ("FLOPs spent", "Time")
    assert tiles["energy"]["unit"].endswith("FLOP")
    assert tiles["energy"]["lines"][0] == "energy unavailable"
    assert WHY in tiles["energy"]["lines"][1]

    runs = visit("runs.py")
    assert runs.dataframe[0].value["Energy"].to_list() == ["not measured"]

    energy = visit("energy.py")
    words = " ".join(str(part.value) for part in [*energy.markdown, *energy.caption])
    assert WHY not in words, "told in the table, and referred to"
    assert "the table at the top of this page gives the reasons" in words
    assert "CO2e and cost cannot be computed" in words
    assert "This machine has no energy meter." in words
    labels = ["FLOPs spent", "Computation not spent", "Computation skipped", "Time"]
    assert [tile.label for tile in energy.metric] == labels
    (claim,) = [c.value for c in energy.code if c.value.startswith("Claim:")]
    assert claim.startswith("Claim: no joules are claimed.")
    assert "Notes: no energy source was available; the run's record gives the reasons" in claim

    for page in (live, runs, energy, visit("compare.py"), visit("frontier.py")):
        assert not page.exception
        assert [box.value for box in page.error] == []
