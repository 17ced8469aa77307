"""The real app in its own process, and a headless browser to open it with.

Measurements and browser tests must see what a user sees. They start the app by its own command
and reach it over HTTP only.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self, TypedDict

if TYPE_CHECKING:
    from playwright.sync_api import Browser

#: The app's file, beside the package in a checkout.
APP_FILE = Path(__file__).resolve().parents[2] / "app.py"
#: Longest wait for a server to answer, s.
_SERVER_TIMEOUT_S = 90.0
_POLL_S = 0.02
#: Flags of Chromium: it renders in software and opens no connections of its own.
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class TrainingStatus(TypedDict):
    """Status of the run that trains, as ``/api/health`` reports it."""

    run_id: str
    status: str
    step: int


class Health(TypedDict):
    """Answer of ``/api/health``; ``trainer`` is ``None`` while nothing trains."""

    status: str
    trainer: TrainingStatus | None


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class AppServer:
    """``streamlit run app.py`` on a free port, with its own store; used in ``with``.

    Args:
        home: Folder of the store.

    Attributes:
        address: ``127.0.0.1:port``.
        url: Address of the first page.
        started_unix: Start of the process, as ``time.time()``.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.started_unix = time.time()
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        words = [sys.executable, "-m", "streamlit", "run", APP_FILE.name, f"--server.port={port}"]
        # In its own session, so that all processes it starts can be ended with it.
        self._process = subprocess.Popen(
            words,
            cwd=APP_FILE.parent,
            env={**os.environ, "EFFCORE_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._output_lines: list[str] = []
        assert self._process.stdout is not None
        self._reader = threading.Thread(
            target=self._read_output, args=(self._process.stdout,), name="app-output", daemon=True
        )
        self._reader.start()

    def _read_output(self, output: IO[str]) -> None:
        self._output_lines.extend(output)

    @property
    def output(self) -> str:
        """Text that the server has printed so far."""
        return "".join(self._output_lines)

    def __enter__(self) -> Self:
        """Return at once; see :meth:`wait_until_up`."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the server, by force if it does not stop by itself."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(15)
        with contextlib.suppress(ProcessLookupError, AttributeError):  # no groups on Windows
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait(15)
        self._reader.join(15)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def health(self) -> Health:
        """Request ``/api/health``.

        Raises:
            OSError: The server does not answer.
        """
        with urllib.request.urlopen(f"{self.url}/api/health", timeout=10) as answer:
            health: Health = json.load(answer)
        return health

    def training_run(self) -> TrainingStatus | None:
        """Return the status of the run that trains now."""
        return self.health()["trainer"]

    def wait_until_up(self) -> None:
        """Wait until the server answers.

        Raises:
            RuntimeError: It ended or did not answer in time; the message has its output.
        """
        deadline = time.monotonic() + _SERVER_TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                self.health()
                return
            time.sleep(_POLL_S)
        raise RuntimeError(f"the app did not come up; it printed:\n{self.output}")


def find_chromium() -> str | None:
    """Return the path of an installed Chromium or Chrome."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if path := shutil.which(name):
            return path
    return None


@contextlib.contextmanager
def headless_chromium() -> Iterator[Browser]:
    """Run a headless Chromium, driven by playwright.

    Raises:
        RuntimeError: playwright or the browser is not installed; the message has a remedy.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise RuntimeError("playwright is missing: pip install 'effcore[test]'") from None
    path = find_chromium()
    if path is None:
        raise RuntimeError("no chromium or google-chrome on PATH: install one of them")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
        try:
            yield browser
        finally:
            browser.close()
