"""Old address of presenter mode, which goes on to the page that presents a run, study or sweep."""

from __future__ import annotations

import streamlit as st

from pages.ui.presenting import PRESENT_PARAMETER

query = st.query_params.to_dict() | {PRESENT_PARAMETER: "1"}
st.switch_page(
    "compare.py" if "study" in query else "frontier.py" if "sweep" in query else "live.py",
    query_params=query,
)
