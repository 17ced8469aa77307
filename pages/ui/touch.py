"""Charts and tables under a finger or in a narrow window: no toolbar on what is to be read."""

from __future__ import annotations

from typing import Final

import streamlit as st

_CONTAINER_KEY: Final = "touch"
# Plotly takes a finger's every move on a chart for a zoom, and the page stays where it is. What
# it is not told of, the browser scrolls by; a tap comes to it as a click, later.
_TOUCH_HTML: Final = f"""
<style>
  :has(> .st-key-{_CONTAINER_KEY}) {{ display: none; }}
  @media (pointer: coarse), (max-width: 640px) {{
    .modebar-container {{ display: none !important; }}
  }}
  @media (pointer: coarse) {{ /* where nothing hovers, a table's own toolbar stays, above it */
    .stElementContainer:has(.stDataFrame) {{ margin-top: 1.9rem; }}
  }}
</style>
<script>
  if (!window.effcoreTouch) {{
    window.effcoreTouch = true
    addEventListener("touchstart", (event) => {{
      if (event.target.closest?.(".stPlotlyChart .draglayer")) event.stopPropagation()
    }}, {{ capture: true, passive: true }})
  }}
</script>
"""


def enable_touch_scrolling() -> None:
    """Keep toolbars off legends and texts, and let a finger scroll the page over a chart.

    Plotly's is as wide as half a phone, and there for good where nothing can hover.
    """
    with st.container(key=_CONTAINER_KEY):
        st.html(_TOUCH_HTML, unsafe_allow_javascript=True)
