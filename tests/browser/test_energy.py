"""The Energy page in a browser: for anybody, on a phone too, with its choices in the address."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.site import ENDLESS, Site
from tests.browser.test_access import in_both_themes

pytestmark = pytest.mark.browser
LAST = "The claim, written out"


def settled(site: Site) -> None:
    """Wait until everything has been drawn and what fades in has done so."""
    site.page.get_by_role("heading", name=LAST).wait_for()
    expect(site.page.get_by_test_id("stSkeleton")).to_have_count(0)
    site.let_pass(0.5)


def test_the_page_has_no_violation_that_a_machine_can_find(site: Site) -> None:
    site.open("energy")
    settled(site)
    assert in_both_themes(site) == []
    site.open(**ENDLESS)
    site.start()
    site.wait_for_points("chart-loss", "Training", beyond=10)
    site.open("energy", country="DEU", pue="own", gpus="8")
    settled(site)
    site.page.get_by_text("Your own grid").click()
    site.page.get_by_text("Add facts to the claim").click()
    assert in_both_themes(site) == []


def test_a_phone_needs_no_scrolling_sideways(new_tab: Callable[..., Site]) -> None:
    site = new_tab(viewport={"width": 390, "height": 844})
    site.open("energy")
    settled(site)
    wide = site.page.evaluate(
        "[...document.querySelectorAll('h1, h2, input, [data-testid=stTable] table')]"
        ".filter(el => el.getBoundingClientRect().right > innerWidth + 1).map(el => el.outerHTML)"
    )
    assert wide == []


def test_what_is_stated_is_in_the_address_and_comes_back_with_it(site: Site) -> None:
    site.open("energy")
    settled(site)
    field = site.page.get_by_role("spinbutton", name="GPUs that train")
    field.fill("16")
    site.page.keyboard.press("Enter")
    site.page.wait_for_url("**gpus=16*")
    site.page.reload()
    settled(site)
    expect(field).to_have_value("16")
