"""What the live panel's charts compute, by their own script."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

_SCRIPT = Path(__file__).parents[2] / "pages" / "ui" / "live" / "panel_scale.js"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page that knows the script."""
    empty = browser.new_page()
    empty.add_script_tag(content=_SCRIPT.read_text(encoding="utf-8"))
    yield empty
    empty.close()


def test_smoothing_grows_with_the_run_until_it_is_what_was_always_meant(page: Page) -> None:
    spans = page.evaluate("[1, 78, 200, 400, 100000].map(defaultSpan)")
    assert spans == [1, 3, 10, 20, 20]
    # A loss that falls evenly: the smoothed one lags by about the span, here 3 of 78 steps.
    lags = page.evaluate(
        """[defaultSpan(78), 20].map(span => {
             const step = Array.from({ length: 78 }, (_, i) => i + 1)
             return smooth(step, step.map(i => -i), span).at(-1) + 78
           })"""
    )
    assert lags[0] < 3
    assert lags[1] > 15


def test_a_loss_axis_is_labelled_at_ones_twos_and_fives_while_they_fit(page: Page) -> None:
    for lowest in (0.2, 0.05, 0.02, 0.01, 0.001, 1e-5):
        ticks = page.evaluate("logTicks", [lowest, 2.5, 0, None, -1.0])
        decades = 1.1 * math.log10(2.5 / lowest)
        most = 0.7 if lowest >= 0.01 else math.inf  # above it powers of ten alone
        assert 0.3 < decades / ticks < most, "as plotly decides; below 0.3 it writes every digit"
    assert page.evaluate("logTicks", []) == 3
