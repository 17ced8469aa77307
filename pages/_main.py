"""The frame of every page: title, navigation, and a link to the active run."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import streamlit as st

from pages.ui.assets import ICON, LOGO
from pages.ui.not_found import unknown_page_name
from pages.ui.page_files import further_page_files

# Toolbars of charts cover legends, and on a touch device they are always visible. Plotly turns
# every touch move on a chart into a zoom, so that the page cannot be scrolled there. The script
# hides touchstart from plotly; the browser then scrolls, and a tap still clicks.
SMALL_SCREEN_HTML: Final = """
<style>
  :has(> .st-key-touch) { display: none; }
  @media (pointer: coarse), (max-width: 640px) {
    .modebar-container { display: none !important; }
  }
  @media (max-width: 640px) { /* it would cover points; the caption says the same */
    :is(.st-key-frontier, .st-key-present-fills-front) .annotation { display: none; }
  }
  @media (pointer: coarse) { /* keep a table's own toolbar, above it */
    .stElementContainer:has(.stDataFrame) { margin-top: 1.9rem; }
  }
</style>
<script>
  if (!window.effcoreTouch) {
    window.effcoreTouch = true
    addEventListener("touchstart", (event) => {
      if (event.target.closest?.(".stPlotlyChart .draglayer")) event.stopPropagation()
    }, { capture: true, passive: true })
  }
</script>
"""

st.set_page_config(page_title="Effcore", page_icon=ICON, layout="wide")
st.logo(LOGO, icon_image=ICON, size="large")
with st.container(key="touch"):
    st.html(SMALL_SCREEN_HTML, unsafe_allow_javascript=True)

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
# An old address, which the navigation does not list.
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
