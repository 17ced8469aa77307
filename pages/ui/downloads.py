"""Download buttons; the files are made on demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from effcore.report import to_csv, to_json, to_parquet


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


def draw_study_downloads(
    name: str,
    make_page: Callable[[], str],
    make_table: Callable[[], pd.DataFrame],
    record: Mapping[str, Any],
    key: str = "download",
) -> None:
    """Offer a study or a sweep as an offline report, as a table and as a JSON record."""
    downloads = (
        Download("Report (HTML)", ".html", make_page),
        Download("Table (CSV)", ".csv", lambda: to_csv(make_table())),
        Download("Table (Parquet)", ".parquet", lambda: to_parquet(make_table())),
        Download("Record (JSON)", ".json", lambda: to_json(record)),
    )
    with st.container(horizontal=True):
        draw_downloads(name, downloads, key)
