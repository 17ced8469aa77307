"""Tables of texts, and amounts with what was assumed beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from effcore.records import Energy, EnergyQuality
from pages.ui.common import escape_markdown


def text_table(rows: Sequence[Mapping[str, str]], *, show_header: bool = True) -> None:
    """Draw rows of texts as they are, the first of each naming its row.

    Args:
        rows: Texts by column, the same columns in each; with none nothing is drawn.
        show_header: Whether the columns need their names.
    """
    if rows:
        # A table's cells are Markdown: what an instrument or a file says is not.
        table = pd.DataFrame(rows).map(escape_markdown).rename(columns=escape_markdown)
        st.table(table.set_index(table.columns[0]), hide_header=not show_header)
        # Streamlit lets no cell take more than 25rem, whatever room there is.
        st.html(
            """<style>
            [data-testid="stTable"] td [data-testid="stMarkdownContainer"] { max-width: 36rem; }
            </style>"""
        )


def percent_cell(share: float | None) -> float | None:
    """Return a share as a table's number, in percent; it is written by :func:`percent_column`."""
    return None if share is None else round(100 * share, 1) + 0.0  # no -0.0


def percent_column() -> ColumnConfig:
    """Return how a column of percent is written: all to one place, so that points align."""
    return st.column_config.NumberColumn(format="%.1f %%")


def energy_text(energy: Energy) -> str:
    """Return joules with their quality, or in words that there are none."""
    nothing = energy.joules is None and energy.lo is None
    return (
        "not measured"
        if nothing and energy.quality is EnergyQuality.UNAVAILABLE
        else energy.short_text()
    )


def show_swipe_hint(table_name: str) -> None:
    """Say beneath a wide table, on a phone alone, that it goes on to the right.

    Args:
        table_name: Tells it from the other tables of the page.
    """
    st.html(
        """<style>
        @media (min-width: 641px) { :has(> [class*="st-key-sideways"]) { display: none; } }
        </style>"""
    )
    with st.container(key=f"sideways-{table_name}"):
        st.caption("More columns to the right: swipe the table sideways.")


def name_amount_rows(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Return names and texts as rows."""
    return [{"What": name, "Amount": text} for name, text in pairs]


def table_with_notes(
    rows: Sequence[Mapping[str, str]],
    notes: Iterable[str],
    title: str = "Assumed",
    *,
    show_header: bool = False,
) -> None:
    """Draw a table and, beside it, or beneath it on a phone, what goes with it."""
    amounts, terms = st.columns([3, 2], gap="medium")
    with amounts:
        text_table(rows, show_header=show_header)
    with terms:
        if listed := "\n".join(f"- {escape_markdown(sentence)}" for sentence in notes):
            st.markdown(f"**{title}**")
            st.caption(listed)
