"""How quickly the real app responds in headless Chromium, and what a viewer costs the trainer.

Latencies of the slider need one clock for the run and the browser. The run's clock is each
step's ``seconds`` in the store; its origin on the wall clock is found by receiving the live
stream. The shortest delay ever seen between a step and its arrival is taken as zero, so that
latencies come out too long by that delay, and never too short.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

import numpy as np
from websockets.sync.client import connect

from effcore.bench.app_server import AppServer, headless_chromium
from effcore.bench.eta import ProgressSink
from effcore.live.protocol import FRAME_COLUMNS, decode_frame
from effcore.records import STEP_COLUMNS, FloatArray, KnobChange
from effcore.store import Store
from effcore.studies.statistics import MedianInterval, median_interval

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

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
