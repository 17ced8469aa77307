"""What every page shares: finding runs, trouble with the store, and the active run."""

from __future__ import annotations

import re

import streamlit as st

from effcore.runs.manager import shared_run_manager
from effcore.runs.run import Run
from effcore.runs.stored_run import StoredRun
from effcore.store import RunSummary, StoreError

_MARKDOWN_CHARACTERS = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:])")
#: Where an address would be made a link: that happens to the text without its backslashes.
_LINK_STARTS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=@)", re.IGNORECASE)
_ZERO_WIDTH_SPACE = "\u200b"  # of no width; a line may break there


def escape_markdown(text: object) -> str:
    """Return the text so that Markdown shows it as it is: no links, no pictures."""
    return _MARKDOWN_CHARACTERS.sub(r"\\\1", _LINK_STARTS.sub(_ZERO_WIDTH_SPACE, str(text)))


def shorten_untrusted_text(text: object, max_length: int = 60) -> str:
    """Return what somebody typed or sent as a short plain text, whatever it holds."""
    line = "".join(c if c.isprintable() else "�" for c in str(text)[: max_length + 1])
    return escape_markdown(line if len(line) <= max_length else line[: max_length - 1] + "…")


def find_run_or_warn(run_id: str) -> Run | StoredRun | None:
    """Return the run, or say on the page why it cannot be shown."""
    try:
        run = shared_run_manager().find_run(run_id)
    except StoreError as error:
        st.error(f"This run cannot be read. {escape_markdown(error)}", icon=":material/error:")
        return None
    if run is None:
        st.warning(
            f"There is no run {shorten_untrusted_text(run_id)} in this store. It may have been "
            "deleted, or the "
            "address comes from another machine.",
            icon=":material/link_off:",
        )
    return run


def find_run_summary(run_id: str) -> RunSummary | None:
    """Return what the store's list says of a run; nothing of one that still waits."""
    try:
        return shared_run_manager().store.summary(run_id)
    except StoreError:
        return None


def show_store_problem() -> bool:
    """Say in words why runs cannot be stored, if they cannot; return whether so."""
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
    """Show the run that trains now in the sidebar, from every page but its own two."""
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
    """Let the choices of the sidebar scroll away beneath a container of it."""
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
