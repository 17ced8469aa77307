"""Response times of the Live and Examples pages in headless Chromium.

Latencies of the slider need one clock for the run and the browser. The run's clock is each
step's ``seconds`` in the store; its origin on the wall clock is found by receiving the live
stream. The shortest delay ever seen between a step and its arrival is taken as zero, so that
latencies come out too long by that delay, and never too short.

The Examples page is measured on a run of many examples and steps.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import click
import numpy as np
from websockets.sync.client import connect

from effcore.bench.app_server import AppServer, headless_chromium
from effcore.bench.command_line import (
    ProgressSink,
    bench,
    echo_progress,
    print_result,
    seconds_option,
)
from effcore.cli.knob_options import json_option
from effcore.config import resolve
from effcore.live.protocol import FRAME_COLUMNS, decode_frame
from effcore.records import (
    STEP_COLUMNS,
    EpochDrawEvent,
    EvalEvent,
    FloatArray,
    KnobChange,
    RunStart,
    RunStatus,
    StepBlock,
)
from effcore.records.epoch_record import EpochRecord, keeps_epoch_losses
from effcore.runs.summary import failed_run_end
from effcore.store import Store
from effcore.store.run_records import unrecorded_energy
from effcore.studies.statistics import MedianInterval, median_interval

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

_TIMEOUT_MS = 60_000
#: Shortest time for which the stream is received, to find the origin of the run's clock.
_ORIGIN_LISTEN_S = 5.0
_ENDLESS_EPOCHS = "1000"
_FRAME_SECONDS_ROW, _STORED_SECONDS_ROW = (
    FRAME_COLUMNS["steps"].index("seconds"),
    STEP_COLUMNS.index("seconds"),
)
#: Records when the Start button first appeared, when the page was last clicked, and every
#: movement of a slider with its time. It runs in the page, since requests from outside are slower.
_RECORD_INPUT_JS = """
window.moves = []
const look = () => {
  const buttons = [...document.querySelectorAll("button")]
  const ready = buttons.some((button) => button.textContent.includes("Start run"))
  if (ready) window.readyAt = performance.timeOrigin + performance.now()
  else requestAnimationFrame(look)
}
look()
const now = (event) => performance.timeOrigin + event.timeStamp
addEventListener("click", (event) => { window.pressedAt = now(event) }, true)
addEventListener("input", (event) => {
  if (event.target.type === "range") window.moves.push([now(event), Number(event.target.value)])
}, true)
"""
#: Time of the browser's first paint of the page, ms.
_FIRST_PAINT_JS = """performance.timeOrigin
  + performance.getEntriesByName("first-contentful-paint")[0].startTime"""
#: Time at which the loss chart has a line or a marker, ms; falsy until then.
_LOSS_CURVE_DRAWN_JS = """() => [...document.querySelectorAll(
  '[data-testid=chart-loss] .scatterlayer :is(path.js-line, path.point)')]
  .some(path => path.getAttribute("d")) && performance.timeOrigin + performance.now()"""


@dataclass(frozen=True)
class LatencySummary:
    """Median and 95th percentile of repeated latencies."""

    median: float
    p95: float
    n: int

    @classmethod
    def from_values(cls, values: Sequence[float]) -> LatencySummary:
        """Summarize at least one value."""
        return cls(float(np.median(values)), float(np.percentile(values, 95)), len(values))

    def text(self, unit: str) -> str:
        """Return the summary in words."""
        return f"median {self.median:.2f} {unit}, p95 {self.p95:.2f} {unit} (n={self.n})"


@dataclass(frozen=True)
class PageLatencies:
    """Latencies of the Live page.

    Attributes:
        paint_s: Start of the server's process to the first paint.
        ready_s: Start of the server's process to the Start button.
        point_s: Click on that button to the first point in the loss chart.
        slider_ms: Each movement of a dragged slider to the end of the first batch trained
            with that value or a later one of the same drag.
        batch_ms: Median time of a batch while the slider was dragged.
        watched: Steps per second with the page open ÷ with a blank page.
    """

    paint_s: LatencySummary
    ready_s: LatencySummary
    point_s: LatencySummary
    slider_ms: LatencySummary
    batch_ms: float
    watched: MedianInterval

    def __str__(self) -> str:
        """Write one line for each latency."""
        return "\n".join(
            [
                f"server start to first paint: {self.paint_s.text('s')}",
                f"server start to Start button: {self.ready_s.text('s')}",
                f"press to first point: {self.point_s.text('s')}",
                f"slider to trained batch: {self.slider_ms.text('ms')}, "
                f"of which one batch is {self.batch_ms:.1f} ms",
                f"steps per second, one Chromium watching ÷ none: {self.watched}",
            ]
        )


class SteeringTimes(NamedTuple):
    """Latencies of a slider's drag, and step rates with and without the page.

    Attributes:
        slider_ms: For each movement, the time to the end of the first batch with its value.
        batch_ms: Median time of a batch during the drag.
        ratios: Steps per second with the page open ÷ without, for each pair of blocks.
    """

    slider_ms: list[float]
    batch_ms: float
    ratios: list[float]


def measure_page(
    task: str, starts: int, moves: int, blocks: int, seconds: float, say: ProgressSink
) -> PageLatencies:
    """Measure the Live page, with a fresh server and browser profile for each of the starts.

    Raises:
        RuntimeError: There is no browser, the run ended too early, or a movement of the slider
            had no effect.
    """
    with headless_chromium() as browser:
        measured = []
        for start in range(starts):
            measured.append(_measure_start(browser, task))
            paint, ready, point = measured[-1]
            say(f"start {start + 1}/{starts}: {paint:.2f} s, {ready:.2f} s, point {point:.2f} s")
        steering = _measure_steering(browser, task, moves, blocks, seconds, say)
    paints, readies, points = zip(*measured, strict=True)
    return PageLatencies(
        LatencySummary.from_values(paints),
        LatencySummary.from_values(readies),
        LatencySummary.from_values(points),
        LatencySummary.from_values(steering.slider_ms),
        steering.batch_ms,
        median_interval(steering.ratios),
    )


def _measure_start(browser: Browser, task: str) -> tuple[float, float, float]:
    """Start a server and a run; returns seconds to first paint, to the button and to a point."""
    with tempfile.TemporaryDirectory() as home, AppServer(Path(home)) as server:
        server.wait_until_up()
        page = _open_recorded_page(browser, f"{server.url}/?{urlencode({'task': task})}")
        ready_ms: float = page.wait_for_function("window.readyAt").json_value()
        paint_ms: float = page.evaluate(_FIRST_PAINT_JS)
        page.wait_for_timeout(2000)  # as a user who reads the page before clicking
        point_s = _seconds_to_first_point(page)
        page.context.close()
    return paint_ms / 1000 - server.started_unix, ready_ms / 1000 - server.started_unix, point_s


def _open_recorded_page(browser: Browser, url: str) -> Page:
    """Open a page with a fresh profile; clicks and slider movements on it are recorded."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.set_default_timeout(_TIMEOUT_MS)
    page.add_init_script(_RECORD_INPUT_JS)
    page.goto(url)
    return page


def _seconds_to_first_point(page: Page) -> float:
    """Click Start and return the seconds until the first point is drawn."""
    page.get_by_role("button", name="Start run", exact=True).click()
    drawn_ms: float = page.wait_for_function(_LOSS_CURVE_DRAWN_JS).json_value()
    pressed_ms: float = page.evaluate("window.pressedAt")
    return (drawn_ms - pressed_ms) / 1000


def _measure_steering(
    browser: Browser, task: str, moves: int, blocks: int, seconds: float, say: ProgressSink
) -> SteeringTimes:
    """Drag a slider of a long run, then alternate between its page and a blank one."""
    with tempfile.TemporaryDirectory() as home:
        with AppServer(Path(home)) as server:
            server.wait_until_up()
            page = _open_recorded_page(
                browser, f"{server.url}/?{urlencode({'task': task, 'epochs': _ENDLESS_EPOCHS})}"
            )
            _seconds_to_first_point(page)
            run = server.training_run()
            if run is None:
                raise RuntimeError("the run ended before anything was measured")
            origin = _run_clock_origin(
                server.address, run["run_id"], max(seconds, _ORIGIN_LISTEN_S)
            )
            drag_began = time.time()
            _drag_slider(page, moves)
            recorded_moves = page.evaluate("window.moves")
            drag_ended = time.time()
            block_ends = _alternate_watching(page, blocks, seconds, say)
            page.context.close()
        with closing(Store(Path(home))) as store:  # the server has stopped, all is written
            snapshot = store.load_snapshot(run["run_id"])
    clock = snapshot.steps[_STORED_SECONDS_ROW] + origin
    during_drag = clock[(clock > drag_began) & (clock < drag_ended)]
    return SteeringTimes(
        slider_latencies(recorded_moves, snapshot.changes, clock),
        1000 * float(np.median(np.diff(during_drag))),
        watching_speed_ratios(clock, block_ends),
    )


def _run_clock_origin(address: str, run_id: str, seconds: float) -> float:
    """Return the wall-clock time at which the run's clock was zero."""
    nearest = np.inf
    until = time.time() + seconds
    with connect(f"ws://{address}/api/live?run={run_id}", max_size=None) as stream:
        while time.time() < until:
            frame = stream.recv(timeout=30)
            arrived = time.time()
            if isinstance(frame, bytes):
                steps = decode_frame(frame)[1].get("steps")
                if steps is not None:
                    nearest = min(nearest, arrived - float(steps[_FRAME_SECONDS_ROW, -1]))
    return float(nearest)


def _drag_slider(page: Page, moves: int) -> None:
    """Drag the policy's first slider back and forth, at about sixty movements a second."""
    slider = page.locator("[data-testid^=slider-]").first
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    if box is None:
        raise RuntimeError("the run has no slider on the page")
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    for move in range(moves):
        share = 0.5 + 0.4 * np.sin(move / 40)
        page.mouse.move(box["x"] + box["width"] * share, middle)
        page.wait_for_timeout(16)
    page.wait_for_timeout(500)
    page.mouse.up()


def _alternate_watching(
    page: Page, blocks: int, seconds: float, say: ProgressSink
) -> list[dict[bool, tuple[float, float]]]:
    """Alternate between the page and a blank one; returns each block's ends, by page open."""
    url = page.url
    pairs = []
    for block in range(blocks):
        pair = {}
        for watching in (True, False) if block % 2 == 0 else (False, True):
            page.goto(url if watching else "about:blank")
            if watching:
                page.wait_for_function(_LOSS_CURVE_DRAWN_JS)
            page.wait_for_timeout(1000)
            began = time.time()
            page.wait_for_timeout(1000 * seconds)
            pair[watching] = began, time.time()
        pairs.append(pair)
        say(f"block {block + 1}/{blocks}")
    return pairs


def slider_latencies(
    moves: Sequence[tuple[float, float]], changes: Sequence[KnobChange], clock: FloatArray
) -> list[float]:
    """Return, for each movement, the ms until a batch was trained with its value or a later one.

    ``moves`` holds the time in ms and the value of each movement, ``clock`` the end of each step
    in s.

    Raises:
        RuntimeError: A movement had no effect.
    """
    latencies: list[float] = []
    for change in changes:
        if change.step >= len(clock):
            break
        done = 1000 * clock[change.step]
        applied = [i for i, (at, value) in enumerate(moves) if at <= done and value == change.value]
        if applied:
            latencies += [done - at for at, _ in moves[len(latencies) : applied[-1] + 1]]
    if len(latencies) < len(moves):
        raise RuntimeError(f"only {len(latencies)} of {len(moves)} movements had an effect")
    return latencies


def watching_speed_ratios(
    clock: FloatArray, pairs: Sequence[dict[bool, tuple[float, float]]]
) -> list[float]:
    """Return, for each pair of blocks, steps per second with the page open ÷ without."""

    def steps_per_second(ends: tuple[float, float]) -> float:
        done = clock[(clock >= ends[0]) & (clock <= ends[1])]
        return float((len(done) - 1) / (done[-1] - done[0]))

    return [steps_per_second(pair[True]) / steps_per_second(pair[False]) for pair in pairs]


# The Examples page ------------------------------------------------------------------------


EXAMPLE_COUNT, STEP_COUNT = 100_000, 1_000_000
_BATCH_SIZE = 16
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


# Commands ---------------------------------------------------------------------------------


@bench.command()
@click.option("--task", default="photo", help="Task, at its default size.")
@click.option("--starts", default=10, type=click.IntRange(1), help="Fresh servers and browsers.")
@click.option("--moves", default=600, type=click.IntRange(1), help="Movements of the slider.")
@click.option("--blocks", default=20, type=click.IntRange(3), help="Pairs of alternating blocks.")
@seconds_option(5.0)
@json_option
def page(as_json: bool, **settings: Any) -> None:
    """Measure the Live page of the app in Chromium.

    Measured are the first paint, the first point, the latency of a slider and the cost of one
    viewer.
    """
    latencies = measure_page(**settings, say=echo_progress)
    print_result({**settings, "figures": latencies}, as_json, str(latencies))


@bench.command()
@click.option("--repeats", default=5, type=click.IntRange(1), help="Fresh browsers.")
@json_option
def examples(repeats: int, as_json: bool) -> None:
    """Measure the Examples page of the app in Chromium.

    The page shows a run of 100,000 examples and a million steps. Not resumable.
    """
    latencies = measure_examples_page(repeats, echo_progress)
    print_result({"repeats": repeats, "figures": latencies._asdict()}, as_json, str(latencies))
