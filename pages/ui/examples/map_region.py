"""The examples in the region outlined on the data map."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
import streamlit as st

from effcore.insight.example_catalog import ExampleCatalog
from effcore.insight.example_filters import ExampleNumbers, MapRegion, points_in_region
from effcore.insight.example_history import ExampleStatistics
from effcore.report import to_csv
from pages.ui.downloads import Download, draw_downloads
from pages.ui.examples.gallery import draw_gallery
from pages.ui.examples.pickers import picked_example, select_example

#: Most examples of a region in the table and in the gallery; the file has all of them.
_LISTED_ROWS, _GALLERY_SIZE = 200, 8
#: Number formats of the columns in every table of examples.
EXAMPLE_COLUMNS: Final = {
    "Example": st.column_config.NumberColumn(pinned=True),
    "Confidence": st.column_config.NumberColumn(format="percent"),
    "Variability": st.column_config.NumberColumn(format="%.3f"),
    "Last loss": st.column_config.NumberColumn(format="%.4f"),
}


def show_map_region(
    run_id: str,
    statistics: ExampleStatistics,
    region: MapRegion | None,
    catalog: ExampleCatalog | None,
) -> None:
    """Show the examples in the region; without a region, show how to read the map."""
    if region is None:
        show_map_legend()
        return
    places = np.flatnonzero(
        points_in_region(region, statistics.variability_N, statistics.confidence_N)
    )
    if not len(places):
        st.info("No example lies in this region.")
        return
    skipped = statistics.skipped_N[places].sum() / max(statistics.complete_epochs * len(places), 1)
    st.markdown(
        f"**{len(places):,} examples** in the region, skipped in {skipped:.0%} of the epochs"
    )
    places = places[np.argsort(statistics.confidence_N[places], kind="stable")]
    if catalog is not None:
        spaced = (
            np.linspace(0, len(places) - 1, min(len(places), _GALLERY_SIZE)).round().astype(np.intp)
        )
        draw_gallery(
            catalog, statistics, places[spaced].tolist(), "Some of the examples in the region"
        )
    listed = places[:_LISTED_ROWS].tolist()
    picked = st.dataframe(
        examples_table(statistics, listed, catalog),
        hide_index=True,
        height=210,
        key="examples-selected",
        on_select="rerun",
        selection_mode="single-row",
        column_config=EXAMPLE_COLUMNS,
    )
    select_example(picked_example(listed, picked.selection.rows), "selected")
    if len(places) > _LISTED_ROWS:
        st.caption(
            f"The {_LISTED_ROWS} with the lowest confidence are listed; the file has all of them."
        )
    with st.container(horizontal=True):
        draw_downloads(
            f"examples-{run_id}",
            [
                Download(
                    "Selected (CSV)",
                    ".csv",
                    lambda: to_csv(examples_table(statistics, places, catalog)),
                )
            ],
            key="examples-selected",
        )


def examples_table(
    statistics: ExampleStatistics,
    numbers: ExampleNumbers | list[int],
    catalog: ExampleCatalog | None,
) -> pd.DataFrame:
    """Return a table of the statistics of some examples."""
    at = np.asarray(numbers, np.intp)
    columns: dict[str, object] = {"Example": at}
    if catalog is not None and catalog.group_N is not None:
        columns["Class"] = [catalog.class_names[group] for group in catalog.group_N[at]]
    columns |= {
        "Confidence": statistics.confidence_N[at],
        "Variability": statistics.variability_N[at],
        "Skipped": statistics.skipped_N[at],
        "Trained on": statistics.trained_N[at],
        "Last loss": statistics.loss_N[at],
    }
    return pd.DataFrame(columns)


def show_map_legend() -> None:
    """Show how to read the map."""
    st.markdown(
        "Draw an outline around some points to see their examples; only the newest outline "
        "counts.\n\n"
        "- **Top left**, high and steady confidence: learned early. Skipped examples should lie "
        "here.\n"
        "- **Right**, varying confidence: ambiguous examples, from which a model learns most.\n"
        "- **Bottom left**, steadily low confidence: hard examples, often with a wrong label.\n"
    )
    st.caption(
        "A skipped example keeps the loss of the last time it was trained on. Its confidence is "
        "then outdated, and its variability too small."
    )
    st.markdown(
        ":small[[Swayamdipta et al. 2020, Dataset Cartography]"
        "(https://aclanthology.org/2020.emnlp-main.746/)]"
    )
