"""A plotly figure as a component that is updated in place."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
import streamlit as st

from effcore.live.routes import PLOTLY_PATH
from pages.ui.assets import chart_script

# Registered once and not isolated, like the live panel, whose plotly it shares. Streamlit's own
# charts load a second plotly, and are rebuilt with every new figure.
_chart_component = st.components.v2.component(
    "effcore_chart",
    html='<p class="ef-note" hidden>The chart\'s script could not be loaded: reload the page.</p>'
    '<div class="ef-chart" role="img"></div>',
    css=".ef-chart { width: 100%; font-family: var(--st-font); }\n"
    ".ef-note { margin: 0; font-size: 0.82rem; color: var(--st-text-color); }\n"
    ".ef-note[hidden] { display: none !important; }",
    js=chart_script(Path(__file__).parent, "chart.js"),
    isolate_styles=False,
)


def draw_chart(figure: go.Figure, key: str, alt: str) -> None:
    """Draw a figure.

    Args:
        figure: The figure, with its height set.
        key: Identity of the element; the same on every script run.
        alt: Description for screen readers.
    """
    data = {
        "figure": figure.to_json(),
        "alt": alt,
        "height": figure.layout.height,
        "plotly": PLOTLY_PATH,
    }
    with st.container(key=key):
        _chart_component(key=f"{key}-chart", data=data)
