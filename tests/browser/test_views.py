"""What the Live page shows of a task that is no picture: shaded text, and points."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.site import Site
from tests.browser.test_access import in_both_themes

pytestmark = pytest.mark.browser

# Found anew at each look: the page may put another canvas in the place of the first.
_PAINTED = """() => {
  const el = document.querySelector("[data-testid=view-map] canvas")
  return el?.width && el.getContext("2d").getImageData(0, 0, el.width, el.height).data
    .some((value, i) => i % 4 === 3 && value > 0)
}"""


def test_the_text_a_model_reads_is_shaded_and_what_it_writes_grows(site: Site) -> None:
    site.open(task="code", size="small", epochs="300")
    site.start()
    read = site.test("view-losses").locator(".ec-text")
    expect(read).to_contain_text("return")
    expect(read.locator("span.ec-faded").first).to_be_attached()  # skipped, once some are easy
    expect(read.locator("span:not(.ec-faded)").first).to_be_attached()
    expect(site.test("view-losses")).to_contain_text("skipped in this epoch")
    expect(site.test("setup")).to_contain_text("SHA-256")
    written = site.test("view-sample").locator(".ec-text")
    before = len(written.text_content() or "")
    site.page.wait_for_function(
        "([el, least]) => el.textContent.length > least", arg=[written.element_handle(), before]
    )
    assert in_both_themes(site) == []


def test_points_that_are_skipped_are_counted_and_fade(site: Site) -> None:
    site.open(task="tabular", size="small", rows="4000", epochs="1000", label_noise="0.1")
    run_id = site.start()
    figure = site.test("view-map")
    canvas = figure.locator("canvas")
    expect(canvas).to_have_attribute("aria-label", re.compile(r"drawn, .* of 2,000 shown"))
    expect(canvas).to_have_attribute("aria-label", re.compile(r"[1-9][\d,]* skipped"))
    site.page.wait_for_function(_PAINTED)
    expect(figure).to_contain_text("class 4")
    expect(site.test("setup")).to_have_text("mlp, small · Label noise 0.1 · Rows 4000")
    assert in_both_themes(site) == []
    site.test("btn-stop").click()
    site.expect_status("stopped")
    site.open(run=run_id)  # what was stored is shown as well
    site.page.wait_for_function(_PAINTED)
    expect(canvas).to_have_attribute("aria-label", re.compile("of 2,000 shown"))


def test_snippets_list_what_is_trained_on_and_what_is_skipped(site: Site) -> None:
    site.open(task="snippets", model="bag-of-n-grams", epochs="1000")
    site.start()
    expect(site.test("view-trained").locator(".ec-text")).to_contain_text("loss ")
    expect(site.test("view-skipped").locator(".ec-text")).to_contain_text("loss 0.0")
