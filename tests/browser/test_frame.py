"""Finding runs and pages: addresses, links, reloads and the queue, on the real app."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from effcore.bench.app_server import AppServer
from tests.browser.site import ENDLESS, Site

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    ("path", "heading"),
    [("", "Watch training skip"), ("live", "Watch training skip"), ("runs", "Runs")],
)
def test_a_deep_link_to_a_fresh_server_shows_the_whole_frame(
    new_tab: Callable[..., Site], tmp_path: Path, path: str, heading: str
) -> None:
    with AppServer(tmp_path) as fresh:
        fresh.wait_until_up()
        site = new_tab(fresh)
        site.open(path, task="digits")
        expect(site.page.get_by_role("heading", name=re.compile(heading))).to_be_visible()
        expect(site.page.get_by_test_id("stSidebarLogo").or_(
            site.page.get_by_test_id("stHeaderLogo")).first).to_be_visible()  # fmt: skip
        for name in ("Live", "Runs", "Energy", "How it works"):
            expect(site.page.get_by_role("link", name=name, exact=True)).to_be_visible()
        if path != "runs":  # what the address asks for is there, however early it asks
            expect(site.page.get_by_role("combobox", name="Task")).to_have_value("Digits")
        site.page.close()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"epochs": "banana"}, "epochs"),
        ({"selection": "confidant-skip"}, "confident-skip"),
        ({"mass": "7"}, "mass"),
        ({"device": "cuda:99"}, "device"),
        ({"run": "../../etc"}, "no run"),
        ({"run": "see http://evil.example or www.evil.example or me@evil.example"}, "no run"),
    ],
)
def test_an_impossible_address_is_explained(
    site: Site, query: dict[str, str], message: str
) -> None:
    site.open(**query)
    said = site.page.get_by_test_id("stAlert").first
    expect(said).to_contain_text(message)
    expect(said.get_by_role("link")).to_have_count(0)
    expect(site.button("Start run")).to_be_enabled()
    expect(site.page.get_by_test_id("stException")).to_have_count(0)


def test_an_address_without_a_page_leads_on_to_one(site: Site) -> None:
    site.open("n%C3%B6wh%20ere")
    expect(site.page.get_by_role("heading", name="There is no such page")).to_be_visible()
    expect(site.page.get_by_text("no page named nöwh ere.")).to_be_visible()
    expect(site.page.get_by_role("dialog")).to_have_count(0)
    site.page.get_by_role("link", name="Start or watch a run").click()
    expect(site.page.get_by_role("heading", name="Watch training skip")).to_be_visible()
    site.open("live/x", task="digits")  # beneath a page, where nothing of the app would load
    expect(site.page.get_by_text("no page named live/x.")).to_be_visible()
    site.open("the-first-page")
    expect(site.page.get_by_text("no page named the-first-page.")).to_be_visible()
    site.open("home")
    expect(site.page.get_by_role("heading", name="Watch training skip")).to_be_visible()
    expect(site.page.get_by_role("dialog")).to_have_count(0)


def test_the_button_to_start_stays_while_the_choices_scroll(site: Site) -> None:
    site.page.set_viewport_size({"width": 1440, "height": 700})
    site.open(task="digits")
    site.page.get_by_text("Machine and optimizer").scroll_into_view_if_needed()
    expect(site.page.get_by_role("combobox", name="Task")).not_to_be_in_viewport()
    expect(site.button("Start run")).to_be_in_viewport()
    site.button("Start run").click(trial=True)


def test_a_reload_finds_the_run(site: Site) -> None:
    site.open(**ENDLESS)
    run_id = site.start()
    before = site.steps()
    site.page.reload()
    site.expect_status("running")
    site.wait_for_steps(before + 1)
    assert site.run_id() == run_id
    site.open()  # without an address, too
    site.wait_for_steps(before + 1)
    assert site.run_id() == run_id


def test_another_page_links_back_to_the_run(site: Site) -> None:
    site.open(**ENDLESS)
    run_id = site.start()
    site.page.get_by_role("link", name="Runs").click()
    expect(site.page.get_by_text("Training now")).to_be_visible()
    site.page.get_by_role("link", name="Digits · Confident skip").click()
    site.expect_status("running")
    assert site.run_id() == run_id


def test_a_busy_device_offers_open_queue_and_replace(site: Site, server: AppServer) -> None:
    site.open(**ENDLESS)
    first = site.start()
    site.button("Start run").click()
    site.button("Open it").click()
    expect(site.page.get_by_role("dialog")).to_be_hidden()
    assert site.run_id() == first

    site.button("Start run").click()
    site.button("Queue mine").click()
    site.expect_status("queued")
    second = site.run_id()
    assert second != first

    site.button("Start run").click()
    site.button("Replace it").click()
    site.page.wait_for_function("run => !location.search.includes(run)", arg=second)
    site.expect_status("running")
    third = site.run_id()
    assert third not in (first, second)
    site.open(run=first)
    site.expect_status("stopped")
    run = server.training_run()
    assert run is not None
    assert run["run_id"] == third


def test_a_queued_run_starts_when_its_turn_comes(site: Site) -> None:
    site.open(**ENDLESS)
    first = site.start()
    site.button("Start run").click()
    site.button("Queue mine").click()
    site.expect_status("queued")
    second = site.run_id()
    site.open(run=first)
    site.test("btn-stop").click()
    site.expect_status("stopped")
    site.open(run=second)
    site.expect_status("running")
    site.wait_for_steps(1)
