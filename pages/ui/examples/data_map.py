"""The data map: every example by its mean confidence and its variability, and the chosen region."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import streamlit as st

from effcore.figures.example_charts import MAP_UNITS, SKIPPED_SCALE, data_map_arrays
from effcore.insight.example_catalog import ExampleCatalog
from effcore.insight.example_filters import (
    ExampleNumbers,
    MapRegion,
    parse_region,
    points_in_region,
)
from effcore.insight.example_history import ExampleStatistics
from effcore.live.protocol import encode_frame
from effcore.report import to_csv
from pages.ui.assets import DECODE_SCRIPT, read_texts
from pages.ui.common import Download, draw_downloads
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

_HERE = Path(__file__).parent
#: Ranges of the map; the standard deviation of a probability is at most 0.5.
_VARIABILITY_RANGE, _CONFIDENCE_RANGE = (0.0, 0.5), (0.0, 1.0)
#: Widens a chosen range, so that examples on its edge are included.
_EDGE_TOLERANCE = 1e-6
_COMPONENT_KEY, _DRAWN_KEY = "data-map", "examples-map-drawn"

# Registered once and not isolated, like the live panel, so that the page's theme applies.
_map_component = st.components.v2.component(
    "effcore_data_map",
    html=read_texts(_HERE / "data_map.html"),
    css=read_texts(_HERE / "data_map.css"),
    js=read_texts(DECODE_SCRIPT, _HERE / "map_points.js", _HERE / "data_map.js"),
    isolate_styles=False,
)


def draw_data_map(run_id: str, statistics: ExampleStatistics) -> MapRegion | None:
    """Draw the map; return the region outlined on it.

    Args:
        run_id: The run; zoom and region are kept until it changes.
        statistics: Statistics of its examples, with losses.
    """
    arrays = data_map_arrays(statistics)
    header = {
        "run": run_id,
        "id": f"{run_id} {statistics.epochs}",
        "ask": not map_is_drawn(),
        "unit": MAP_UNITS,
        "scale": SKIPPED_SCALE,
        "most": int(arrays["skipped"].max(initial=0)),
        "label": f"Map of {int(statistics.known_N.sum()):,} examples: mean confidence upwards, its "
        "variability to the right, coloured by how often each was skipped. Without a mouse, use "
        "Select by numbers below.",
    }
    state = _map_component(
        key=_COMPONENT_KEY,
        data=encode_frame(header, arrays),
        on_region_change=_keep_region_state,
        on_drawn_change=_mark_map_drawn,
    )
    return _parse_region(state.get("region"), run_id)


def map_is_drawn() -> bool:
    """Return whether the browser has drawn a map in this session."""
    return bool(st.session_state.get(_DRAWN_KEY))


def _mark_map_drawn() -> None:
    st.session_state[_DRAWN_KEY] = True


def _keep_region_state() -> None:
    """Do nothing; Streamlit keeps the state of a component only if it has a callback."""


def _parse_region(component_value: Any, run_id: str) -> MapRegion | None:
    """Return the region, or ``None`` if the browser's value is not one of this run."""
    if not isinstance(component_value, dict) or component_value.get("run") != run_id:
        return None
    xs, ys = component_value.get("x"), component_value.get("y")
    return parse_region(xs, ys) if isinstance(xs, list) and isinstance(ys, list) else None


def choose_region_by_numbers() -> MapRegion | None:
    """Draw sliders for the ranges; return the region if it is smaller than the whole map."""
    with st.expander("Select by numbers instead"):
        confidence = st.slider(
            "Mean confidence",
            *_CONFIDENCE_RANGE,
            value=_CONFIDENCE_RANGE,
            step=0.01,
            format="percent",
            key="examples-confidence",
        )
        variability = st.slider(
            "Variability",
            *_VARIABILITY_RANGE,
            value=_VARIABILITY_RANGE,
            step=0.01,
            key="examples-variability",
        )
    if (confidence, variability) == (_CONFIDENCE_RANGE, _VARIABILITY_RANGE):
        return None
    (low, high), (left, right) = confidence, variability
    left, low, right, high = (
        left - _EDGE_TOLERANCE,
        low - _EDGE_TOLERANCE,
        right + _EDGE_TOLERANCE,
        high + _EDGE_TOLERANCE,
    )
    return MapRegion((left, right, right, left), (low, low, high, high))


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
    note = f"The {_LISTED_ROWS} with the lowest confidence are listed; the file has all of them."
    list_examples(
        "Selected", statistics, catalog, listed, places, file_name=f"examples-{run_id}", height=210,
        note=note if len(places) > _LISTED_ROWS else "",
    )  # fmt: skip


def list_examples(
    title: str,
    statistics: ExampleStatistics,
    catalog: ExampleCatalog | None,
    listed: list[int],
    exported: ExampleNumbers,
    *,
    file_name: str,
    height: int,
    note: str = "",
) -> None:
    """Draw a table from which an example can be picked, and a file with more of them to download.

    Args:
        title: Name of the list, unique on the page.
        statistics: Statistics of the examples.
        catalog: Catalog of the examples, if there is one.
        listed: Numbers of the examples in the table.
        exported: Numbers of the examples in the file.
        file_name: Name of the file, without its ending.
        height: Height of the table, px.
        note: Text between the two.
    """
    name = title.lower()
    picked = st.dataframe(
        _examples_table(statistics, listed, catalog),
        hide_index=True,
        height=height,
        key=f"examples-{name}",
        on_select="rerun",
        selection_mode="single-row",
        column_config=EXAMPLE_COLUMNS,
    )
    select_example(picked_example(listed, picked.selection.rows), name)
    if note:
        st.caption(note)

    def make_file() -> bytes:
        return to_csv(_examples_table(statistics, exported, catalog))

    with st.container(horizontal=True):
        file = Download(f"{title} (CSV)", ".csv", make_file)
        draw_downloads(file_name, [file], key=f"examples-{name}")


def _examples_table(
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
