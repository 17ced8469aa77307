"""The application object: ``streamlit run app.py``.

Routes, start-up and shutdown live here; the page a visitor sees is ``pages/_main.py``.
That script sits inside ``pages/`` so that a first request straight to any page runs the
frame, which Streamlit's own discovery of a ``pages/`` folder would leave out.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st

from effcore.manager import SharedSource, close_shared_runs
from effcore.stream.routes import routes
from effcore.warmup import warm_up


def get_ready() -> None:
    """Load what the first run needs while the first visitor looks at the page."""
    warm_up()
    # What is imported by now stays: collecting it again and again would stall the trainer.
    gc.collect()
    gc.freeze()


@asynccontextmanager
async def lifespan(app: st.App) -> AsyncIterator[None]:
    """Get ready in the background, and store every run before leaving."""
    thread = threading.Thread(target=get_ready, name="warm-up", daemon=True)
    thread.start()
    yield
    thread.join()
    close_shared_runs()


app = st.App(
    Path(__file__).parent / "pages" / "_main.py",
    routes=routes(SharedSource()),
    lifespan=lifespan,
)

if __name__ == "__main__":
    app.run()
