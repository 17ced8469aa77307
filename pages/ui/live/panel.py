"""The live panel: everything on the Live page that is updated while a run trains.

It has its own WebSocket (:mod:`effcore.live.routes`), so that data streams in without a rerun of
the page script. Its charts are plotly figures that persist in the browser.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from effcore.live.routes import LIVE_PATH, PLOTLY_PATH
from pages.ui.assets import chart_script, read_texts

if TYPE_CHECKING:
    from streamlit.components.v2.bidi_component import ComponentResult

_HERE = Path(__file__).parent


# Registered at import, since a page script would register it again on every rerun. Styles are not
# isolated, because dragging to zoom a plotly chart does not work within a shadow root; every class
# has a prefix instead.
_panel_component = st.components.v2.component(
    "effcore_live",
    html=read_texts(_HERE / "panel.html"),
    css=read_texts(_HERE / "panel.css", _HERE / "present.css"),
    js=chart_script(
        _HERE,
        "panel_parts.js",
        "panel_scale.js",
        "panel_charts.js",
        "panel_knobs.js",
        "panel_views.js",
        "panel.js",
    ),
    isolate_styles=False,
)


def draw_live_panel(
    run_id: str, name: str = "", *, present: bool = False, key: str = "live"
) -> ComponentResult:
    """Show a live or stored run with its controls.

    A rerun of the script with the same run does not change the panel.

    Args:
        run_id: The run to show.
        name: The run's given name, shown before its title.
        present: Whether to draw the panel large, reduced and without controls.
        key: Identity of the element; the same on every script run.
    """
    data = {"run": run_id, "name": name, "live": LIVE_PATH, "plotly": PLOTLY_PATH}
    data |= {"present": "yes" if present else ""}
    return _panel_component(key=key, data=data)


_preload_component = st.components.v2.component(
    "effcore_preload",
    js=chart_script(_HERE)
    + "\nexport default ({ data }) => {"
    + " loadPlotly(new URL(data.plotly, location.href)).then(rehearse, () => {}) }\n",
)


def preload_charts() -> None:
    """Make the browser load the charts' script in advance."""
    _preload_component(key="preload", data={"plotly": PLOTLY_PATH})
