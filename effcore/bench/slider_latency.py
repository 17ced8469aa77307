"""Steer and watch one long run through the page, and read off the run what that did.

Moments on the run's clock (each step's ``seconds``, in the store) are set against the
browser's wall clock by listening to the live stream: the smallest distance ever seen
between a step and its arrival is what the stream takes at its quickest, so that latencies
come out too long by that much and never too short.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

import numpy as np
from websockets.sync.client import connect

from effcore.bench.app_server import AppServer
from effcore.live.protocol import FRAME_COLUMNS, decode_frame
from effcore.records import STEP_COLUMNS, FloatArray, KnobChange, Snapshot
from effcore.store import Store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_TIMEOUT_MS = 60_000
#: Least time for which the stream is listened to, to learn what it takes at its quickest.
_ORIGIN_LISTEN_S = 5.0
#: Passes no measurement reaches.
_ENDLESS_EPOCHS = "1000"
_FRAME_SECONDS_ROW, _STORED_SECONDS_ROW = (
    FRAME_COLUMNS["steps"].index("seconds"),
    STEP_COLUMNS.index("seconds"),
)
#: Notes when the Start button first stood there, when the page was last pressed, and every
#: movement of a slider with its time; in the page, since asking from outside is slower.
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
#: The moment, in ms, at which the browser first painted anything of the page.
_FIRST_PAINT_JS = """performance.timeOrigin
  + performance.getEntriesByName("first-contentful-paint")[0].startTime"""
#: The moment, in ms, at which the loss chart holds a line or a marker; else nothing.
_LOSS_CURVE_DRAWN_JS = """() => [...document.querySelectorAll(
  '[data-testid=chart-loss] .scatterlayer :is(path.js-line, path.point)')]
  .some(path => path.getAttribute("d")) && performance.timeOrigin + performance.now()"""


class SteeringTimes(NamedTuple):
    """What steering and watching a run came to.

    Attributes:
        slider_ms: For each movement, the time to the end of the first batch under it.
        batch_ms: Median time of a batch meanwhile.
        ratios: Steps per second with the page open ÷ without, for each pair of blocks.
    """

    slider_ms: list[float]
    batch_ms: float
    ratios: list[float]


def open_recorded_page(browser: Browser, url: str) -> Page:
    """Open a page with a fresh profile, with the movements on it noted."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.set_default_timeout(_TIMEOUT_MS)
    page.add_init_script(_RECORD_INPUT_JS)
    page.goto(url)
    return page


def first_paint_times(page: Page) -> tuple[float, float]:
    """Return when anything was first on screen, and when Start was, as ``time.time()``."""
    ready: float = page.wait_for_function("window.readyAt").json_value()
    first: float = page.evaluate(_FIRST_PAINT_JS)
    return first / 1000, ready / 1000


def seconds_to_first_point(page: Page) -> float:
    """Press Start and return the seconds until the first point is drawn."""
    page.get_by_role("button", name="Start run", exact=True).click()
    drawn: float = page.wait_for_function(_LOSS_CURVE_DRAWN_JS).json_value()
    pressed: float = page.evaluate("window.pressedAt")
    return (drawn - pressed) / 1000


def measure_steering(
    browser: Browser,
    task: str,
    moves: int,
    blocks: int,
    seconds: float,
    say: Callable[[str], None],
) -> SteeringTimes:
    """Drag a slider of a long run, then look at it and away by turns.

    Args:
        browser: Drives the page.
        task: Task that trains, at its default size.
        moves: Mouse movements of the drag.
        blocks: Pairs of alternating blocks.
        seconds: Length of a block.
        say: Takes progress messages.

    Raises:
        RuntimeError: The run ended too early, or a movement never came into force.
    """
    with tempfile.TemporaryDirectory() as home:
        with AppServer(Path(home)) as server:
            server.wait_until_up()
            page = open_recorded_page(
                browser, f"{server.url}/?{urlencode({'task': task, 'epochs': _ENDLESS_EPOCHS})}"
            )
            seconds_to_first_point(page)
            run = server.training_run()
            if run is None:
                raise RuntimeError("the run ended before anything was measured")
            origin = _run_clock_origin(
                server.address, run["run_id"], max(seconds, _ORIGIN_LISTEN_S)
            )
            dragged = time.time()
            _drag_slider(page, moves)
            noted = page.evaluate("window.moves")
            dragged_until = time.time()
            times = _alternate_watching(page, blocks, seconds, say)
            page.context.close()
        stored = _load_stored_run(
            Path(home), run["run_id"]
        )  # the server has left and kept everything
    clock = stored.steps[_STORED_SECONDS_ROW] + origin
    latencies = slider_latencies(noted, stored.changes, clock)
    during = clock[(clock > dragged) & (clock < dragged_until)]
    batch_ms = 1000 * float(np.median(np.diff(during)))
    return SteeringTimes(latencies, batch_ms, watching_speed_ratios(clock, times))


def _run_clock_origin(address: str, run_id: str, seconds: float) -> float:
    """Return the wall-clock time at which the run's clock stood at zero."""
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
    """Drag the policy's first slider to and fro, at about sixty movements a second."""
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
    page: Page, blocks: int, seconds: float, say: Callable[[str], None]
) -> list[dict[bool, tuple[float, float]]]:
    """Open and blank the page by turns; returns the ends of each block, by whether it was open."""
    url = page.url
    pairs = []
    for block in range(blocks):
        pair = {}
        for watching in (True, False) if block % 2 == 0 else (False, True):
            page.goto(url if watching else "about:blank")
            if watching:
                page.wait_for_function(_LOSS_CURVE_DRAWN_JS)
            page.wait_for_timeout(1000)
            begin = time.time()
            page.wait_for_timeout(1000 * seconds)
            pair[watching] = begin, time.time()
        pairs.append(pair)
        say(f"block {block + 1}/{blocks}")
    return pairs


def _load_stored_run(home: Path, run_id: str) -> Snapshot:
    store = Store(home)
    try:
        return store.load_snapshot(run_id)
    finally:
        store.close()


def slider_latencies(
    moves: Sequence[tuple[float, float]], changes: Sequence[KnobChange], clock: FloatArray
) -> list[float]:
    """Return, for each movement, the ms until a batch was trained under it or a later one.

    Args:
        moves: Time in ms and value of each movement, in order.
        changes: Knob changes of the run, in order.
        clock: Time in seconds at which each step was done.

    Raises:
        RuntimeError: A movement never came into force.
    """
    latencies: list[float] = []
    for change in changes:
        if change.step >= len(clock):
            break
        done = 1000 * clock[change.step]
        known = [i for i, (at, value) in enumerate(moves) if at <= done and value == change.value]
        if known:
            latencies += [done - at for at, _ in moves[len(latencies) : known[-1] + 1]]
    if len(latencies) < len(moves):
        raise RuntimeError(f"only {len(latencies)} of {len(moves)} movements came into force")
    return latencies


def watching_speed_ratios(
    clock: FloatArray, pairs: Sequence[dict[bool, tuple[float, float]]]
) -> list[float]:
    """Return, for each pair of blocks, steps per second watched ÷ unwatched."""

    def rate(ends: tuple[float, float]) -> float:
        done = clock[(clock >= ends[0]) & (clock <= ends[1])]
        return float((len(done) - 1) / (done[-1] - done[0]))

    return [rate(pair[True]) / rate(pair[False]) for pair in pairs]
