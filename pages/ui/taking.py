"""Files to take along: made when asked for, and named after what they are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from effcore.report import to_csv, to_json, to_parquet


class Offer(NamedTuple):
    """One file: what its button says, how its name ends, and what makes it."""

    label: str
    ending: str
    make: Callable[[], str | bytes]


def offer(name: str, offers: Sequence[Offer], key: str = "download") -> None:
    """Draw a button for each file.

    Args:
        name: What they are of; their names begin with ``effcore-`` and it.
        offers: The files.
        key: Begins the buttons' keys, so that a page can offer two sets.
    """
    for each in offers:
        st.download_button(
            each.label,
            each.make,
            f"effcore-{name}{each.ending}",
            key=f"{key}-{each.ending.removeprefix('.').removeprefix('-')}",
            on_click="ignore",
            icon=":material/download:",
        )


def offer_study(
    name: str,
    page: Callable[[], str],
    table: Callable[[], pd.DataFrame],
    told: Mapping[str, Any],
    key: str = "download",
) -> None:
    """Offer a study or a sweep as a page to read offline, as a table and as its record."""
    offers = (
        Offer("Report (HTML)", ".html", page),
        Offer("Table (CSV)", ".csv", lambda: to_csv(table())),
        Offer("Table (Parquet)", ".parquet", lambda: to_parquet(table())),
        Offer("Record (JSON)", ".json", lambda: to_json(told)),
    )
    with st.container(horizontal=True):
        offer(name, offers, key)
