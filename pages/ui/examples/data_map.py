"""The data map: every example by how it was learned, to be looked at and selected from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from effcore.examples.choosing import Region, region_of
from effcore.examples.history import Look
from effcore.figures.examples import MAP_UNIT, SKIPPED_SCALE, map_arrays
from effcore.stream.frames import encode
from pages.ui.assets import DECODE, text_of

_HERE = Path(__file__).parent
#: Ends of the map: a probability varies by no more than half.
_VARIABILITY, _CONFIDENCE = (0.0, 0.5), (0.0, 1.0)
#: So that what lies on the edge of a chosen range is in it.
_EDGE = 1e-6
_KEY, _DRAWN = "data-map", "examples-map-drawn"

# As the live panel: registered once, and not isolated, so that the page's theme is the map's.
_map = st.components.v2.component(
    "effcore_data_map",
    html=text_of(_HERE / "data_map.html"),
    css=text_of(_HERE / "data_map.css"),
    js=text_of(DECODE, _HERE / "map_points.js", _HERE / "data_map.js"),
    isolate_styles=False,
)


def data_map(run_id: str, look: Look) -> Region | None:
    """Draw the map; returns the region that was drawn on it.

    Args:
        run_id: The run, for which zoom and region are kept.
        look: What is known of its examples; with losses.
    """
    arrays = map_arrays(look)
    header = {
        "run": run_id,
        "id": f"{run_id} {look.upto}",
        "ask": not map_is_drawn(),
        "unit": MAP_UNIT,
        "scale": SKIPPED_SCALE,
        "most": int(arrays["skipped"].max(initial=0)),
        "label": f"Map of {int(look.known_N.sum()):,} examples: mean confidence upwards, its "
        "variability to the right, coloured by how often each was skipped. Select by numbers "
        "below, without a mouse.",
    }
    told = _map(
        key=_KEY, data=encode(header, arrays), on_region_change=_noted, on_drawn_change=_note_drawn
    )
    return _region(told.get("region"), run_id)


def map_is_drawn() -> bool:
    """Return whether this visitor's browser has a map on screen, or had."""
    return bool(st.session_state.get(_DRAWN))


def _note_drawn() -> None:
    st.session_state[_DRAWN] = True


def _noted() -> None:
    """Have Streamlit keep what the browser says."""


def _region(said: Any, run_id: str) -> Region | None:
    """Return the region; what comes from a browser may be anything."""
    if not isinstance(said, dict) or said.get("run") != run_id:
        return None
    xs, ys = said.get("x"), said.get("y")
    return region_of(xs, ys) if isinstance(xs, list) and isinstance(ys, list) else None


def by_numbers() -> Region | None:
    """Let the reader choose ranges instead; returns them once one is less than everything."""
    with st.expander("Select by numbers instead"):
        confidence = st.slider(
            "Mean confidence", *_CONFIDENCE, value=_CONFIDENCE, step=0.01, format="percent",
            key="examples-confidence",
        )  # fmt: skip
        variability = st.slider(
            "Variability", *_VARIABILITY, value=_VARIABILITY, step=0.01, key="examples-variability"
        )
    if (confidence, variability) == (_CONFIDENCE, _VARIABILITY):
        return None
    (low, high), (left, right) = confidence, variability
    left, low, right, high = left - _EDGE, low - _EDGE, right + _EDGE, high + _EDGE
    return Region((left, right, right, left), (low, low, high, high))
