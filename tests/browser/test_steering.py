"""What a person does to a run, on the real app."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from effcore.bench.app_server import AppServer
from effcore.store import Store
from tests.browser.site import ENDLESS, Site

pytestmark = pytest.mark.browser

TIME_CHARTS = ("chart-loss", "chart-skip", "chart-power")


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
    expect(value).to_contain_text("now · applied at step")
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


def test_a_second_tab_shows_the_values_in_force_and_steers(
    new_tab: Callable[..., Site],
) -> None:
    first, second = new_tab(), new_tab()
    first.open(**ENDLESS)
    run_id = first.start()
    first.test("number-mass").fill("0.55")
    first.test("number-mass").press("Enter")
    expect(first.test("value-mass")).to_contain_text("0.55 now")
    second.open(run=run_id)
    expect(second.test("value-mass")).to_contain_text("0.55 now")
    expect(second.test("number-mass")).to_have_value("0.55")
    second.test("number-mass").fill("0.25")
    second.test("number-mass").press("Enter")
    expect(first.test("value-mass")).to_contain_text("0.25 now")
    expect(first.test("number-mass")).to_have_value("0.25")
    first.page.close()
    second.wait_for_steps(second.steps() + 1)  # the run belongs to the process


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


def test_the_printed_command_repeats_a_steered_run(site: Site, server: AppServer) -> None:
    site.open(task="digits", model="cnn", epochs="10", batch_size="32", seed="3")
    run_id = site.start()  # long enough, on the quickest machine, for the next press
    site.test("pace-slow").click()  # time to steer; the pace itself changes no result
    grip = site.grab("slider-mass")
    for share in (0.5, 0.8, 0.6):
        grip.drag_to(share)
        expect(site.test("value-mass")).to_contain_text("now · applied at step")
    grip.release()
    site.test("pace-full").click()
    site.expect_status("finished")
    words = shlex.split(site.test("command").text_content() or "")
    assert words[:4] == ["python", "-m", "effcore", "run"]
    assert words.count("--set") >= 2
    mass = words[-1].removeprefix(words[-1].partition("=")[0] + "=")
    assert f"mass={mass}," in (site.test("loop").text_content() or "")
    repeat = subprocess.run(
        [sys.executable, *words[1:], "--json"], check=True, capture_output=True, text=True
    )  # fmt: skip
    store = Store(server.home)
    end = store.load_snapshot(run_id).end
    store.close()
    assert end is not None
    assert json.loads(repeat.stdout.splitlines()[-1])["parameters_sha256"] == end.parameters_sha256


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
