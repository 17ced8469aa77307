"""The Examples page on a real run: scrubbed, drawn around, looked into; in both themes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from effcore.bench.app_server import AppServer
from effcore.config import resolve
from effcore.records.settings import Settings
from effcore.store import Store
from effcore.training.trainer import train
from tests.browser.site import Site
from tests.browser.test_access import violations
from tests.store.samples import END, ESTIMATE

pytestmark = pytest.mark.browser

MAP = '[data-testid="data-map"]'


@pytest.fixture(scope="module")
def run_id(server: AppServer) -> str:
    """A short real run with wrong labels, recorded beside the app."""
    settings: Settings = {
        "task": "digits",
        "model": "mlp",
        "epochs": 6,
        "label_noise": 0.1,
        "seed": 77,
    }
    config = resolve({**settings, "selection": "confident-skip", "device": "cpu"})
    store = Store(server.home)
    writer = store.create_run(config)
    for event in train(config):
        writer.write_event(event)
    writer.finish(END, ESTIMATE)
    store.close()
    return writer.run_id


def lasso(site: Site) -> None:
    """Draw around the lower half of the map."""
    plot = site.page.locator(f"{MAP} canvas")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    left, right = box["x"] + 4, box["x"] + box["width"] - 4
    middle, bottom = box["y"] + box["height"] / 2, box["y"] + box["height"] - 4
    mouse = site.page.mouse
    mouse.move(left, middle)
    mouse.down()
    for x, y in ((right, middle), (right, bottom), (left, bottom), (left, middle + 2)):
        mouse.move(x, y, steps=5)
    mouse.up()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_examples_are_drawn_around_scrubbed_and_looked_into(
    new_tab: Callable[..., Site], run_id: str, scheme: str, width: int
) -> None:
    site = new_tab(color_scheme=scheme, viewport={"width": width, "height": 900})
    page = site.page
    site.open("examples", run=run_id)
    page.locator(f"{MAP}[data-shown]").wait_for()
    expect(page.locator(".st-key-examples-history .js-plotly-plot")).to_be_visible()
    site.let_pass(0.5)
    assert [v for v in violations(site) if v.startswith(("serious", "critical"))] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    lasso(site)
    expect(page.get_by_text("of the epochs")).to_be_visible()
    page.locator(MAP).press("+")
    expect(site.button("Reset")).to_be_enabled()
    page.locator(MAP).press("0")
    expect(site.button("Reset")).to_be_disabled()
    slider = page.get_by_role("slider", name="Up to epoch")
    slider.focus()
    slider.press("ArrowLeft")
    page.locator(f'{MAP}[data-shown="{run_id} 5"]').wait_for()
    assert "pass=5" in page.url
    expect(page.get_by_text("of the epochs")).to_be_visible()  # what was drawn stays
    number = page.get_by_role("spinbutton", name="Number")
    number.fill("7")
    number.press("Enter")
    expect(page.get_by_role("img", name="Example 7,").last).to_be_visible()
    page.wait_for_url("**example=7*")
    page.reload()
    page.locator(f'{MAP}[data-shown="{run_id} 5"]').wait_for()
    expect(number).to_have_value("7")
    assert [v for v in violations(site) if v.startswith(("serious", "critical"))] == []
