"""How it works: selective training for whoever has never heard of it, each idea to be dragged."""

from __future__ import annotations

import streamlit as st

from pages.ui.how.ideas import (
    show_fair_baseline_idea,
    show_importance_weights_idea,
    show_loss_cut_idea,
    show_masking_idea,
    show_scoring_cost_idea,
)
from pages.ui.how.section_parts import recolour_slider_values, show_glossary

st.title("How it works")
recolour_slider_values()
st.write(
    "A model is shown the same examples again and again. Many are soon learned, and cost as much "
    "as ever. Five ideas, each with something to drag; every number is computed here as you move."
)
show_loss_cut_idea()
show_scoring_cost_idea()
show_masking_idea()
show_importance_weights_idea()
show_fair_baseline_idea()
st.header("Words used on the other pages")
show_glossary()
with st.container(horizontal=True, gap="medium"):
    st.page_link("live.py", label="Go to Live and try it", icon=":material/monitoring:")
    st.page_link("compare.py", label="Compare policies fairly", icon=":material/balance:")
