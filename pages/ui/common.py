"""Shared by all pages: escaping, finding runs, store problems, and the active run."""

from __future__ import annotations

import re

import streamlit as st

from effcore.runs.manager import shared_run_manager
from effcore.runs.run import Run
from effcore.runs.stored_run import StoredRun
from effcore.store import RunSummary, StoreError

_MARKDOWN_CHARACTERS = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:])")
#: Places where Markdown would make an address a link, even with backslashes.
_LINK_STARTS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=@)", re.IGNORECASE)
_ZERO_WIDTH_SPACE = "\u200b"  # invisible; a line may break there


def escape_markdown(text: object) -> str:
    """Escape a text so that Markdown shows it literally, without links or pictures."""
    return _MARKDOWN_CHARACTERS.sub(r"\\\1", _LINK_STARTS.sub(_ZERO_WIDTH_SPACE, str(text)))


def shorten_untrusted_text(text: object, max_length: int = 60) -> str:
    """Return untrusted text as short, printable and escaped Markdown."""
    line = "".join(c if c.isprintable() else "�" for c in str(text)[: max_length + 1])
    return escape_markdown(line if len(line) <= max_length else line[: max_length - 1] + "…")


def find_run_or_warn(run_id: str) -> Run | StoredRun | None:
    """Return the run, or show on the page why it cannot be shown."""
    try:
        run = shared_run_manager().find_run(run_id)
    except StoreError as error:
        st.error(f"This run cannot be read. {escape_markdown(error)}", icon=":material/error:")
        return None
    if run is None:
        st.warning(
            f"There is no run {shorten_untrusted_text(run_id)} in this store. It may have been "
            "deleted, or the address comes from another machine.",
            icon=":material/link_off:",
        )
    return run


def find_run_summary(run_id: str) -> RunSummary | None:
    """Return the list entry of a run; ``None`` if it is queued or cannot be read."""
    try:
        return shared_run_manager().store.summary(run_id)
    except StoreError:
        return None


def show_store_problem() -> bool:
    """Show why runs cannot be stored; return whether there is such a problem."""
    try:
        shared_run_manager()
    except StoreError as error:
        st.error(
            f"**Runs cannot be stored, so none can start.** {escape_markdown(error)}",
            icon=":material/error:",
        )
        st.button("Try again", icon=":material/refresh:")
        return True
    return False


def link_active_run(page_title: str) -> None:
    """Link to the active run in the sidebar, except on the Live and Present pages."""
    run = shared_run_manager().active_run()
    if run is None or page_title in ("Live", "Present"):
        return
    with st.sidebar:
        st.caption("Training now")
        st.page_link(
            "live.py",
            label=run.description().title,
            icon=":material/play_circle:",
            query_params={"run": run.run_id},
        )


def pin_sidebar_bar(container_key: str) -> None:
    """Keep a container at the top of the sidebar while the rest scrolls."""
    light, dark = (
        st.get_option(f"theme.{scheme}.sidebar.backgroundColor") for scheme in ("light", "dark")
    )
    st.html(
        f"""<style>
        [data-testid="stSidebar"] :has(> .st-key-{container_key}) {{
          position: sticky; top: 0; z-index: 10; }}
        .st-key-{container_key} {{ padding: 0.4rem 0; background: light-dark({light}, {dark}); }}
        </style>"""
    )
