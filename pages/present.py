"""Present: one run, verdict or sweep on the whole screen, in type to be read from afar."""

from __future__ import annotations

import streamlit as st

from effcore.runs.manager import shared_runs
from effcore.store import StoreError
from effcore.store.studies import StoredStudy, Studies
from pages.ui.frame import find_run, plain, shown, summary_of
from pages.ui.live.panel import live_panel
from pages.ui.present.screen import FILLS, LEAVE, bare, screen_bar
from pages.ui.present.sweep import present_sweep
from pages.ui.present.verdict import present_verdict


def _stored(study_id: str, what: str) -> StoredStudy | None:
    """Return the study or the sweep, or say on the page why there is none."""
    try:
        listed = Studies(shared_runs().store).all(sweeps=what == "sweep")
    except StoreError as error:
        st.error(f"The studies could not be listed. {plain(error)}", icon=":material/error:")
        return None
    known = {study.study_id: study for study in listed}
    if study_id not in known:
        st.warning(
            f"There is no {what} {shown(study_id)} in this store.", icon=":material/link_off:"
        )
    return known.get(study_id)


def _run(run_id: str) -> None:
    if find_run(run_id) is None:
        return
    known = summary_of(run_id)
    name = known.labels.name if known else ""
    live_panel(run_id, name, present=True, key=f"{FILLS}-run")
    if known and known.imported:
        st.caption("Imported: another machine trained this run, and its joules are that machine's.")


def _nothing() -> None:
    st.title("Nothing to present yet")
    st.write(
        "Open a run on Live or Runs, a study on Compare or a sweep on Frontier, and press "
        "*Present*. What trains is followed to its end."
    )


def _foot(page: str, label: str, **query: str) -> None:
    """Draw what leads away from here, at the foot of the screen."""
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(key=LEAVE, width="content"):
            st.page_link(page, label=label, icon=":material/arrow_back:", query_params=query)
        screen_bar()


bare()
run_id, study_id, sweep_id = (st.query_params.get(name) for name in ("run", "study", "sweep"))
active = shared_runs().active()
if study_id is not None:
    if (stored := _stored(study_id, "study")) is not None:
        present_verdict(stored)
    _foot("compare.py", "Compare", study=study_id)
elif sweep_id is not None:
    if (stored := _stored(sweep_id, "sweep")) is not None:
        present_sweep(stored)
    _foot("frontier.py", "Frontier", sweep=sweep_id)
elif run_id is not None or active is not None:
    chosen = run_id if run_id is not None or active is None else active.run_id
    _run(str(chosen))
    _foot("live.py", "Live", run=str(chosen))
else:
    _nothing()
    _foot("live.py", "Live")
