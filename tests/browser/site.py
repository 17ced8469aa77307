"""A person's view of the app: what is on the page, and how to press, drag and wait."""

from __future__ import annotations

import json
import time
from urllib.parse import parse_qs, urlencode, urlsplit

from playwright.sync_api import ConsoleMessage, Locator, Page, WebSocket, expect
from websockets.sync.client import connect

from effcore.bench.app_server import AppServer

#: A machine busy with other things is no failure.
PATIENCE_MS = 30_000
#: A run that trains for as long as any test needs it: a million quick steps.
ENDLESS = {"task": "digits", "model": "mlp", "epochs": "1000", "batch_size": "2"}
expect.set_options(timeout=PATIENCE_MS)

_RANGE = "el => document.querySelector(`[data-testid=${el}]`).layout.xaxis.range"
_LAST = """([chart, trace]) => {
  const found = document.querySelector(`[data-testid=${chart}]`)?.data?.find(t => t.name === trace)
  return Math.max(-1, ...Array.from(found?.x ?? []).filter(Number.isFinite))
}"""
_WATCH = """() => {
  window.removedCharts = []
  new MutationObserver(records => {
    for (const record of records) for (const node of record.removedNodes) {
      const chart = ".ec-live, [data-chart], .plot-container, .main-svg"
      if (node.matches?.(chart) || node.querySelector?.(chart)) {
        window.removedCharts.push(node.className?.baseVal ?? node.className)
      }
    }
  }).observe(document.body, { childList: true, subtree: true })
}"""


class Site:
    """One tab of the app; ``errors`` gathers whatever the page complains about."""

    def __init__(self, page: Page, server: AppServer) -> None:
        self.page = page
        self.server = server
        self.errors: list[str] = []
        self.applied: list[dict[str, float]] = []  # what the server said came into force
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        page.on("websocket", self._listen)
        page.on("console", self._note)

    def _note(self, said: ConsoleMessage) -> None:
        # Streamlit itself looks for its server below a deep link first, and gets a 404.
        address = said.location["url"]
        if said.type == "error" and "/_stcore/" not in address:
            self.errors.append(f"{said.text} ({address})")

    def _listen(self, socket: WebSocket) -> None:
        def hear(content: str | bytes) -> None:
            if isinstance(content, str) and content.startswith('{"applied"'):
                self.applied.append(json.loads(content)["applied"])

        if "/api/live" in socket.url:
            socket.on("framereceived", hear)

    def open(self, path: str = "", **query: str) -> None:
        """Go to a page; ``query`` becomes the address's parameters."""
        self.page.goto(f"{self.server.url}/{path}?{urlencode(query)}")

    def test(self, name: str) -> Locator:
        return self.page.get_by_test_id(name)

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def start(self) -> str:
        """Press Start and return the run's id, once it trains."""
        self.button("Start run").click()
        self.expect_status("running")
        self.wait_for_steps(1)
        return self.run_id()

    def run_id(self) -> str:
        """The run in the address."""
        self.page.wait_for_url("**run=*")
        return parse_qs(urlsplit(self.page.url).query)["run"][0]

    def expect_status(self, status: str) -> None:
        expect(self.test("run-status")).to_have_text(status)

    def steps(self) -> int:
        """The step count as shown."""
        return int((self.test("step-count").text_content() or "0").replace(",", ""))

    def wait_for_steps(self, at_least: int) -> None:
        self.page.wait_for_function(
            """least => Number(document.querySelector("[data-testid=step-count]")
                 ?.textContent.replaceAll(",", "")) >= least""",
            arg=at_least,
        )

    def let_pass(self, seconds: float) -> None:
        """Return when the page's own clock has moved on by so much.

        Asked by a timer: between frames, as is usual, it would wait for the next one, which a
        busy machine may owe for long after the window was resized.
        """
        since = self.page.evaluate("performance.now()")
        self.page.wait_for_function(
            "until => performance.now() >= until", arg=since + 1000 * seconds, polling=100
        )

    def x_range(self, chart: str) -> list[float]:
        """The horizontal range a chart shows."""
        shown: list[float] = self.page.evaluate(_RANGE, chart)
        return shown

    def last_x(self, chart: str, trace: str) -> float:
        """Where a chart's line ends; -1 while it has no point."""
        last: float = self.page.evaluate(_LAST, [chart, trace])
        return last

    def wait_for_points(self, chart: str, trace: str, beyond: float = -1.0) -> None:
        self.page.wait_for_function(
            f"([chart, trace, beyond]) => ({_LAST})([chart, trace]) > beyond",
            arg=[chart, trace, beyond],
        )

    def watch_removals(self) -> None:
        """From now on note every chart that is taken out of the page."""
        self.page.evaluate(_WATCH)

    def removed_charts(self) -> list[str]:
        """What :meth:`watch_removals` has seen."""
        removed: list[str] = self.page.evaluate("window.removedCharts")
        return removed

    def zoom(self, chart: str) -> None:
        """Drag over the middle third of a chart."""
        box = self.test(chart).locator(".nsewdrag").first.bounding_box()
        assert box is not None
        mouse, middle = self.page.mouse, box["y"] + box["height"] / 2
        mouse.move(box["x"] + box["width"] / 3, middle)
        mouse.down()
        mouse.move(box["x"] + box["width"] / 2, middle + 4, steps=4)
        mouse.move(box["x"] + box["width"] * 2 / 3, middle, steps=4)
        mouse.up()

    def grab(self, slider: str) -> Grip:
        """Press the mouse on a slider's thumb and keep it down."""
        return Grip(self, slider)


class Grip:
    """A slider held by the mouse."""

    def __init__(self, site: Site, slider: str) -> None:
        self._site = site
        element = site.test(slider)
        element.scroll_into_view_if_needed()
        box = element.bounding_box()
        assert box is not None
        self._box = box
        share = element.evaluate("el => (el.value - el.min) / (el.max - el.min)")
        site.page.mouse.move(*self._at(share))
        site.page.mouse.down()

    def _at(self, share: float) -> tuple[float, float]:
        box = self._box
        return box["x"] + 8 + share * (box["width"] - 16), box["y"] + box["height"] / 2

    def drag_to(self, share: float) -> None:
        """Move the thumb to a share of the slider's length, in small steps."""
        self._site.page.mouse.move(*self._at(share), steps=8)

    def release(self) -> None:
        self._site.page.mouse.up()


def stop_all_runs(server: AppServer) -> None:
    """Stop what trains and what waits, so that the next test starts on a free device."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while (run := server.training_run()) is not None:
        assert time.monotonic() < deadline, f"run {run['run_id']} does not stop"
        with connect(f"ws://{server.address}/api/live?run={run['run_id']}", max_size=None) as live:
            live.send('{"do": "stop"}')
            for message in live:
                if isinstance(message, str) and "ack" in message or "error" in str(message)[:9]:
                    break
