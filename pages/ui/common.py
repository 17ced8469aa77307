"""Shared by all pages: escaping, finding runs, store problems, the active run, and downloads."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import streamlit as st

from effcore.runs.manager import shared_run_manager
from effcore.runs.run import Run
from effcore.runs.stored_run import StoredRun
from effcore.store import RunSummary, StoreError


class Download(NamedTuple):
    """A file to download: label of its button, end of its name, and its content."""

    label: str
    suffix: str
    make_content: Callable[[], str | bytes]


def draw_downloads(name: str, downloads: Sequence[Download], key: str = "download") -> None:
    """Draw a button for each file.

    Args:
        name: Id of the run or study; file names begin with ``effcore-`` and this.
        downloads: The files.
        key: Prefix of the buttons' keys, so that a page can have two sets.
    """
    for download in downloads:
        st.download_button(
            download.label,
            download.make_content,
            f"effcore-{name}{download.suffix}",
            key=f"{key}-{download.suffix.removeprefix('.').removeprefix('-')}",
            on_click="ignore",
            icon=":material/download:",
        )


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


def show_error(cause: object, sentence: str = "") -> None:
    """Show an error.

    Args:
        cause: Its cause, in plain text.
        sentence: What failed, in Markdown, shown before the cause.
    """
    st.error(f"{sentence} {escape_markdown(cause)}".lstrip(), icon=":material/error:")


def warn_unknown_run(run_id: str, consequence: str = "") -> None:
    """Warn that the store does not have a run.

    Args:
        run_id: Its id, as in the address.
        consequence: What the page does instead, shown after the warning.
    """
    st.warning(
        f"There is no run {shorten_untrusted_text(run_id)} in this store. It may have been "
        f"deleted, or the address comes from another machine. {consequence}".rstrip(),
        icon=":material/link_off:",
    )


def show_nothing_trained(what: str) -> None:
    """Show that there is no run yet, and link to Live.

    Args:
        what: What appears on the page after a run.
    """
    st.info(f"Nothing has been trained yet. Start a run on the Live page and {what} here.")
    st.page_link("live.py", label="Go to Live", icon=":material/monitoring:")


def link_to_run(run_id: str, label: str, icon: str = ":material/monitoring:") -> None:
    """Link to a run on the Live page."""
    st.page_link("live.py", label=label, icon=icon, query_params={"run": run_id})


def draw_cards(cards: Sequence[tuple[str, str]]) -> None:
    """Draw cards side by side, each with a title and a text."""
    for column, (title, text) in zip(st.columns(len(cards)), cards, strict=True):
        with column.container(border=True, height="stretch"):
            st.markdown(f"**{title}**")
            st.caption(text)


def find_run_or_warn(run_id: str) -> Run | StoredRun | None:
    """Return the run, or show on the page why it cannot be shown."""
    try:
        run = shared_run_manager().find_run(run_id)
    except StoreError as error:
        show_error(error, "This run cannot be read.")
        return None
    if run is None:
        warn_unknown_run(run_id)
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
        show_error(error, "**Runs cannot be stored, so none can start.**")
        st.button("Try again", icon=":material/refresh:")
        return True
    return False


def link_active_run(page_title: str) -> None:
    """Link to the active run in the sidebar, except on the Live page."""
    run = shared_run_manager().active_run()
    if run is None or page_title == "Live":
        return
    with st.sidebar:
        st.caption("Training now")
        link_to_run(run.run_id, run.description().title, ":material/play_circle:")


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
