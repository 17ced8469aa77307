"""How quickly the Examples page opens and responds, on a run of many examples and steps."""

from __future__ import annotations

import dataclasses
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from effcore.bench.app_server import AppServer, headless_chromium
from effcore.bench.eta import ProgressSink
from effcore.bench.page_latency import LatencySummary
from effcore.config import resolve
from effcore.records import (
    STEP_COLUMNS,
    EpochDrawEvent,
    EvalEvent,
    FloatArray,
    RunStart,
    RunStatus,
    StepBlock,
)
from effcore.records.epoch_record import EpochRecord, keeps_epoch_losses
from effcore.runs.summary import failed_run_end
from effcore.store import Store
from effcore.store.run_records import unrecorded_energy

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

EXAMPLE_COUNT, STEP_COUNT = 100_000, 1_000_000
_BATCH_SIZE = 16
_TIMEOUT_MS = 60_000
#: Pause before an action, as of a user who looks at the page first.
_SETTLE_MS = 2000
_MAP_SELECTOR = '[data-testid="data-map"]'
_DRAWN_MAP_SELECTOR = f"{_MAP_SELECTOR}[data-shown]"
_LOSS_CURVE_SELECTOR = "[data-testid=chart-loss] .scatterlayer path.js-line"
_HISTORY_CHART_SELECTOR = ".st-key-examples-history .main-svg"
_SHOWN_AT_JS = (
    "drawn => document.querySelector(drawn) && performance.timeOrigin + performance.now()"
)
#: Records the time between two frames while the mouse moves, ms.
_COUNT_FRAMES_JS = """() => { window.frames_ms = []; let last = performance.now()
  window.counting = true
  const tick = (now) => { window.frames_ms.push(now - last); last = now
    if (window.counting) requestAnimationFrame(tick) }
  requestAnimationFrame(tick) }"""


class ExamplesPageLatencies(NamedTuple):
    """Latencies of the Examples page, and of the Live page of the same run.

    The server has been used before. Browsers are fresh, with an empty cache, except for the
    latencies ``…_again_s``. Each latency ends with the first frame that shows its element.

    Attributes:
        title_s: Request of the Examples page to its title.
        map_s: Request of the Examples page to the map.
        all_s: Request of the Examples page to its last chart, the history of one example.
        live_s: Request of the Live page to its loss curve.
        map_again_s: As ``map_s``, in a new tab of a browser that has opened the page before.
        live_again_s: As ``live_s``, in such a tab.
        map_click_s: Click on Examples, on another page, to the map.
        live_click_s: Click on the run, on the first page, to its loss curve.
        scrub_s: Key press on the slider of epochs to the updated map.
        select_s: Release of the lasso to the number of examples in it.
        frame_ms: Time between two frames while the lasso is drawn.
        moved_ms: Time between two frames while the map is moved, each with all points redrawn.
    """

    title_s: LatencySummary
    map_s: LatencySummary
    all_s: LatencySummary
    live_s: LatencySummary
    map_again_s: LatencySummary
    live_again_s: LatencySummary
    map_click_s: LatencySummary
    live_click_s: LatencySummary
    scrub_s: LatencySummary
    select_s: LatencySummary
    frame_ms: LatencySummary
    moved_ms: LatencySummary

    def __str__(self) -> str:
        """Write one line for each latency."""
        descriptions = {
            "title_s": "Examples page requested to title shown",
            "map_s": "Examples page requested to map drawn",
            "all_s": "Examples page requested to last chart drawn",
            "live_s": "Live page requested to loss curve drawn",
            "map_again_s": "Examples page in a new tab to map drawn",
            "live_again_s": "Live page in a new tab to loss curve drawn",
            "map_click_s": "click on Examples to map drawn",
            "live_click_s": "click on the run to loss curve drawn",
            "scrub_s": "slider moved to map updated",
            "select_s": "lasso released to selection shown",
            "frame_ms": "between frames while the lasso is drawn",
            "moved_ms": "between frames while the map moves",
        }
        return "\n".join(
            f"{description}: {latency.text(name.rpartition('_')[2])}"
            for (name, description), latency in zip(descriptions.items(), self, strict=True)
        )


def measure_examples_page(repeats: int, say: ProgressSink) -> ExamplesPageLatencies:
    """Measure with fresh browsers on a synthetic run of 100,000 examples and a million steps."""
    times: dict[str, list[float]] = {name: [] for name in ExamplesPageLatencies._fields}
    with tempfile.TemporaryDirectory() as name:
        with closing(Store(Path(name))) as store:
            run_id = record_synthetic_run(store)
        say("recorded the run")
        with AppServer(Path(name)) as app, headless_chromium() as browser:
            app.wait_until_up()
            _measure_visit(browser, app, run_id)  # loads what a server loads only once
            for repeat in range(repeats):
                for kind, values in _measure_visit(browser, app, run_id).items():
                    times[kind] += values
                say(f"visit {repeat + 1} of {repeats}")
    return ExamplesPageLatencies(*(LatencySummary.from_values(values) for values in times.values()))


def record_synthetic_run(
    store: Store, examples: int = EXAMPLE_COUNT, steps: int = STEP_COUNT
) -> str:
    """Record a run with synthetic values, as of a policy that skips; returns its id."""
    config = resolve(
        {"task": "tabular", "rows": examples, "batch_size": _BATCH_SIZE, "device": "cpu",
         "selection": "confident-skip", "epochs": steps * _BATCH_SIZE // examples}
    )  # fmt: skip
    writer = store.create_run(config)
    writer.write_event(RunStart(examples, 1e4, 1e4 * steps * _BATCH_SIZE, None, 10_000))
    table = _synthetic_step_table(steps)
    writer.write_event(StepBlock(table))
    for step in np.linspace(0, steps, 30).astype(int).tolist():
        accuracy = 1 - 0.5 * 0.9 ** (20 * step / steps)
        writer.write_event(
            EvalEvent(step, step * _BATCH_SIZE, step / 500, 1e4 * step, 1 - accuracy, accuracy)
        )
    rng = np.random.default_rng(0)
    ease_N = rng.beta(2, 1, examples)
    for index in range(config.epochs):
        share = (index + 1) / config.epochs
        losses_N = rng.exponential(1, examples) * (1 - ease_N) / share**ease_N
        bits = np.packbits(rng.random(examples) < 1 - ease_N * share)
        end_step = round(steps * share)
        start_step = end_step - round(steps / config.epochs)
        writer.write_event(EpochDrawEvent(start_step, index, bits, int(examples)))
        kept = losses_N.astype(np.float16) if keeps_epoch_losses(index, examples) else None
        writer.write_event(EpochRecord(end_step, index, examples, bits, kept, examples))
    end = failed_run_end(config, None, table, steps / 500, "synthetic")
    writer.finish(dataclasses.replace(end, status=RunStatus.STOPPED), unrecorded_energy(table))
    return writer.run_id


def _synthetic_step_table(count: int) -> FloatArray:
    """Return a step table whose loss falls."""
    step = np.arange(1.0, count + 1)
    rng = np.random.default_rng(1)
    columns = {
        "step": step,
        "considered": step * _BATCH_SIZE,
        "trained": step * _BATCH_SIZE,
        "seconds": step / 500,
        "flops": step * 1e4,
        "selection_flops": step * 10,
        "learning_rate": 1e-3 * (1 - step / (count + 1)),
        "loss": rng.gamma(8, 1 / 8, count) * (0.1 + 1 / np.sqrt(step)),
    }
    return np.stack([columns[name] for name in STEP_COLUMNS])


def _measure_visit(browser: Browser, app: AppServer, run_id: str) -> dict[str, list[float]]:
    """Visit the pages with fresh profiles; returns the values of each latency."""
    times: dict[str, list[float]] = {}
    examples, live = (f"{app.url}/{name}?run={run_id}" for name in ("examples", "live"))
    with _fresh_browser_page(browser) as page:
        began = _open_url(page, examples)
        times["title_s"] = [_seconds_until_shown(page, "h1", began)]
        times["map_s"] = [_seconds_until_shown(page, _DRAWN_MAP_SELECTOR, began)]
        times["all_s"] = [_seconds_until_shown(page, _HISTORY_CHART_SELECTOR, began)]
        page.wait_for_timeout(_SETTLE_MS)
        times["scrub_s"] = [_seconds_to_scrub(page) for _ in range(5)]
        times["select_s"], times["frame_ms"] = _lasso_times(page)
        page.wait_for_timeout(_SETTLE_MS)
        times["moved_ms"] = _move_frame_times(page)
        times["map_again_s"] = [_seconds_to_reopen(page, examples, _DRAWN_MAP_SELECTOR)]
    with _fresh_browser_page(browser) as page:
        times["live_s"] = [_seconds_until_shown(page, _LOSS_CURVE_SELECTOR, _open_url(page, live))]
        page.wait_for_timeout(_SETTLE_MS)
        times["live_again_s"] = [_seconds_to_reopen(page, live, _LOSS_CURVE_SELECTOR)]
    with _fresh_browser_page(browser) as page:
        page.goto(app.url)
        recent = page.locator(f'[data-testid="stPageLink"] a[href*="{run_id}"]')
        times["live_click_s"] = [_seconds_after_click(page, recent, _LOSS_CURVE_SELECTOR)]
        link = page.get_by_role("link", name="Examples")
        times["map_click_s"] = [_seconds_after_click(page, link, _DRAWN_MAP_SELECTOR)]
    return times


def _open_url(page: Page, url: str) -> float:
    """Request a page; returns the time before, as ``time.time()``."""
    began = time.time()
    page.goto(url)
    return began


def _seconds_until_shown(page: Page, selector: str, began: float) -> float:
    """Return the seconds from ``began`` to the first frame with an element.

    The page itself checks at each frame, since a browser that draws answers requests late.
    """
    shown_at_ms: float = page.wait_for_function(_SHOWN_AT_JS, arg=selector).json_value()
    return shown_at_ms / 1000 - began


def _seconds_to_reopen(page: Page, url: str, selector: str) -> float:
    """Replace a tab by a new one; returns the seconds until an element shows."""
    new = page.context.new_page()
    page.close()
    new.wait_for_timeout(_SETTLE_MS)
    return _seconds_until_shown(new, selector, _open_url(new, url))


@contextmanager
def _fresh_browser_page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(_TIMEOUT_MS)
    try:
        yield context.new_page()
    finally:
        context.close()


def _seconds_after_click(page: Page, link: Locator, selector: str) -> float:
    """Click a link of a settled page; returns the seconds until an element shows."""
    link.wait_for()
    page.wait_for_timeout(_SETTLE_MS)
    began = time.time()
    link.click()
    return _seconds_until_shown(page, selector, began)


def _seconds_to_scrub(page: Page) -> float:
    """Move the slider of epochs by one; returns the seconds until the map is updated."""
    shown = page.locator(_MAP_SELECTOR).get_attribute("data-shown")
    slider = page.get_by_role("slider", name=re.compile("^Up to "))
    slider.focus()
    began = time.monotonic()
    slider.press("ArrowLeft")
    page.wait_for_function(
        f"shown => document.querySelector('{_MAP_SELECTOR}').dataset.shown !== shown", arg=shown
    )
    return time.monotonic() - began


def _lasso_times(page: Page) -> tuple[list[float], list[float]]:
    """Select the middle of the map; returns the seconds to the result, and frame times, ms."""
    frames = _drag_frame_times(page)
    began = time.monotonic()
    page.mouse.up()
    page.get_by_text(re.compile("in the region, ")).wait_for()
    return [time.monotonic() - began], frames


def _move_frame_times(page: Page) -> list[float]:
    """Zoom in and move the map; returns the times between frames, ms."""
    page.locator(_MAP_SELECTOR).press("+")
    page.get_by_role("button", name="Move", exact=True).click()
    frames = _drag_frame_times(page)
    page.mouse.up()
    return frames


def _drag_frame_times(page: Page) -> list[float]:
    """Drag in a circle over the map without releasing; returns the times between frames, ms."""
    plot = page.locator(f"{_MAP_SELECTOR} canvas")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None, "the map is on the page"
    angles = np.linspace(0, 2 * np.pi, 60)
    xs = box["x"] + box["width"] * (0.4 + 0.3 * np.cos(angles))
    ys = box["y"] + box["height"] * (0.5 + 0.3 * np.sin(angles))
    page.evaluate(_COUNT_FRAMES_JS)
    page.mouse.move(xs[0], ys[0])
    page.mouse.down()
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        page.mouse.move(x, y)
    frames: list[float] = page.evaluate("() => { window.counting = false; return frames_ms }")
    return frames[1:]
