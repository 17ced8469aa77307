"""How quickly the page answers and what it costs, on the real app in headless Chromium."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import numpy as np

from effcore.bench.app_server import AppServer, headless_chromium
from effcore.bench.slider_latency import (
    first_paint_times,
    measure_steering,
    open_recorded_page,
    seconds_to_first_point,
)
from effcore.studies.statistics import MedianInterval, median_interval

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@dataclass(frozen=True)
class LatencySummary:
    """How a time came out over repeats."""

    median: float
    p95: float
    n: int

    @classmethod
    def from_values(cls, values: Sequence[float]) -> LatencySummary:
        """Summarize at least one value."""
        return cls(float(np.median(values)), float(np.percentile(values, 95)), len(values))


@dataclass(frozen=True)
class PageLatencies:
    """Everything this module measures.

    Attributes:
        paint_s: Start of the server's process to the first thing on screen.
        ready_s: Start of the server's process to the Start button on screen.
        point_s: Press of that button to the first point drawn in the loss chart.
        slider_ms: Each movement of a dragged slider to the end of the first batch trained
            under that value or a later one of the same drag.
        batch_ms: Median time of a batch while the slider was dragged.
        watched: Steps per second with the page open, relative to a blank one.
    """

    paint_s: LatencySummary
    ready_s: LatencySummary
    point_s: LatencySummary
    slider_ms: LatencySummary
    batch_ms: float
    watched: MedianInterval

    def __str__(self) -> str:
        """Write one line each."""
        return "\n".join(
            [
                f"server start to first paint: {_latency_line(self.paint_s, 's')}",
                f"server start to Start button: {_latency_line(self.ready_s, 's')}",
                f"press to first point: {_latency_line(self.point_s, 's')}",
                f"slider to trained batch: {_latency_line(self.slider_ms, 'ms')}, "
                f"of which one batch is {self.batch_ms:.1f} ms",
                f"steps per second, one Chromium watching ÷ none: {self.watched}",
            ]
        )


def _latency_line(spread: LatencySummary, unit: str) -> str:
    return f"median {spread.median:.2f} {unit}, p95 {spread.p95:.2f} {unit} (n={spread.n})"


def measure_page(
    task: str,
    starts: int,
    moves: int,
    blocks: int,
    seconds: float,
    say: Callable[[str], None],
) -> PageLatencies:
    """Measure the page.

    Args:
        task: Task that trains, at its default size.
        starts: Fresh servers, each with a fresh browser profile.
        moves: Mouse movements of the slider's drag.
        blocks: Pairs of alternating blocks, with the page open and without.
        seconds: Length of a block.
        say: Takes progress messages.

    Raises:
        RuntimeError: No browser, or the app did not do as it should.
    """
    with headless_chromium() as browser:
        begun = []
        for start in range(starts):
            begun.append(_measure_start(browser, task))
            paint, ready, point = begun[-1]
            say(f"start {start + 1}/{starts}: {paint:.2f} s, {ready:.2f} s, point {point:.2f} s")
        steered = measure_steering(browser, task, moves, blocks, seconds, say)
    paints, readies, points = zip(*begun, strict=True)
    return PageLatencies(
        LatencySummary.from_values(paints),
        LatencySummary.from_values(readies),
        LatencySummary.from_values(points),
        LatencySummary.from_values(steered.slider_ms),
        steered.batch_ms,
        median_interval(steered.ratios),
    )


def _measure_start(browser: Browser, task: str) -> tuple[float, float, float]:
    """Start a server, open the page, press Start; returns seconds to paint, button and point."""
    with tempfile.TemporaryDirectory() as home, AppServer(Path(home)) as server:
        server.wait_until_up()
        page = open_recorded_page(browser, f"{server.url}/?{urlencode({'task': task})}")
        paint, ready = (moment - server.started_unix for moment in first_paint_times(page))
        page.wait_for_timeout(2000)  # nobody presses what they have not read
        point = seconds_to_first_point(page)
        page.context.close()
    return paint, ready, point
