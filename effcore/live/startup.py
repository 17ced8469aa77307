"""Startup of the app: browser, lazy loading of the library; and shutdown of its runs.

PyTorch takes seconds to import. The server therefore listens first, PyTorch is loaded while the
browser fetches the page, and everything that only the first run needs is loaded once the page is
drawn. This module imports nothing heavy itself.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
import threading
import webbrowser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from effcore.runs.run import Run
    from effcore.runs.stored_run import StoredRun

#: Set when the first page is drawn, or when the server ends without one.
first_page_drawn = threading.Event()
#: Set when the server shuts down.
shutting_down = threading.Event()
_library_loaded = threading.Event()
#: Delay in seconds for the browser to fetch the files of the first page.
_SETTLE_S = 0.7
#: Interval between checks whether the server listens, s.
_LISTEN_CHECK_S = 0.1


def load_library() -> None:
    """Import the library; once a page is drawn, also warm up for the first run."""
    import effcore.runs.manager  # noqa: F401 - imported for its side effect

    _library_loaded.set()
    first_page_drawn.wait()
    if shutting_down.wait(_SETTLE_S):
        return
    from effcore.training.warmup import warm_up

    warm_up()
    # Exempt everything imported so far from garbage collection, which would stall the trainer.
    gc.collect()
    gc.freeze()


def has_person_and_display() -> bool:
    """Return whether a person started the server from a terminal on a machine with a screen."""
    if not sys.stdout.isatty():
        return False
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def open_browser_when_up(host: str, port: int) -> None:
    """Open the first page in the person's browser once the server listens.

    It gives up when the server shuts down. ``BROWSER`` chooses the browser, as for
    :mod:`webbrowser`.

    Args:
        host: Address that the server listens on.
        port: Its port.
    """
    while not shutting_down.wait(_LISTEN_CHECK_S):
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1.0):
            webbrowser.open(f"http://{host}:{port}")
            return


def close_runs() -> None:
    """Stop and store all runs, if the library was loaded."""
    if _library_loaded.is_set():
        from effcore.runs.manager import close_shared_run_manager

        # Not imported means that no study was started.
        if study_job := sys.modules.get("effcore.studies.study_job"):
            study_job.stop_study_job()
        close_shared_run_manager()


class SharedRunSource:
    """Finds runs in the process's shared :class:`~effcore.runs.manager.RunManager`."""

    def find_run(self, run_id: str) -> Run | StoredRun | None:
        """Return the run, or ``None`` if there is none of that id.

        Raises:
            StoreError: The store cannot be used, or the run in it is damaged.
        """
        from effcore.runs.manager import shared_run_manager

        return shared_run_manager().find_run(run_id)

    def active_run(self) -> Run | None:
        """Return the run that trains now; none does before the library is loaded."""
        if not _library_loaded.is_set():
            return None
        from effcore.runs.manager import active_run

        return active_run()
