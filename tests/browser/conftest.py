"""The real app and a headless Chromium, shared by all browser tests; every page is watched."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext

from effcore.bench.app_server import AppServer, find_chromium, headless_chromium
from tests.browser.site import PATIENCE_MS, Site, stop_all_runs


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A Chromium; without one the tests are skipped, in continuous integration they fail."""
    if find_chromium() is None:
        message = "no chromium or google-chrome on PATH: install one of them"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with headless_chromium() as running:
        yield running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """The app, started once; tests leave it without a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EFFCORE_CPU_TDP_W", "65")  # so that there is an estimate of joules
        app = AppServer(tmp_path_factory.mktemp("browser-home"))
    with app:
        app.wait_until_up()
        yield app
        assert "Traceback" not in app.output, app.output


@pytest.fixture
def new_tab(browser: Browser, server: AppServer) -> Iterator[Callable[..., Site]]:
    """Opens tabs; fails the test where a page has complained, and stops every run."""
    contexts: list[BrowserContext] = []
    sites: list[Site] = []

    def make(app: AppServer = server, **options: Any) -> Site:
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 1000}, **options})
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        sites.append(Site(context.new_page(), app))
        return sites[-1]

    yield make
    errors = [error for site in sites for error in site.errors]
    for context in contexts:
        context.close()
    stop_all_runs(server)
    assert not errors, errors


@pytest.fixture
def site(new_tab: Callable[..., Site]) -> Site:
    """One tab, on nothing yet."""
    return new_tab()
