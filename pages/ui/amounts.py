"""Tables of texts, and amounts with what was assumed beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from effcore.events import Energy, Quality
from pages.ui.frame import plain


def text_table(rows: Sequence[Mapping[str, str]], *, headed: bool = True) -> None:
    """Draw rows of texts as they are, the first of each naming its row.

    Args:
        rows: Texts by column, the same columns in each; with none nothing is drawn.
        headed: Whether the columns need their names.
    """
    if rows:
        # A table's cells are Markdown: what an instrument or a file says is not.
        table = pd.DataFrame(rows).map(plain).rename(columns=plain)
        st.table(table.set_index(table.columns[0]), hide_header=not headed)
        # Streamlit lets no cell take more than 25rem, whatever room there is.
        st.html(
            """<style>
            [data-testid="stTable"] td [data-testid="stMarkdownContainer"] { max-width: 36rem; }
            </style>"""
        )


def percent(share: float | None) -> float | None:
    """Return a share as a table's number, in percent; it is written by :func:`percents`."""
    return None if share is None else round(100 * share, 1) + 0.0  # no -0.0


def percents() -> ColumnConfig:
    """Return how a column of percent is written: all to one place, so that points align."""
    return st.column_config.NumberColumn(format="%.1f %%")


def energy_words(energy: Energy) -> str:
    """Return joules with their quality, or in words that there are none."""
    nothing = energy.joules is None and energy.lo is None
    return "not measured" if nothing and energy.quality is Quality.UNAVAILABLE else energy.short()


def sideways_note(table: str) -> None:
    """Say beneath a wide table, on a phone alone, that it goes on to the right.

    Args:
        table: Tells it from the other tables of the page.
    """
    st.html(
        """<style>
        @media (min-width: 641px) { :has(> [class*="st-key-sideways"]) { display: none; } }
        </style>"""
    )
    with st.container(key=f"sideways-{table}"):
        st.caption("More columns to the right: swipe the table sideways.")


def named(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Return names and texts as rows."""
    return [{"What": name, "Amount": text} for name, text in pairs]


def beside(
    rows: Sequence[Mapping[str, str]],
    said: Iterable[str],
    title: str = "Assumed",
    *,
    headed: bool = False,
) -> None:
    """Draw a table and, beside it, or beneath it on a phone, what goes with it."""
    amounts, terms = st.columns([3, 2], gap="medium")
    with amounts:
        text_table(rows, headed=headed)
    with terms:
        if listed := "\n".join(f"- {plain(sentence)}" for sentence in said):
            st.markdown(f"**{title}**")
            st.caption(listed)
