"""The frame around every page: title, navigation, and the run that trains now."""

from __future__ import annotations

import streamlit as st

from pages.ui.assets import ICON, LOGO
from pages.ui.not_found import unknown_page_name
from pages.ui.touch import enable_touch_scrolling

st.set_page_config(page_title="Effcore", page_icon=ICON, layout="wide")
st.logo(LOGO, icon_image=ICON, size="large")
enable_touch_scrolling()

# No name of its own: whatever Streamlit called it, an address that says so would lead nowhere.
live = st.Page("live.py", title="Live", icon=":material/monitoring:", url_path="", default=True)
# The page that opens first is served at the root; whoever types its name finds it too.
alias_pages = [
    st.Page("live.py", title="Live", url_path=each, visibility="hidden")
    for each in ("live", "home")
]
compare = st.Page("compare.py", title="Compare", icon=":material/balance:", url_path="compare")
frontier = st.Page(
    "frontier.py", title="Frontier", icon=":material/trending_up:", url_path="frontier"
)
runs = st.Page("runs.py", title="Runs", icon=":material/list:", url_path="runs")
examples = st.Page(
    "examples.py", title="Examples", icon=":material/scatter_plot:", url_path="examples"
)
energy = st.Page("energy.py", title="Energy", icon=":material/bolt:", url_path="energy")
how = st.Page("how.py", title="How it works", icon=":material/school:", url_path="how")
tour = st.Page("tour.py", title="Tour", icon=":material/flag:", url_path="tour")
# A screen of its own, which nobody chooses from a list.
present = st.Page("present.py", title="Present", url_path="present", visibility="hidden")

pages = [live, compare, frontier, runs, examples, energy, how, tour, *alias_pages, present]
# Where the address names none of them, one that says so is found under that very name.
known_page_names = {each.url_path for each in pages}
if (lost := unknown_page_name(st.context.url, known_page_names)) is not None:
    st.session_state["lost"] = lost  # for as long as this tab may be there
if lost := st.session_state.get("lost"):
    pages.append(st.Page("lost.py", title="No such page", url_path=lost, visibility="hidden"))
page = st.navigation(pages)
# Only now: the frame above is on screen while the library behind the pages is loaded.
from effcore.live.startup import first_page_drawn  # noqa: E402
from pages.ui.common import link_active_run, show_store_problem  # noqa: E402

if page.title != live.title:
    st.session_state["away"] = True  # a link back to it may bring settings along
if not show_store_problem():
    link_active_run(page.title)
    page.run()
first_page_drawn.set()
