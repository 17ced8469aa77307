"""The data map: every example by its mean confidence and its variability."""

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
