"""What a person does on the Live page, done on the real app."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from effcore.bench.served import AppServer
from effcore.store import Store
from tests.browser.site import ENDLESS, Site

pytestmark = pytest.mark.browser

CHARTS = ("chart-loss", "chart-skip", "chart-power", "chart-hist")
TIME_CHARTS = CHARTS[:3]


def test_zoom_survives_while_points_arrive_and_no_chart_is_replaced(site: Site) -> None:
    site.open(task="photo", epochs="1000")
    site.start()
    site.wait_for_points("chart-loss", "Training", beyond=30)
    site.zoom("chart-loss")
    site.page.wait_for_function(
        "document.querySelector('[data-testid=chart-loss]').layout.xaxis.range[0] > 0"
    )
    zoomed, last = site.x_range("chart-loss"), site.last_x("chart-loss", "Training")
    site.watch_removals()
    site.let_pass(5)
    site.wait_for_points("chart-loss", "Training", beyond=last)
    assert site.x_range("chart-loss") == zoomed
    assert site.x_range("chart-skip") == pytest.approx(zoomed)  # time charts go together
    assert site.removed_charts() == []
    for chart in CHARTS:
        expect(site.test(chart).locator(".main-svg").first).to_be_visible()


def test_a_dragged_slider_steers_before_it_is_released_and_leaves_a_mark(site: Site) -> None:
    site.open(**ENDLESS)
    site.start()
    value = site.test("value-mass")
    expect(value).to_contain_text("0.35")
    grip = site.grab("slider-mass")
    grip.drag_to(0.5)
    expect(value).to_contain_text("applied at step")
    halfway = value.text_content()
    grip.drag_to(0.7)
    expect(value).not_to_have_text(halfway or "")
    expect(value).to_contain_text("in force · applied at step")
    shown, during = site.test("slider-mass").input_value(), len(site.applied)
    expect(value).to_contain_text(shown)
    grip.release()
    assert during >= 3
    steps = [change["step"] for change in site.applied]
    assert steps == sorted(steps)
    assert site.applied[-1]["value"] == float(shown)
    for chart in TIME_CHARTS:
        site.wait_for_points(chart, "Knob changes")
    expect(site.test("exploratory")).to_be_visible()


def test_pause_holds_the_run_and_resume_goes_on(site: Site) -> None:
    site.open(**ENDLESS)
    site.start()
    site.test("btn-pause").click()
    site.expect_status("paused")
    site.let_pass(0.5)  # the last step's frame
    held = site.steps()
    site.let_pass(2)
    assert site.steps() == held
    site.test("btn-pause").click()
    site.expect_status("running")
    site.wait_for_steps(held + 1)


def test_stop_ends_the_run_and_keeps_it(site: Site, server: AppServer) -> None:
    site.open(**ENDLESS)
    run_id = site.start()
    site.test("btn-stop").click()
    site.expect_status("stopped")
    expect(site.test("btn-stop")).to_be_hidden()
    store = Store(server.home)
    assert store.load(run_id).status == "stopped"
    store.close()
    site.page.get_by_role("link", name="Runs").click()
    expect(site.page.get_by_role("heading", name="Runs")).to_be_visible()
    site.open(run=run_id)
    site.expect_status("stopped")
    site.wait_for_points("chart-loss", "Training")


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


def test_a_second_tab_shows_the_values_in_force_and_steers(
    new_tab: Callable[..., Site],
) -> None:
    first, second = new_tab(), new_tab()
    first.open(**ENDLESS)
    run_id = first.start()
    first.test("number-mass").fill("0.55")
    first.test("number-mass").press("Enter")
    expect(first.test("value-mass")).to_contain_text("0.55 in force")
    second.open(run=run_id)
    expect(second.test("value-mass")).to_contain_text("0.55 in force")
    expect(second.test("number-mass")).to_have_value("0.55")
    second.test("number-mass").fill("0.25")
    second.test("number-mass").press("Enter")
    expect(first.test("value-mass")).to_contain_text("0.25 in force")
    expect(first.test("number-mass")).to_have_value("0.25")
    first.page.close()
    second.wait_for_steps(second.steps() + 1)  # the run belongs to the process


def test_another_page_links_back_to_the_run(site: Site) -> None:
    site.open(**ENDLESS)
    run_id = site.start()
    site.page.get_by_role("link", name="Runs").click()
    expect(site.page.get_by_text("Training now")).to_be_visible()
    site.page.get_by_role("link", name="Digits · Confident skip").click()
    site.expect_status("running")
    assert site.run_id() == run_id


def test_one_x_axis_serves_all_time_charts(site: Site) -> None:
    site.open(**ENDLESS)
    site.start()
    site.wait_for_points("chart-loss", "Training", beyond=100)
    for axis in ("epochs", "seconds", "flops", "step"):
        site.test(f"x-axis-{axis}").click()
        expect(site.test(f"x-axis-{axis}")).to_have_attribute("aria-pressed", "true")
        title = site.test(f"x-axis-{axis}").text_content() or ""
        for chart in TIME_CHARTS:
            expect(site.test(chart).locator(".xtitle")).to_contain_text(title[:-1])
        ends = [site.last_x(chart, "Training") for chart in ("chart-loss",)]
        assert ends[0] >= 0


def test_step_by_step_takes_one_step_at_a_time_and_is_exploratory(site: Site) -> None:
    site.open(**ENDLESS)
    site.start()
    expect(site.test("exploratory")).to_be_hidden()
    site.test("pace-step").click()
    site.expect_status("paused")
    expect(site.test("exploratory")).to_be_visible()
    site.let_pass(0.5)
    held = site.steps()
    site.test("btn-step").click()
    expect(site.test("step-count")).to_have_text(f"{held + 1:,}")
    site.let_pass(1)
    assert site.steps() == held + 1
    site.test("pace-full").click()
    site.wait_for_steps(held + 50)


@pytest.mark.parametrize(
    ("task", "views"),
    [("digits", ("trained", "skipped")), ("photo", ("reconstruction", "compute", "target"))],
)
def test_each_task_shows_its_view(site: Site, task: str, views: tuple[str, ...]) -> None:
    site.open(task=task, epochs="1000")
    site.start()
    for name in views:
        canvas = site.test(f"view-{name}").locator("canvas")
        expect(canvas).to_be_visible()
        site.page.wait_for_function(
            """el => new Set(el.getContext("2d").getImageData(0, 0, el.width, el.height).data
                 .filter((_, i) => i % 101 === 0)).size > 8""",
            arg=canvas.element_handle(),
            polling=250,
        )


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
    assert (server.trainer() or {})["run_id"] == third


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


def test_the_dense_reference_runs_first_and_stays_as_a_ghost(site: Site) -> None:
    site.open(task="digits", model="mlp", epochs="6", seed="7")
    site.page.get_by_text("Dense reference first").click()
    site.button("Start run").click()
    expect(site.page.locator("[data-el=title]")).to_contain_text("Dense")
    expect(site.page.locator("[data-el=title]")).to_contain_text("Confident skip")
    site.expect_status("finished")
    site.page.wait_for_function(
        """document.querySelector("[data-testid=chart-loss]").data
           .filter(t => t.meta.table.startsWith("ref_") && t.x.length).length >= 2"""
    )
    expect(site.test("tile-saving")).not_to_contain_text("no dense run")


def test_the_printed_command_repeats_a_steered_run(site: Site, server: AppServer) -> None:
    site.open(task="digits", model="mlp", epochs="60", batch_size="16", seed="3")
    run_id = site.start()
    site.test("pace-slow").click()  # time to steer; the pace itself changes no result
    grip = site.grab("slider-mass")
    for share in (0.5, 0.8, 0.6):
        grip.drag_to(share)
        expect(site.test("value-mass")).to_contain_text("in force · applied at step")
    grip.release()
    site.test("pace-full").click()
    site.expect_status("finished")
    words = shlex.split(site.test("command").text_content() or "")
    assert words[:4] == ["python", "-m", "effcore", "run"]
    assert words.count("--set") >= 2
    repeat = subprocess.run(
        [sys.executable, *words[1:], "--json"], check=True, capture_output=True, text=True
    )  # fmt: skip
    store = Store(server.home)
    end = store.load(run_id).end
    store.close()
    assert end is not None
    assert json.loads(repeat.stdout.splitlines()[-1])["parameters_sha256"] == end.parameters_sha256


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"epochs": "banana"}, "epochs"),
        ({"selection": "confidant-skip"}, "confident-skip"),
        ({"mass": "7"}, "mass"),
        ({"device": "cuda:99"}, "device"),
        ({"run": "../../etc"}, "no run"),
    ],
)
def test_an_impossible_address_is_explained(
    site: Site, query: dict[str, str], message: str
) -> None:
    site.open(**query)
    expect(site.page.get_by_test_id("stAlert").first).to_contain_text(message)
    expect(site.button("Start run")).to_be_enabled()
    expect(site.page.get_by_test_id("stException")).to_have_count(0)


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
        for name in ("Live", "Runs"):
            expect(site.page.get_by_role("link", name=name, exact=True)).to_be_visible()
        if path != "runs":  # what the address asks for is there, however early it asks
            expect(site.page.get_by_role("combobox", name="Task")).to_have_value("Digits")
        site.page.close()


def test_a_phone_can_start_steer_pause_and_stop(new_tab: Callable[..., Site]) -> None:
    site = new_tab(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    site.open(**ENDLESS)
    if not site.button("Start run").is_visible():
        site.page.get_by_test_id("stExpandSidebarButton").tap()
    site.button("Start run").tap()
    site.page.get_by_test_id("stSidebarCollapseButton").get_by_role("button").tap()
    site.expect_status("running")
    site.test("choose-loss_threshold").tap()
    expect(site.test("value-loss_threshold")).to_contain_text("applied at step")
    site.test("btn-pause").tap()
    site.expect_status("paused")
    site.test("btn-pause").tap()
    site.expect_status("running")
    width = site.page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390, "the page scrolls sideways"
    site.test("btn-stop").tap()
    site.expect_status("stopped")
