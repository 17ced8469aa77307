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

from effcore.startup import SharedSource, close_runs, first_page, get_ready, leaving
from effcore.stream.routes import routes
from pages.ui.lost import LeadOn


@asynccontextmanager
async def lifespan(app: st.App) -> AsyncIterator[None]:
    """Get ready in the background, and store every run before leaving."""
    thread = threading.Thread(target=get_ready, name="get-ready", daemon=True)
    thread.start()
    yield
    first_page.set()
    leaving.set()
    thread.join()
    close_runs()


app = st.App(
    Path(__file__).parent / "pages" / "_main.py",
    routes=routes(SharedSource()),
    middleware=[Middleware(LeadOn)],
    lifespan=lifespan,
)

if __name__ == "__main__":
    app.run()
