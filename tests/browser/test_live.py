"""What the Live page shows while a run trains, on the real app."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from effcore.bench.app_server import AppServer
from effcore.store import Store
from tests.browser.site import ENDLESS, Site

pytestmark = pytest.mark.browser

PREPARES = ENDLESS | {"selection": "rho-loss"}
CHARTS = ("chart-loss", "chart-skip", "chart-power", "chart-hist")
TIME_CHARTS = CHARTS[:3]
_SAME_RANGE = """charts => {
  const of = chart => document.querySelector(`[data-testid=${chart}]`).layout.xaxis.range
  return new Set(charts.map(of).map(String)).size === 1
}"""


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


def test_stop_ends_the_run_and_keeps_it(site: Site, server: AppServer) -> None:
    site.open(**ENDLESS)
    run_id = site.start()
    site.test("btn-stop").click()
    site.expect_status("stopped")
    expect(site.test("btn-stop")).to_be_hidden()
    store = Store(server.home)
    assert store.load_snapshot(run_id).status == "stopped"
    store.close()
    site.page.get_by_role("link", name="Runs").click()
    expect(site.page.get_by_role("heading", name="Runs")).to_be_visible()
    site.open(run=run_id)
    site.expect_status("stopped")
    site.wait_for_points("chart-loss", "Training")


def test_one_x_axis_serves_all_time_charts(site: Site) -> None:
    site.open(**ENDLESS)
    site.start()
    site.wait_for_points("chart-loss", "Training", beyond=100)
    site.test("btn-pause").click()  # so that the charts can be compared
    site.expect_status("paused")
    for axis in ("epochs", "seconds", "flops", "joules", "step"):
        site.test(f"x-axis-{axis}").click()
        expect(site.test(f"x-axis-{axis}")).to_have_attribute("aria-pressed", "true")
        title = site.test(f"x-axis-{axis}").text_content() or ""
        for chart in TIME_CHARTS:
            expect(site.test(chart).locator(".xtitle")).to_contain_text(title[:-1])
        site.page.wait_for_function(_SAME_RANGE, arg=list(TIME_CHARTS))
        drawn = site.last_x("chart-loss", "Training")
        assert 0 < drawn <= site.x_range("chart-loss")[1]
        assert drawn == pytest.approx(site.last_x("chart-skip", "Now"))


_WIDER_THAN_ITS_TILE = """() => [...document.querySelectorAll(".ec-tile")]
  .filter(tile => tile.scrollWidth > tile.clientWidth).map(tile => tile.textContent)"""


def test_no_text_is_wider_than_its_tile(site: Site) -> None:
    site.open(**ENDLESS)
    site.start()
    site.wait_for_points("chart-loss", "Training", beyond=10)
    for width in (1440, 800, 390):
        site.page.set_viewport_size({"width": width, "height": 900})
        assert site.page.evaluate(_WIDER_THAN_ITS_TILE) == []


@pytest.mark.parametrize(
    ("task", "views"),
    [("digits", ("trained", "skipped")), ("photo", ("reconstruction", "compute", "target"))],
)
def test_each_task_shows_its_view(site: Site, task: str, views: tuple[str, ...]) -> None:
    # Short passes: where the computation goes shows in how many of them drew an example.
    site.open(task=task, epochs="1000", size="small", batch_size="512")
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


def test_the_dense_reference_runs_first_and_stays_as_a_ghost(site: Site) -> None:
    site.open(task="digits", model="mlp", epochs="6", seed="7")
    site.page.get_by_text("Full training first, as reference").click()
    site.button("Start run").click()
    expect(site.page.locator("[data-el=title]")).to_contain_text("Dense")
    expect(site.page.locator("[data-el=title]")).to_contain_text("Confident skip")
    site.expect_status("finished")
    site.page.wait_for_function(
        """document.querySelector("[data-testid=chart-loss]").data
           .filter(t => t.meta.table.startsWith("ref_") && t.x.length).length >= 2"""
    )
    expect(site.test("tile-saving")).to_contain_text("Saved")
    expect(site.test("tile-saving")).to_contain_text("one seed")


def test_a_run_that_prepares_says_so_and_claims_no_progress(site: Site) -> None:
    site.open(**PREPARES)
    site.button("Start run").click()
    site.expect_status("running")
    expect(site.page.get_by_text("Two small models train first")).to_be_visible()
    expect(site.page.locator("[data-el=left]")).to_have_text(re.compile(r"preparing for \d+ s"))
    bar = site.page.get_by_role("progressbar", name="Progress of the run")
    expect(bar).not_to_have_attribute("aria-valuenow", re.compile(".*"))
    assert site.steps() == 0
    site.test("btn-stop").click()
    site.expect_status("stopped")
    expect(site.page.get_by_text("Two small models train first")).to_be_hidden()
    expect(bar).to_have_attribute("aria-valuenow", "0")
