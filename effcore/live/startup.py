"""What happens between the start of the app and the first run, in the quickest order.

PyTorch takes seconds to import. So the server listens before it is loaded, it is loaded
while the browser fetches the page, and what only the first run needs is loaded once that
page is on screen. This module therefore imports nothing heavy itself.
"""

from __future__ import annotations

import gc
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from effcore.runs.run import Run
    from effcore.runs.stored_run import StoredRun

#: Set once a first page was drawn, or nobody will ask for one any more.
first_page_drawn = threading.Event()
#: Set when the server is about to end.
shutting_down = threading.Event()
_library_loaded = threading.Event()
#: Time for the browser to fetch what the first page is made of before more is loaded.
_SETTLE_S = 0.7


def load_library() -> None:
    """Load the library, then, once a page is on screen, what the first run needs."""
    import effcore.runs.manager  # noqa: F401 - loading it is the purpose

    _library_loaded.set()
    first_page_drawn.wait()
    if shutting_down.wait(_SETTLE_S):
        return
    from effcore.training.warmup import warm_up

    warm_up()
    # What is imported by now stays: collecting it again and again would stall the trainer.
    gc.collect()
    gc.freeze()


def close_runs() -> None:
    """Stop and store every run, where there can be one."""
    if _library_loaded.is_set():
        from effcore.runs.manager import close_shared_run_manager

        if studying := sys.modules.get(
            "effcore.studies.study_job"
        ):  # nobody compared where it is not there
            studying.stop_study_job()
        close_shared_run_manager()


class SharedRunSource:
    """Looks runs up in the process's one :class:`~effcore.runs.manager.RunManager`."""

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
