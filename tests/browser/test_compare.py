"""A study on the real page: started, cancelled, gone on with, read, and kept accessible."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.site import Site
from tests.browser.test_access import in_both_themes

pytestmark = pytest.mark.browser


def choose(site: Site, label: str, option: str) -> None:
    site.page.get_by_role("combobox", name=label).click()
    site.page.get_by_role("option", name=option, exact=True).click()


def test_a_study_is_cancelled_gone_on_with_and_read(site: Site) -> None:
    site.open("compare")
    site.page.get_by_text("Each seed is trained").or_(
        site.page.get_by_role("combobox", name="Study")).first.wait_for()  # fmt: skip
    choose(site, "Task", "Table: wine")
    site.page.get_by_text("Machine and length").click()
    epochs = site.page.get_by_role("spinbutton", name="Epochs")
    expect(epochs).to_have_count(1)  # the other task's is gone
    expect(epochs).to_have_value("20")
    epochs.fill("300")  # runs of seconds, on the quickest machine too
    epochs.press("Enter")
    seeds = site.page.get_by_role("spinbutton", name="Paired seeds")
    seeds.fill("2")
    seeds.press("Enter")
    site.button("Start study").click()
    expect(site.page.get_by_text(re.compile(r"^Now .+, seed 10\d: \d+%"))).to_be_visible()
    site.button("Cancel").click()
    expect(site.button("Cancel")).to_have_count(0)
    expect(site.button("Start study")).to_be_enabled()
    address = site.page.url
    site.button("Start study").click()
    expect(site.button("Cancel")).to_be_visible()
    expect(site.button("Cancel")).to_have_count(0, timeout=120_000)
    expect(site.button("Start study")).to_be_enabled()
    assert site.page.url == address, "the same study went on"
    expect(site.page.get_by_text("Too few seeds for a verdict.")).to_be_visible()
    expect(site.page.locator(".js-plotly-plot")).to_have_count(2)
    assert in_both_themes(site) == []
    toolbars = site.page.locator(".modebar").filter(visible=True)
    expect(toolbars).to_have_count(2)
    site.page.set_viewport_size({"width": 390, "height": 844})
    expect(toolbars).to_have_count(0)  # they would lie on the legends
    site.let_pass(1.0)
    assert site.page.evaluate("document.documentElement.scrollWidth") <= 390
    site.page.reload()
    expect(site.page.get_by_text("Too few seeds for a verdict.")).to_be_visible()
