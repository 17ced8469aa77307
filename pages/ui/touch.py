"""Touch devices and narrow windows: charts let the page scroll, and toolbars cover nothing."""

from __future__ import annotations

from typing import Final

import streamlit as st

_CONTAINER_KEY: Final = "touch"
# Plotly turns every touch move on a chart into a zoom, so that the page cannot be scrolled there.
# The script hides touchstart from plotly; the browser then scrolls, and a tap still clicks.
_TOUCH_HTML: Final = f"""
<style>
  :has(> .st-key-{_CONTAINER_KEY}) {{ display: none; }}
  @media (pointer: coarse), (max-width: 640px) {{
    .modebar-container {{ display: none !important; }}
  }}
  @media (pointer: coarse) {{ /* keep a table's own toolbar, above it */
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

    On a touch device plotly's toolbar is always visible, and half as wide as a phone.
    """
    with st.container(key=_CONTAINER_KEY):
        st.html(_TOUCH_HTML, unsafe_allow_javascript=True)
