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
    load_library,
    shutting_down,
)
from pages.ui.not_found import UnknownPathRedirect


@asynccontextmanager
async def prepare_and_close_runs(app: st.App) -> AsyncIterator[None]:
    """Load the library in the background; at shutdown, store and close all runs."""
    thread = threading.Thread(target=load_library, name="get-ready", daemon=True)
    thread.start()
    yield
    first_page_drawn.set()
    shutting_down.set()
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
