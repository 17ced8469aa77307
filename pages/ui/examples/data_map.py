"""The data map: every example by how it was learned, to be looked at and selected from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from effcore.figures.example_charts import MAP_UNITS, SKIPPED_SCALE, data_map_arrays
from effcore.insight.example_filters import MapRegion, parse_region
from effcore.insight.example_history import ExampleStatistics
from effcore.live.protocol import encode_frame
from pages.ui.assets import DECODE_SCRIPT, read_texts

_HERE = Path(__file__).parent
#: Ends of the map: a probability varies by no more than half.
_VARIABILITY_RANGE, _CONFIDENCE_RANGE = (0.0, 0.5), (0.0, 1.0)
#: So that what lies on the edge of a chosen range is in it.
_EDGE_TOLERANCE = 1e-6
_COMPONENT_KEY, _DRAWN_KEY = "data-map", "examples-map-drawn"

# As the live panel: registered once, and not isolated, so that the page's theme is the map's.
_map_component = st.components.v2.component(
    "effcore_data_map",
    html=read_texts(_HERE / "data_map.html"),
    css=read_texts(_HERE / "data_map.css"),
    js=read_texts(DECODE_SCRIPT, _HERE / "map_points.js", _HERE / "data_map.js"),
    isolate_styles=False,
)


def draw_data_map(run_id: str, statistics: ExampleStatistics) -> MapRegion | None:
    """Draw the map; returns the region that was drawn on it.

    Args:
        run_id: The run, for which zoom and region are kept.
        statistics: What is known of its examples; with losses.
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
        "variability to the right, coloured by how often each was skipped. Select by numbers "
        "below, without a mouse.",
    }
    told = _map_component(
        key=_COMPONENT_KEY,
        data=encode_frame(header, arrays),
        on_region_change=_keep_region_state,
        on_drawn_change=_mark_map_drawn,
    )
    return _parse_region(told.get("region"), run_id)


def map_is_drawn() -> bool:
    """Return whether this visitor's browser has a map on screen, or had."""
    return bool(st.session_state.get(_DRAWN_KEY))


def _mark_map_drawn() -> None:
    st.session_state[_DRAWN_KEY] = True


def _keep_region_state() -> None:
    """Have Streamlit keep what the browser says."""


def _parse_region(component_value: Any, run_id: str) -> MapRegion | None:
    """Return the region; what comes from a browser may be anything."""
    if not isinstance(component_value, dict) or component_value.get("run") != run_id:
        return None
    xs, ys = component_value.get("x"), component_value.get("y")
    return parse_region(xs, ys) if isinstance(xs, list) and isinstance(ys, list) else None


def choose_region_by_numbers() -> MapRegion | None:
    """Let the reader choose ranges instead; returns them once one is less than everything."""
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
