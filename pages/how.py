"""How it works page: five interactive ideas of selective training, for newcomers."""

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
    "A model sees the same examples in every epoch. It learns many of them early, yet each still "
    "costs as much computation as before. Five ideas follow, each with a slider. Every number is "
    "computed here as you move it."
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
