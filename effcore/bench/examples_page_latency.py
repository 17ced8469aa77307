"""How quickly the Examples page opens and answers, on a run of many examples and many steps."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from effcore.bench.app_server import AppServer, headless_chromium
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
#: Nobody acts on a page before having looked at it.
_SETTLE_MS = 2000
_MAP_SELECTOR = '[data-testid="data-map"]'
_DRAWN_MAP_SELECTOR = f"{_MAP_SELECTOR}[data-shown]"
_LOSS_CURVE_SELECTOR = "[data-testid=chart-loss] .scatterlayer path.js-line"
_HISTORY_CHART_SELECTOR = ".st-key-examples-history .main-svg"
_SHOWN_AT_JS = (
    "drawn => document.querySelector(drawn) && performance.timeOrigin + performance.now()"
)
#: Frames drawn while the mouse moves, ms between them.
_COUNT_FRAMES_JS = """() => { window.frames_ms = []; let last = performance.now()
  window.counting = true
  const tick = (now) => { window.frames_ms.push(now - last); last = now
    if (window.counting) requestAnimationFrame(tick) }
  requestAnimationFrame(tick) }"""


class ExamplesPageLatencies(NamedTuple):
    """What was measured.

    The server has been used before; browsers are fresh, and load all that a page needs, but
    where somebody returns: there what a browser keeps of the first visit is kept. A thing is
    drawn in the first frame that shows it.

    Attributes:
        title_s: From asking for the Examples page to its title: how long the frame takes.
        map_s: To the map drawn.
        all_s: To the last chart of the page, which is one example's history.
        live_s: From asking for the Live page of the same run to its loss curve.
        map_again_s: As ``map_s``, in a new tab of a browser that has had the page before.
        live_again_s: As ``live_s``, likewise.
        map_click_s: From a click on Examples, on another page, to the map drawn.
        live_click_s: From a click on the run, on the first page, to its loss curve.
        scrub_s: From a key pressed on the slider of passes to the map drawn anew.
        select_s: From letting go of the lasso to what lies in it.
        frame_ms: Between two frames while the lasso is drawn.
        moved_ms: Between two frames while the map is moved, each with all points drawn anew.
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
        """Write one line each."""
        what = {
            "title_s": "page asked for to its title",
            "map_s": "page asked for to map drawn",
            "all_s": "page asked for to its last chart",
            "live_s": "Live page asked for to loss curve",
            "map_again_s": "page asked for again to map drawn",
            "live_again_s": "Live page asked for again to loss curve",
            "map_click_s": "Examples clicked to map drawn",
            "live_click_s": "run clicked to its loss curve",
            "scrub_s": "slider moved to map drawn anew",
            "select_s": "lasso let go to what lies in it",
            "frame_ms": "between frames under the lasso",
            "moved_ms": "between frames of a moving map",
        }
        return "\n".join(
            f"{words}: median {spread.median:.2f} {name[-2:].strip('_')}, p95 {spread.p95:.2f} "
            f"(n={spread.n})"
            for (name, words), spread in zip(what.items(), self, strict=True)
        )


def measure_examples_page(repeats: int, say: Callable[[str], None]) -> ExamplesPageLatencies:
    """Measure on a made-up run of 100,000 examples and a million steps.

    Args:
        repeats: Fresh browsers.
        say: Takes progress messages.
    """
    found: dict[str, list[float]] = {name: [] for name in ExamplesPageLatencies._fields}
    with tempfile.TemporaryDirectory() as name:
        with closing(Store(Path(name))) as store:
            run_id = record_synthetic_run(store)
        say("made the run")
        with AppServer(Path(name)) as app, headless_chromium() as browser:
            app.wait_until_up()
            _measure_visit(browser, app, run_id)  # what a server loads but once
            for repeat in range(repeats):
                for kind, values in _measure_visit(browser, app, run_id).items():
                    found[kind] += values
                say(f"visit {repeat + 1} of {repeats}")
    return ExamplesPageLatencies(*(LatencySummary.from_values(values) for values in found.values()))


def record_synthetic_run(
    store: Store, examples: int = EXAMPLE_COUNT, steps: int = STEP_COUNT
) -> str:
    """Record a run that nobody trained, such as skipping would make one; returns its id."""
    config = resolve(
        {"task": "tabular", "rows": examples, "batch_size": _BATCH_SIZE, "device": "cpu",
         "selection": "confident-skip", "epochs": steps * _BATCH_SIZE // examples}
    )  # fmt: skip
    writer = store.create_run(config)
    writer.write_event(RunStart(examples, 1e4, 1e4 * steps * _BATCH_SIZE, None, 10_000))
    table = _synthetic_step_table(steps)
    writer.write_event(StepBlock(table))
    for step in np.linspace(0, steps, 30).astype(int).tolist():
        score = 1 - 0.5 * 0.9 ** (20 * step / steps)
        writer.write_event(
            EvalEvent(step, step * _BATCH_SIZE, step / 500, 1e4 * step, 1 - score, score)
        )
    rng = np.random.default_rng(0)
    ease_N = rng.beta(2, 1, examples)
    for index in range(config.epochs):
        share = (index + 1) / config.epochs
        losses_N = rng.exponential(1, examples) * (1 - ease_N) / share**ease_N
        bits = np.packbits(rng.random(examples) < 1 - ease_N * share)
        at = round(steps * share)
        writer.write_event(
            EpochDrawEvent(at - round(steps / config.epochs), index, bits, int(examples))
        )
        kept = losses_N.astype(np.float16) if keeps_epoch_losses(index, examples) else None
        writer.write_event(EpochRecord(at, index, examples, bits, kept, examples))
    end = failed_run_end(config, None, table, steps / 500, "made up")
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
    """Open the pages with fresh profiles, scrub, and select; returns the times of each."""
    found: dict[str, list[float]] = {}
    examples, live = (f"{app.url}/{name}?run={run_id}" for name in ("examples", "live"))
    with _fresh_browser_page(browser) as page:
        began = _open_url(page, examples)
        found["title_s"] = [_seconds_until_shown(page, "h1", began)]
        found["map_s"] = [_seconds_until_shown(page, _DRAWN_MAP_SELECTOR, began)]
        found["all_s"] = [_seconds_until_shown(page, _HISTORY_CHART_SELECTOR, began)]
        page.wait_for_timeout(_SETTLE_MS)
        found["scrub_s"] = [_seconds_to_scrub(page) for _ in range(5)]
        found["select_s"], found["frame_ms"] = _lasso_times(page)
        page.wait_for_timeout(_SETTLE_MS)
        found["moved_ms"] = _move_frame_times(page)
        found["map_again_s"] = [_seconds_to_reopen(page, examples, _DRAWN_MAP_SELECTOR)]
    with _fresh_browser_page(browser) as page:
        found["live_s"] = [_seconds_until_shown(page, _LOSS_CURVE_SELECTOR, _open_url(page, live))]
        page.wait_for_timeout(_SETTLE_MS)
        found["live_again_s"] = [_seconds_to_reopen(page, live, _LOSS_CURVE_SELECTOR)]
    with _fresh_browser_page(browser) as page:
        page.goto(app.url)
        recent = page.locator(f'[data-testid="stPageLink"] a[href*="{run_id}"]')
        found["live_click_s"] = [_seconds_after_click(page, recent, _LOSS_CURVE_SELECTOR)]
        link = page.get_by_role("link", name="Examples")
        found["map_click_s"] = [_seconds_after_click(page, link, _DRAWN_MAP_SELECTOR)]
    return found


def _open_url(page: Page, url: str) -> float:
    """Ask for a page; returns when, as ``time.time()``."""
    began = time.time()
    page.goto(url)
    return began


def _seconds_until_shown(page: Page, drawn: str, began: float) -> float:
    """Return the time from a moment to the first frame with something in it, seconds.

    The page looks, at each of its frames: a browser that draws answers nobody else until later.
    """
    at_ms: float = page.wait_for_function(_SHOWN_AT_JS, arg=drawn).json_value()
    return at_ms / 1000 - began


def _seconds_to_reopen(page: Page, url: str, drawn: str) -> float:
    """Open a page in a new tab in place of an old one; returns the time until it shows."""
    new = page.context.new_page()
    page.close()
    new.wait_for_timeout(_SETTLE_MS)
    return _seconds_until_shown(new, drawn, _open_url(new, url))


@contextmanager
def _fresh_browser_page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(_TIMEOUT_MS)
    try:
        yield context.new_page()
    finally:
        context.close()


def _seconds_after_click(page: Page, link: Locator, drawn: str) -> float:
    """Follow a link of a page that has come to rest; returns the time until something is drawn."""
    link.wait_for()
    page.wait_for_timeout(_SETTLE_MS)
    began = time.time()
    link.click()
    return _seconds_until_shown(page, drawn, began)


def _seconds_to_scrub(page: Page) -> float:
    """Move the slider of passes by one and return how long the map takes to follow."""
    shown = page.locator(_MAP_SELECTOR).get_attribute("data-shown")
    slider = page.get_by_role("slider", name="Up to pass")
    slider.focus()
    began = time.monotonic()
    slider.press("ArrowLeft")
    page.wait_for_function(
        f"shown => document.querySelector('{_MAP_SELECTOR}').dataset.shown !== shown", arg=shown
    )
    return time.monotonic() - began


def _lasso_times(page: Page) -> tuple[list[float], list[float]]:
    """Draw around the middle of the map; returns the time to what lies there, and the frames'."""
    frames = _drag_frame_times(page)
    began = time.monotonic()
    page.mouse.up()
    page.get_by_text("of their passes skipped").wait_for()
    return [time.monotonic() - began], frames


def _move_frame_times(page: Page) -> list[float]:
    """Zoom in, and move the map about; returns the times between frames."""
    page.locator(_MAP_SELECTOR).press("+")
    page.get_by_role("button", name="Move", exact=True).click()
    frames = _drag_frame_times(page)
    page.mouse.up()
    return frames


def _drag_frame_times(page: Page) -> list[float]:
    """Drag in a circle over the map, and hold; returns the times between frames, ms."""
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
