"""The application object, with its routes, start-up and shutdown: ``streamlit run app.py``.

The main script is ``pages/_main.py``. It lies inside ``pages/`` so that it also runs when the
first request asks for another page; Streamlit's own discovery of ``pages/`` would bypass it.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from effcore.live.routes import live_routes
from effcore.live.startup import (
    SharedRunSource,
    close_runs,
    first_page_drawn,
    has_person_and_display,
    load_library,
    open_browser_when_up,
    shutting_down,
)
from pages.ui.not_found import UnknownPathRedirect


@asynccontextmanager
async def prepare_and_close_runs(app: st.App) -> AsyncIterator[None]:
    """Open the browser and load the library in the background; at shutdown, store all runs."""
    threads = [threading.Thread(target=load_library, name="get-ready", daemon=True)]
    if has_person_and_display():
        where = (st.get_option("server.address") or "localhost", st.get_option("server.port"))
        threads.append(
            threading.Thread(
                target=open_browser_when_up, args=where, name="open-browser", daemon=True
            )
        )
    for thread in threads:
        thread.start()
    yield
    first_page_drawn.set()
    shutting_down.set()
    for thread in threads:
        thread.join()
    close_runs()


app = st.App(
    Path(__file__).parent / "pages" / "_main.py",
    routes=live_routes(SharedRunSource()),
    middleware=[Middleware(UnknownPathRedirect)],
    lifespan=prepare_and_close_runs,
)

if __name__ == "__main__":
    app.run()
