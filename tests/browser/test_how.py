"""The explanation in a browser: by keyboard alone, in both themes, on a phone too."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.site import Site
from tests.browser.test_access import violations

pytestmark = pytest.mark.browser

SECTIONS = ("cut", "cost", "masking", "weights", "race")
SLIDERS = {
    "Gradient mass": "cut",
    "Share trained on": "cost",
    "Examples to train on, of a batch of 32": "masking",
    "Correction c": "weights",
    "Skip fraction": "weights",
    "Budget": "race",
}


def drawn(site: Site) -> None:
    """Wait until every section and its chart are there, and have faded in."""
    for name in SECTIONS:
        chart = site.page.locator(f".st-key-how-{name} .js-plotly-plot")
        expect(chart).to_be_attached(timeout=120_000)  # the first visit loads much
    expect(site.page.get_by_role("link", name="Compare policies fairly")).to_be_visible()
    expect(site.page.get_by_test_id("stSkeleton")).to_have_count(0)
    site.let_pass(0.5)


def test_every_slider_is_moved_by_keyboard_and_changes_what_is_said(
    new_tab: Callable[..., Site],
) -> None:
    site = new_tab()
    site.open("how")
    drawn(site)
    longest = (
        site.page.get_by_test_id("stTable")
        .get_by_text("Share of computation left out")
        .bounding_box()
    )
    assert longest is not None
    assert longest["height"] < 30, "it has room for one line"
    for label, section in SLIDERS.items():
        said = site.page.locator(f".st-key-seen-{section}")
        before = said.text_content() or ""
        site.page.get_by_role("slider", name=label).focus()
        site.page.keyboard.press("ArrowRight")
        expect(said).not_to_have_text(before)
    drawn(site)
    for scheme in ("light", "dark"):
        site.page.emulate_media(color_scheme=scheme)
        for width in (1440, 390):
            site.page.set_viewport_size({"width": width, "height": 900})
            site.let_pass(0.7)
            assert violations(site) == []
            assert site.page.evaluate("document.documentElement.scrollWidth") <= width
    # What was dragged to is what the Live page opens with, even where it was open before.
    site.page.set_viewport_size({"width": 1440, "height": 1000})
    site.page.get_by_role("link", name="Live", exact=True).click()
    expect(site.button("Start run")).to_be_enabled()
    site.page.get_by_role("link", name="How it works").click()
    drawn(site)
    site.page.get_by_role("link", name="Random, with the same share skipped").click()
    site.page.wait_for_url(re.compile("selection=random"))
    expect(site.page.get_by_role("combobox", name="Selection policy")).to_have_value("Random")


def test_a_finger_scrolls_the_page_over_a_chart(new_tab: Callable[..., Site]) -> None:
    site = new_tab(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    site.open("how")
    chart = site.page.locator(".st-key-how-cut .nsewdrag")
    chart.scroll_into_view_if_needed()
    before = chart.bounding_box()
    assert before is not None
    at = {"x": before["x"] + before["width"] / 2, "y": before["y"] + before["height"] / 2}
    touch = site.page.context.new_cdp_session(site.page)
    for kind, up in [("touchStart", 0), *(("touchMove", 10 * n) for n in range(1, 16))]:
        points = [{"x": at["x"], "y": at["y"] - up}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    site.page.wait_for_function(
        "y => document.querySelector('.st-key-how-cut .nsewdrag').getBoundingClientRect().y < y",
        arg=before["y"] - 50,
    )
