"""The tour from one press to its last word, unattended; and presenter mode."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.site import ENDLESS, Site
from tests.browser.test_access import violations

pytestmark = pytest.mark.browser

#: A race of seconds.
TINY = {"task": "digits", "model": "mlp", "size": "small", "epochs": "12"}
_METRIC = "document.querySelector('[data-testid=tile-metric] strong')"
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
                  "What it cost", "points", "How sure that is", "no verdict"):  # fmt: skip
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


def test_a_run_is_presented_while_it_trains_and_left_by_a_key(
    new_tab: Callable[..., Site],
) -> None:
    site = new_tab()
    site.open(**ENDLESS)
    run_id = site.start()
    site.page.get_by_role("link", name="Present").click()
    site.page.wait_for_url("**/present**")
    site.wait_for_points("chart-loss", "Training", beyond=10)
    expect(site.page.get_by_test_id("stSidebar")).to_be_hidden()
    expect(site.test("btn-stop")).to_be_hidden()
    size = f"parseFloat(getComputedStyle({_METRIC}).fontSize)"
    assert site.page.evaluate(size) >= 0.06 * 900
    fits(site)
    site.page.keyboard.press("f")
    site.page.wait_for_function("document.fullscreenElement !== null")
    site.page.keyboard.press("f")
    site.page.wait_for_function("document.fullscreenElement === null")
    site.page.keyboard.press("Escape")
    site.page.wait_for_url(f"**run={run_id}*")
    expect(site.test("btn-stop")).to_be_visible()
