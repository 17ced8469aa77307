"""Startup of the app: lazy loading of the library, and shutdown of its runs.

PyTorch takes seconds to import. The server therefore listens first, PyTorch is loaded while the
browser fetches the page, and everything that only the first run needs is loaded once the page is
drawn. This module imports nothing heavy itself.
"""

from __future__ import annotations

import gc
import sys
import threading
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
