"""What lies in the region that was drawn on the data map."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
import streamlit as st

from effcore.examples.album import Album
from effcore.examples.choosing import Places, Region, inside
from effcore.examples.history import Look
from effcore.report import to_csv
from pages.ui.examples.choosing import open_example, picked_row
from pages.ui.examples.gallery import gallery
from pages.ui.taking import Offer, offer

#: Examples of a region that are listed and shown; all of them are in the file.
_LISTED, _SHOWN = 200, 8
#: How numbers of these columns are written, in every table of examples.
COLUMNS: Final = {
    "Example": st.column_config.NumberColumn(pinned=True),
    "Confidence": st.column_config.NumberColumn(format="percent"),
    "Variability": st.column_config.NumberColumn(format="%.3f"),
    "Last loss": st.column_config.NumberColumn(format="%.4f"),
}


def show_selected(run_id: str, look: Look, region: Region | None, album: Album | None) -> None:
    """Say how many lie in the region, and show some of them; else how the map is read."""
    if region is None:
        how_to_read()
        return
    places = np.flatnonzero(inside(region, look.variability_N, look.confidence_N))
    if not len(places):
        st.info("No example lies in this region.")
        return
    skipped = look.skipped_N[places].sum() / max(look.whole * len(places), 1)
    st.markdown(
        f"**{len(places):,} examples** in the region, {skipped:.0%} of their passes skipped"
    )
    places = places[np.argsort(look.confidence_N[places], kind="stable")]
    if album is not None:
        even = np.linspace(0, len(places) - 1, min(len(places), _SHOWN)).round().astype(np.intp)
        gallery(album, look, places[even].tolist(), "Some of the examples in the region")
    listed = places[:_LISTED].tolist()
    picked = st.dataframe(
        table_of(look, listed, album), hide_index=True, height=210, key="examples-selected",
        on_select="rerun", selection_mode="single-row", column_config=COLUMNS,
    )  # fmt: skip
    open_example(picked_row(listed, picked.selection.rows), "selected")
    if len(places) > _LISTED:
        st.caption(f"The {_LISTED} of the lowest confidence are listed; the file has them all.")
    with st.container(horizontal=True):
        offer(
            f"examples-{run_id}",
            [Offer("Selected (CSV)", ".csv", lambda: to_csv(table_of(look, places, album)))],
            key="examples-selected",
        )


def table_of(look: Look, places: Places | list[int], album: Album | None) -> pd.DataFrame:
    """Return what is known of some examples, as rows."""
    at = np.asarray(places, np.intp)
    columns: dict[str, object] = {"Example": at}
    if album is not None and album.group_N is not None:
        columns["Class"] = [album.names[group] for group in album.group_N[at]]
    columns |= {
        "Confidence": look.confidence_N[at],
        "Variability": look.variability_N[at],
        "Skipped": look.skipped_N[at],
        "Trained on": look.trained_N[at],
        "Last loss": look.loss_N[at],
    }
    return pd.DataFrame(columns)


def how_to_read() -> None:
    """Say what lies where on the map."""
    st.markdown(
        "Draw around some points to see what they are; the newest outline counts.\n\n"
        "- **Top left**, sure and steady: learned early. What is skipped should lie here.\n"
        "- **Right**, sometimes sure: the ambiguous ones, from which most is learned.\n"
        "- **Bottom left**, steadily wrong: hard, and often of a wrong label.\n"
    )
    st.caption(
        "An example that was skipped keeps the loss at which it was last trained on, so that its "
        "confidence is that of then and its variability rather too small."
    )
    st.markdown(
        ":small[[Swayamdipta et al. 2020, Dataset Cartography]"
        "(https://aclanthology.org/2020.emnlp-main.746/)]"
    )
