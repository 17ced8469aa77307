"""The application object: ``streamlit run app.py``.

Routes, start-up and shutdown live here; the page a visitor sees is ``pages/_main.py``.
That script sits inside ``pages/`` so that a first request straight to any page runs the
frame, which Streamlit's own discovery of a ``pages/`` folder would leave out.
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
    """Get ready in the background, and store every run before leaving."""
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
