"""The page shown at an unknown address."""

from __future__ import annotations

import streamlit as st

from pages.ui.common import shorten_untrusted_text
from pages.ui.not_found import REQUESTED_PARAMETER

name = st.query_params.get(REQUESTED_PARAMETER, st.session_state["lost"])
st.title("There is no such page")
st.write(f"Effcore has no page named {shorten_untrusted_text(name)}. The address may be misspelt.")
st.page_link("live.py", label="Start or watch a run: Live", icon=":material/monitoring:")
st.page_link("runs.py", label="Find a stored run: Runs", icon=":material/list:")
st.page_link("tour.py", label="New to this? Take the three-minute tour", icon=":material/flag:")
