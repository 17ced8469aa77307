"""The Runs page as a person uses it: found, named, laid over, deleted and back, taken along."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from effcore.bench.app_server import AppServer
from effcore.records import EvalEvent
from effcore.store import Store
from tests.browser.site import Site
from tests.browser.test_access import violations
from tests.store.samples import CONFIG, END, ESTIMATE, block

pytestmark = pytest.mark.browser

TASKS = ("digits", "tabular-wine", "tabular-digits")


@pytest.fixture
def runs(server: AppServer) -> Iterator[list[str]]:
    """Three runs of accuracy, recorded without training; gone again afterwards."""
    store = Store(server.home)
    made = []
    for number, task in enumerate(TASKS):
        config = dataclasses.replace(CONFIG, task=task, model="mlp", seed=900 + number)
        writer = store.create_run(config)
        writer.write_event(block(1, 4))
        for step in range(1, 9):
            score = 1 - 1 / (step + number + 1)
            writer.write_event(EvalEvent(step, 64 * step, step / 8, 1e6 * step, 1 / step, score))
        writer.finish(END, ESTIMATE)
        made.append(writer.run_id)
    yield made
    for run in store.runs():
        if run.config.seed >= 900:
            store.delete_run(run.run_id)
    store.close()


def box(site: Site, label: str) -> Locator:
    return site.page.get_by_role("textbox", name=label, exact=True)


def find(site: Site, words: str) -> None:
    field = box(site, "Search")
    expect(field).to_have_count(1)  # while the page is drawn anew, there may be two
    field.fill(words)
    field.press("Enter")


def counted(site: Site, pattern: str) -> Locator:
    return site.page.get_by_text(re.compile(pattern))


def pick(site: Site, *rows: int) -> None:
    """Tick rows of the table, the first of which is 0: it is drawn on a canvas."""
    table = site.page.get_by_test_id("stDataFrame").bounding_box()
    assert table is not None
    for row in rows:
        site.page.mouse.click(table["x"] + 16, table["y"] + 35 * 1.5 + 35 * row)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_runs_are_found_named_laid_over_deleted_restored_and_taken_along(
    new_tab: Callable[..., Site], runs: list[str], tmp_path: Path, scheme: str, width: int
) -> None:
    site = new_tab(color_scheme=scheme, viewport={"width": width, "height": 1000})
    page = site.page
    site.open("runs")
    counted(site, r"\d runs\. A run is interrupted").wait_for()
    find(site, f"tabular-wine confident {runs[1]}")  # other tests have runs of that kind
    counted(site, r"^1 of \d+ runs").wait_for()
    pick(site, 0)
    box(site, "Name").fill("<b>Best</b>")
    box(site, "Tags").fill("paper, kept")
    box(site, "Note").fill("Looks right.")
    site.button("Save").click()
    expect(page.get_by_role("heading", name="<b>Best</b>")).to_be_visible()
    site.let_pass(0.5)
    assert violations(site) == []
    with page.expect_download() as download:
        site.button("Export (bundle)").click()
    bundle = tmp_path / download.value.suggested_filename
    download.value.save_as(bundle)
    find(site, "confident mlp")
    expect(counted(site, r"^1 of \d+ runs")).to_have_count(0)
    site.let_pass(0.5)  # the table is drawn anew
    expect(page.get_by_role("heading", name="<b>Best</b>")).to_be_visible()
    pick(site, 0, 2)  # beside the one that is picked already
    expect(page.locator(".js-plotly-plot")).to_have_count(2)
    expect(page.locator(".js-plotly-plot").first.locator(".legendtext")).to_have_count(3)
    page.get_by_text("Seconds", exact=True).click()
    expect(page.locator(".js-plotly-plot .xtitle").first).to_have_text("Seconds")
    site.let_pass(0.5)
    assert violations(site) == []
    site.button("Delete 3 runs").click()
    expect(page.get_by_text("Deleted 3 items")).to_be_visible()
    site.button("Undo").click()
    expect(page.get_by_text("Deleted 3 items")).to_have_count(0)
    find(site, "paper kept")
    counted(site, r"^1 of \d+ runs").wait_for()
    page.get_by_text("Import a run").click()
    page.locator("input[type=file]").set_input_files(
        {"name": "evil.zip", "mimeType": "application/zip", "buffer": b"<script>"}
    )
    expect(page.get_by_text("This file cannot be imported: it is no zip")).to_be_visible()
    page.locator("input[type=file]").set_input_files(bundle)
    site.button("Import under a fresh id").click()
    expect(page.get_by_text("Imported as")).to_be_visible()
    counted(site, r"^2 of \d+ runs").wait_for()
    site.let_pass(0.5)
    # Streamlit's own place for files says of itself what contradicts; axe calls that minor.
    assert [found for found in violations(site) if not found.startswith("minor")] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_text("Open it").click()
    expect(page.locator("[data-el=title]")).to_contain_text("<b>Best</b> · ")
    expect(page.get_by_text("Imported: this run was trained")).to_be_visible()
