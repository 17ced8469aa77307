"""What every page shares: where the assets are, store trouble, and the active run."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from effcore.manager import shared_runs
from effcore.store import StoreError

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def store_problem() -> bool:
    """Say in words why runs cannot be stored, if they cannot; return whether so."""
    try:
        shared_runs()
    except StoreError as error:
        st.error(f"**Runs cannot be stored, so none can start.** {error}", icon=":material/error:")
        st.button("Try again", icon=":material/refresh:")
        return True
    return False


def training_now(page: str) -> None:
    """Show the run that trains now in the sidebar, from every page but its own."""
    run = shared_runs().active()
    if run is None or page == "Live":
        return
    with st.sidebar:
        st.caption("Training now")
        st.page_link(
            "live.py",
            label=str(run.info()["title"]),
            icon=":material/play_circle:",
            query_params={"run": run.run_id},
        )
