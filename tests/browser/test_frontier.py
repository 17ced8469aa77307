"""A sweep on the real page: started, cancelled, gone on with, a point clicked, a report printed."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.site import Site
from tests.browser.test_access import violations
from tests.browser.test_compare import choose

pytestmark = pytest.mark.browser


def fill(site: Site, label: str, value: str) -> None:
    field = site.page.get_by_role("spinbutton", name=label)
    field.fill(value)
    field.press("Enter")


def prints(site: Site) -> None:
    """Save the report, open it, and print it: no figure is wider than the sheet."""
    with site.page.expect_download() as saved:
        site.button("Report (HTML)").click()
    report = site.page.context.new_page()
    problems: list[str] = []
    report.on("pageerror", lambda error: problems.append(str(error)))
    report.on("request", lambda asked: problems.extend([asked.url] * ("://" in asked.url[:9])))
    report.set_content(saved.value.path().read_text(encoding="utf-8"))
    figures = report.locator(".js-plotly-plot .main-svg:first-child")
    wide = figures.first.bounding_box()
    report.evaluate(
        "addEventListener('beforeprint', () => window.printed = "
        "[...document.querySelectorAll('.main-svg')].map(svg => svg.clientWidth))"
    )
    assert report.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    assert wide is not None
    assert wide["width"] > 700
    assert max(report.evaluate("window.printed")) <= 680, "an A4 sheet less its margins"
    expect(figures.first).to_have_css("width", f"{wide['width']:g}px")
    report.close()
    assert problems == []


def test_a_sweep_is_cancelled_gone_on_with_and_a_point_opened(site: Site) -> None:
    site.open("frontier")
    expect(site.button("Start sweep")).to_be_enabled()
    choose(site, "Task", "Table: wine")
    site.page.get_by_text("Machine and length").click()
    epochs = site.page.get_by_role("spinbutton", name="Epochs")
    expect(epochs).to_have_count(1)  # the other task's is gone
    expect(epochs).to_have_value("20")
    fill(site, "Epochs", "200")  # runs of seconds, on the quickest machine too
    fill(site, "Trials", "3")
    fill(site, "Seeds per trial", "1")
    site.button("Start sweep").click()
    expect(
        site.page.get_by_text(re.compile(r"[1-9] of at most \d+ runs and trials"))
    ).to_be_visible()
    site.button("Cancel").click()
    expect(site.button("Cancel")).to_have_count(0)
    expect(site.page.get_by_text(re.compile("^Incomplete:"))).to_be_visible()
    address = site.page.url
    site.button("Continue").click()
    expect(site.button("Cancel")).to_be_visible()
    expect(site.button("Cancel")).to_have_count(0, timeout=120_000)
    expect(site.button("Start sweep")).to_be_enabled()
    assert site.page.url == address, "the same sweep went on"
    expect(site.page.get_by_text(re.compile("Nothing wins|not confirmed yet"))).to_be_visible()
    for scheme in ("dark", "light"):
        site.page.emulate_media(color_scheme=scheme)
        site.let_pass(1.0)
        assert violations(site) == []
    # The dense curve is drawn first, and its first point is all of the compute.
    point = site.page.locator(".js-plotly-plot .scatterlayer .trace .points path").first
    box = point.bounding_box()
    assert box is not None
    site.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(site.page.get_by_role("heading", name="Dense 1")).to_be_visible()
    expect(site.button("Compare with 6 seeds")).to_have_count(0)
    prints(site)
    site.page.set_viewport_size({"width": 390, "height": 844})
    site.let_pass(1.0)
    assert site.page.evaluate("document.documentElement.scrollWidth") <= 390
    site.page.get_by_role("link", name="Open in Live").click()
    site.page.wait_for_url("**selection=dense**")
    assert site.errors == []
