"""Present page: one run, verdict or sweep on the whole screen, in large type."""

from __future__ import annotations

import streamlit as st

from effcore.runs.manager import shared_run_manager
from effcore.store import StoreError
from effcore.store.study_table import StoredStudy, StudyTable
from pages.ui.common import (
    escape_markdown,
    find_run_or_warn,
    find_run_summary,
    shorten_untrusted_text,
)
from pages.ui.live.panel import draw_live_panel
from pages.ui.present.screen import FILL_KEY_PREFIX, LEAVE_KEY, draw_fullscreen_bar, hide_page_frame
from pages.ui.present.sweep import present_sweep
from pages.ui.present.verdict import present_verdict


def _find_stored_study(study_id: str, kind: str) -> StoredStudy | None:
    """Return the study or the sweep, or show on the page why it is missing."""
    try:
        listed = StudyTable(shared_run_manager().store).list_studies(sweeps=kind == "sweep")
    except StoreError as error:
        st.error(
            f"The studies could not be listed. {escape_markdown(error)}", icon=":material/error:"
        )
        return None
    known = {study.study_id: study for study in listed}
    if study_id not in known:
        st.warning(
            f"There is no {kind} {shorten_untrusted_text(study_id)} in this store.",
            icon=":material/link_off:",
        )
    return known.get(study_id)


def _present_run(run_id: str) -> None:
    if find_run_or_warn(run_id) is None:
        return
    known = find_run_summary(run_id)
    name = known.labels.name if known else ""
    draw_live_panel(run_id, name, present=True, key=f"{FILL_KEY_PREFIX}-run")
    if known and known.imported:
        st.caption("Imported: this run was trained, and its energy measured, on another machine.")


def _show_nothing_to_present() -> None:
    st.title("Nothing to present yet")
    st.write(
        "Open a run on Live or Runs, a study on Compare or a sweep on Frontier, and press "
        "*Present*. A run that is training is shown until it ends."
    )


def _draw_footer(page: str, label: str, **query: str) -> None:
    """Draw the link that leaves presenter mode, and the full-screen button."""
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(key=LEAVE_KEY, width="content"):
            st.page_link(page, label=label, icon=":material/arrow_back:", query_params=query)
        draw_fullscreen_bar()


hide_page_frame()
run_id, study_id, sweep_id = (st.query_params.get(name) for name in ("run", "study", "sweep"))
active = shared_run_manager().active_run()
if study_id is not None:
    if (stored := _find_stored_study(study_id, "study")) is not None:
        present_verdict(stored)
    _draw_footer("compare.py", "Compare", study=study_id)
elif sweep_id is not None:
    if (stored := _find_stored_study(sweep_id, "sweep")) is not None:
        present_sweep(stored)
    _draw_footer("frontier.py", "Frontier", sweep=sweep_id)
elif run_id is not None or active is not None:
    chosen = run_id if run_id is not None or active is None else active.run_id
    _present_run(str(chosen))
    _draw_footer("live.py", "Live", run=str(chosen))
else:
    _show_nothing_to_present()
    _draw_footer("live.py", "Live")
