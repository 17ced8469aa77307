"""Files to take along: made when asked for, and named after what they are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from effcore.report import to_csv, to_json, to_parquet


class Download(NamedTuple):
    """One file: what its button says, how its name ends, and what makes it."""

    label: str
    suffix: str
    make_content: Callable[[], str | bytes]


def draw_downloads(name: str, downloads: Sequence[Download], key: str = "download") -> None:
    """Draw a button for each file.

    Args:
        name: What they are of; their names begin with ``effcore-`` and it.
        downloads: The files.
        key: Begins the buttons' keys, so that a page can offer two sets.
    """
    for each in downloads:
        st.download_button(
            each.label,
            each.make_content,
            f"effcore-{name}{each.suffix}",
            key=f"{key}-{each.suffix.removeprefix('.').removeprefix('-')}",
            on_click="ignore",
            icon=":material/download:",
        )


def draw_study_downloads(
    name: str,
    make_page: Callable[[], str],
    make_table: Callable[[], pd.DataFrame],
    record: Mapping[str, Any],
    key: str = "download",
) -> None:
    """Offer a study or a sweep as a page to read offline, as a table and as its record."""
    offers = (
        Download("Report (HTML)", ".html", make_page),
        Download("Table (CSV)", ".csv", lambda: to_csv(make_table())),
        Download("Table (Parquet)", ".parquet", lambda: to_parquet(make_table())),
        Download("Record (JSON)", ".json", lambda: to_json(record)),
    )
    with st.container(horizontal=True):
        draw_downloads(name, offers, key)
