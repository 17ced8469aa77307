"""The frame of every page: title, navigation, and a link to the active run."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.ui.assets import ICON, LOGO
from pages.ui.not_found import unknown_page_name
from pages.ui.page_files import further_page_files
from pages.ui.touch import enable_touch_scrolling

st.set_page_config(page_title="Effcore", page_icon=ICON, layout="wide")
st.logo(LOGO, icon_image=ICON, size="large")
enable_touch_scrolling()

# The default page has an empty path; the aliases below make its names valid addresses too.
live = st.Page("live.py", title="Live", icon=":material/monitoring:", url_path="", default=True)
alias_pages = [
    st.Page("live.py", title="Live", url_path=name, visibility="hidden")
    for name in ("live", "home")
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
# Other pages link to it, so that the navigation does not list it.
present = st.Page("present.py", title="Present", url_path="present", visibility="hidden")

# A page that is one new file comes after the others, named after its file.
named_files = {
    *("live", "compare", "frontier", "runs", "examples", "energy", "how", "tour", "present", "lost")
}
further_pages = [st.Page(file) for file in further_page_files(named_files, Path(__file__).parent)]
pages = [live, compare, frontier, runs, examples, energy, how, tour, *further_pages, *alias_pages,
         present]  # fmt: skip
# An unknown address gets a page of its own, which says that there is no such page.
known_page_names = {known_page.url_path for known_page in pages}
if (lost := unknown_page_name(st.context.url, known_page_names)) is not None:
    st.session_state["lost"] = lost  # kept, since this tab may stay at that address
if lost := st.session_state.get("lost"):
    pages.append(st.Page("lost.py", title="No such page", url_path=lost, visibility="hidden"))
page = st.navigation(pages)
# Imported late, so that the frame is on screen while the library loads.
from effcore.live.startup import first_page_drawn  # noqa: E402
from pages.ui.common import link_active_run, show_store_problem  # noqa: E402

if page.title != live.title:
    st.session_state["away"] = True  # a link back to Live may carry settings
if not show_store_problem():
    link_active_run(page.title)
    page.run()
first_page_drawn.set()
