"""How it works: selective training for whoever has never heard of it, each idea to be dragged."""

from __future__ import annotations

import streamlit as st

from pages.ui.how.explaining import glossary, legible_values
from pages.ui.how.ideas import (
    better_than_what,
    what_is_left,
    what_looking_costs,
    what_masking_saves,
    what_weights_undo,
)

st.title("How it works")
legible_values()
st.write(
    "A model is shown the same examples again and again. Many are soon learned, and cost as much "
    "as ever. Five ideas, each with something to drag; every number is computed here as you move."
)
what_is_left()
what_looking_costs()
what_masking_saves()
what_weights_undo()
better_than_what()
st.header("Words used on the other pages")
glossary()
with st.container(horizontal=True, gap="medium"):
    st.page_link("live.py", label="Go to Live and try it", icon=":material/monitoring:")
    st.page_link("compare.py", label="Compare policies fairly", icon=":material/balance:")
