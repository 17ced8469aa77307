"""The live panel: everything that moves on the Live page, in one element.

It talks to the run by its own WebSocket (:mod:`effcore.live.routes`), so that nothing here is
run again while data streams in; charts are plotly figures that persist in the browser.
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


# Registered once, at import: doing so in a page script would repeat it on every run of
# the script. Styles are not isolated because zooming a plotly chart by dragging does
# nothing within a shadow root; every class is prefixed instead.
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
    """Show a run, live or stored, with its controls.

    Running the script again with the same run leaves the panel as it is; another run id
    switches it.

    Args:
        run_id: The run to watch.
        name: What somebody called it, to be shown before what it is.
        present: Draw it large, and only what can be read from afar, without its controls.
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
    """Have the browser load the charts' script while there is nothing to draw yet."""
    _preload_component(key="preload", data={"plotly": PLOTLY_PATH})
