"""What axe, an automated check, can tell of the pages' accessibility; in both themes."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.site import ENDLESS, Site

pytestmark = pytest.mark.browser


def violations(site: Site) -> list[str]:
    """Everything axe finds wrong with the page as it stands: impact, rule and place."""
    found = Axe().run(site.page).response["violations"]
    return [
        f"{v['impact']} {v['id']}: {v['nodes'][0]['target']} {v['nodes'][0]['html'][:120]}"
        for v in found
    ]


def in_both_themes(site: Site) -> list[str]:
    """The same in the dark theme and in the light one, in which the page is left."""
    found = []
    for scheme in ("dark", "light"):
        site.page.emulate_media(color_scheme=scheme)
        site.let_pass(0.7)  # what fades in has done so
        found += [f"{scheme}: {each}" for each in violations(site)]
    return found


def test_the_pages_have_no_violation_that_a_machine_can_find(site: Site) -> None:
    site.open(**ENDLESS)
    site.page.get_by_text("Watch training skip what it no longer needs").wait_for()
    assert in_both_themes(site) == []
    site.start()
    site.wait_for_points("chart-loss", "Training", beyond=10)
    assert in_both_themes(site) == []
    site.test("btn-stop").click()
    site.expect_status("stopped")
    assert in_both_themes(site) == []
    site.page.get_by_role("link", name="Runs").click()
    site.page.get_by_role("heading", name="Runs").wait_for()
    assert in_both_themes(site) == []


def test_choices_and_knobs_of_many_policies_have_no_violation_either(site: Site) -> None:
    many = {"selection": "stale-pps", "update": "prefix-freeze", "intensity": "resolution"}
    site.open(**ENDLESS | {"model": "cnn"} | many)
    site.page.get_by_text("Starting thresholds").click()
    site.page.get_by_role("spinbutton", name="Epochs").fill("5000")
    site.page.keyboard.press("Enter")
    site.page.get_by_text("1000 is used").wait_for()
    assert in_both_themes(site) == []
    site.start()
    site.page.get_by_role("heading", name="Prefix freeze").wait_for()
    site.page.get_by_text("6 more").click()
    assert in_both_themes(site) == []
