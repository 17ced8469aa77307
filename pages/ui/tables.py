"""Tables of texts, and tables with notes beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from effcore.records import Energy, EnergyQuality
from pages.ui.common import escape_markdown


def text_table(rows: Sequence[Mapping[str, str]], *, show_header: bool = True) -> None:
    """Draw rows of plain texts; the first column names the row.

    Args:
        rows: Texts by column, with the same columns in every row; nothing is drawn for no rows.
        show_header: Whether to show the names of the columns.
    """
    if rows:
        # Table cells are Markdown, but texts from an energy source or a file are not.
        table = pd.DataFrame(rows).map(escape_markdown).rename(columns=escape_markdown)
        st.table(table.set_index(table.columns[0]), hide_header=not show_header)
        # Streamlit limits cells to 25rem, even if there is more room.
        st.html(
            """<style>
            [data-testid="stTable"] td [data-testid="stMarkdownContainer"] { max-width: 36rem; }
            </style>"""
        )


def percent_cell(share: float | None) -> float | None:
    """Return a share in percent, for a column configured by :func:`percent_column`."""
    return None if share is None else round(100 * share, 1) + 0.0  # no -0.0


def percent_column() -> ColumnConfig:
    """Return the format of a column of percentages: one decimal place."""
    return st.column_config.NumberColumn(format="%.1f %%")


def energy_text(energy: Energy) -> str:
    """Return the energy with its quality, or that it was not measured."""
    has_no_value = energy.joules is None and energy.lo is None
    return (
        "not measured"
        if has_no_value and energy.quality is EnergyQuality.UNAVAILABLE
        else energy.short_text()
    )


def show_swipe_hint(table_name: str) -> None:
    """Show below a wide table, on a phone only, that it can be swiped sideways.

    Args:
        table_name: Unique name of the table on the page.
    """
    st.html(
        """<style>
        @media (min-width: 641px) { :has(> [class*="st-key-sideways"]) { display: none; } }
        </style>"""
    )
    with st.container(key=f"sideways-{table_name}"):
        st.caption("More columns to the right: swipe the table sideways.")


def name_amount_rows(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Return pairs of name and text as rows of a table."""
    return [{"What": name, "Amount": text} for name, text in pairs]


def table_with_notes(
    rows: Sequence[Mapping[str, str]],
    notes: Iterable[str],
    title: str = "Assumed",
    *,
    show_header: bool = False,
) -> None:
    """Draw a table with a list of notes beside it, or below it on a phone."""
    amounts, terms = st.columns([3, 2], gap="medium")
    with amounts:
        text_table(rows, show_header=show_header)
    with terms:
        if listed := "\n".join(f"- {escape_markdown(sentence)}" for sentence in notes):
            st.markdown(f"**{title}**")
            st.caption(listed)
