"""The tour from one press to its last word, unattended; and presenter mode."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from effcore.bench.app_server import AppServer
from effcore.records.settings import Settings
from effcore.store import Store
from effcore.studies.sweep import plan_sweep
from effcore.studies.sweep_executor import open_sweep, run_sweep
from tests.browser.site import ENDLESS, Site
from tests.browser.test_access import violations

pytestmark = pytest.mark.browser

#: A race of seconds.
TINY = {"task": "digits", "model": "mlp", "size": "small", "epochs": "12"}
_METRIC = "document.querySelector('[data-testid=tile-metric] strong')"
#: How far the page goes beyond the screen, px.
_BELOW = """() => {
  const main = document.querySelector("[data-testid=stMain]")
  return main.scrollHeight - main.clientHeight
}"""
_HEIGHTS = """() => [...document.querySelectorAll(".js-plotly-plot")]
  .filter(plot => plot.offsetParent).map(plot => plot.offsetHeight)"""
_STAGES = """() => {
  const tour = document.querySelector("[data-testid=tour]")
  window.stages = [tour.dataset.stage]
  new MutationObserver(() => {
    if (window.stages.at(-1) !== tour.dataset.stage) window.stages.push(tour.dataset.stage)
  }).observe(tour, { attributes: true })
}"""


def fits(site: Site) -> None:
    """Check both themes and both widths of what is shown."""
    for scheme in ("light", "dark"):
        site.page.emulate_media(color_scheme=scheme)
        for width, height in ((1440, 900), (390, 844)):
            site.page.set_viewport_size({"width": width, "height": height})
            site.let_pass(0.7)
            assert violations(site) == []
            assert site.page.evaluate("document.documentElement.scrollWidth") <= width
    site.page.set_viewport_size({"width": 1440, "height": 900})


def on_one_screen(site: Site) -> None:
    """Check that nothing lies below the edge of two usual screens, and that nothing is squeezed."""
    for width, height in ((1440, 900), (1280, 720)):
        site.page.set_viewport_size({"width": width, "height": height})
        site.let_pass(0.7)
        assert site.page.evaluate(_BELOW) == 0
        assert min(site.page.evaluate(_HEIGHTS)) >= 170


def test_the_tour_runs_by_itself_from_one_press_to_its_last_word(
    new_tab: Callable[..., Site],
) -> None:
    site = new_tab(reduced_motion="reduce")
    site.open("tour", **TINY)
    site.button("Start the tour").wait_for(timeout=120_000)  # the first visit loads much
    site.button("Start the tour").click()
    site.test("tour").wait_for()
    site.page.evaluate(_STAGES)
    ending = site.test("tour-ending")
    expect(ending).to_be_visible(timeout=120_000)  # nobody presses anything
    stages = site.page.evaluate("window.stages")
    assert stages[-1] == "result"
    assert stages == sorted(stages, key=["question", "dense", "efficient", "result"].index)
    for words in ("What was saved", "% less. ", "Time: ", "Energy: ",
                  "What it cost", "points", "How sure that is", "not a verdict"):  # fmt: skip
        expect(ending).to_contain_text(words)
    expect(site.test("tour-caption")).to_contain_text("% less computation")
    expect(site.test("recorded")).to_be_hidden()
    fits(site)
    site.page.reload()
    expect(ending).to_contain_text("% less. ")
    site.page.get_by_role("link", name="The efficient run").click()
    site.expect_status("finished")
    # In its place, a race of another day; it says so as long as it is shown.
    site.page.get_by_role("link", name="Tour", exact=True).click()
    site.button("Back to the start").click()
    site.button("Watch the recorded race").click()
    expect(site.test("recorded")).to_contain_text("RECORDED on")
    site.page.wait_for_function("parseFloat(document.querySelector('.et-bar i').style.width) > 2")
    fits(site)


_ONE_STOP_BUTTON = """() => {
  const buttons = document.querySelectorAll("[data-testid=btn-stop]")
  return buttons.length === 1 && buttons[0].checkVisibility()
}"""


def test_a_run_is_presented_while_it_trains_and_left_by_a_key(
    new_tab: Callable[..., Site],
) -> None:
    site = new_tab()
    site.open(**ENDLESS)
    run_id = site.start()
    site.page.get_by_role("link", name="Present").click()
    site.page.wait_for_url("**present=1**")
    site.wait_for_points("chart-loss", "Training", beyond=10)
    expect(site.page.get_by_test_id("stSidebar")).to_be_hidden()
    expect(site.test("btn-stop")).to_be_hidden()
    size = f"parseFloat(getComputedStyle({_METRIC}).fontSize)"
    assert site.page.evaluate(size) >= 0.06 * 900
    fits(site)
    on_one_screen(site)
    site.page.keyboard.press("f")
    site.page.wait_for_function("document.fullscreenElement !== null")
    site.page.keyboard.press("f")
    site.page.wait_for_function("document.fullscreenElement === null")
    site.page.keyboard.press("Escape")
    site.page.wait_for_url(f"**run={run_id}*")
    # For a moment both panels are there: the presented one, and that of the page.
    site.page.wait_for_function(_ONE_STOP_BUTTON)


def stored_sweep(server: AppServer) -> str:
    """Carry out the shortest sweep there is."""
    store = Store(server.home)
    settings: Settings = {"task": "tabular-wine", "device": "cpu", "threads": 1, "epochs": 2}
    stored, plan = open_sweep(store, plan_sweep(settings, "auto", 1, (0,)))
    *_, last = run_sweep(store, stored.study_id, plan, jobs=1)
    store.close()
    assert last.done == last.total
    return stored.study_id


def test_a_stored_sweep_is_presented_on_one_screen_and_left_by_a_key(
    site: Site, server: AppServer
) -> None:
    sweep_id = stored_sweep(server)
    site.open("present", sweep=sweep_id)
    expect(site.page.get_by_role("heading", name="which thresholds for auto")).to_be_visible()
    sentence = site.page.locator(".st-key-present-sentence")
    expect(sentence).to_contain_text(re.compile("Nothing wins|fresh seeds"))
    expect(site.page.locator(".js-plotly-plot")).to_have_count(1)
    expect(site.page.locator(".js-plotly-plot .legendtext").first).to_be_visible()
    expect(site.page.get_by_test_id("stSidebar")).to_be_hidden()
    on_one_screen(site)
    assert violations(site) == []
    site.page.keyboard.press("Escape")
    site.page.wait_for_url(f"**/frontier?sweep={sweep_id}*")
    expect(site.page.get_by_role("heading", name="Which thresholds should I use?")).to_be_visible()
