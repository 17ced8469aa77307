"""Runs: everything the store holds, to find, compare, name, take along and delete."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from effcore.runs.manager import shared_runs
from effcore.store import RunSummary, StoreError
from effcore.store.labels import LabelBook
from effcore.store.studies import StoredStudy, Studies
from effcore.store.trash import Trash
from pages.ui.frame import plain, shown
from pages.ui.naming import run_words, status_words, study_name, what_of
from pages.ui.present.screen import offer_to_present
from pages.ui.runs.carrying import downloads, import_form
from pages.ui.runs.discarding import delete, notice, show_trash
from pages.ui.runs.finding import find
from pages.ui.runs.labelling import label_form
from pages.ui.runs.overlaying import show_overlay
from pages.ui.runs.run_table import asked_runs, picked_runs, setup_words
from pages.ui.runs.study_table import show_studies, study_link

#: Rows of the table; older runs are found by searching.
_ROWS = 500
_EVERY = 1_000_000
_CURVES = {"metric": "Metric curve", "loss": "Loss curve"}


def _show_runs(runs: Sequence[RunSummary], studies: Sequence[StoredStudy]) -> None:
    """Draw the runs that the search leaves, and what can be done with those picked."""
    of_runs = Studies(shared_runs().store).of_runs()
    names = {study.study_id: study_name(study, labels.get(study.study_id)) for study in studies}
    found = find(runs, of_runs, names)
    listed = found[:_ROWS]
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        st.caption(_counted(len(found), len(runs)))
        curve = st.radio(
            "Small curves", list(_CURVES), format_func=_CURVES.__getitem__, horizontal=True,
            key="runs-curve", label_visibility="collapsed", width="content",
        )  # fmt: skip
    if not listed:
        st.info("No run is like that: search for less, or take filters away.")
        return
    picked = picked_runs(listed, curve, of_runs, names)
    if not picked:
        st.caption("Select a row to open, name or export its run; several to lay them over.")
        return
    if len(picked) == 1:
        _one(picked[0], [s for s in studies if s.study_id in of_runs.get(picked[0].run_id, ())])
    show_overlay(picked)
    if len(picked) == 1:
        label_form(picked[0].run_id, picked[0].labels)
        downloads(picked[0])
    st.button(
        f"Delete {len(picked)} runs" if len(picked) > 1 else "Delete the run",
        icon=":material/delete:", key="delete-runs", on_click=delete,
        args=([run.run_id for run in picked],),
    )  # fmt: skip


def _counted(found: int, total: int) -> str:
    noun = "run" if total == 1 else "runs"
    words = f"{total} {noun}" if found == total else f"{found} of {total} {noun}"
    if found > _ROWS:
        words += f", the newest {_ROWS} of them here"
    return (
        f"{words}. An interrupted run is one whose process ended before it did; what it had is "
        "here."
    )


def _say_unknown(known: set[str]) -> None:
    """Say which runs in the address are not in the store."""
    for run_id in asked_runs() or ():
        if run_id not in known:
            st.warning(
                f"There is no run {shown(run_id)} in this store. It may have been deleted, or the "
                "address comes from another machine.",
                icon=":material/link_off:",
            )
            break


def _one(run: RunSummary, studies: Sequence[StoredStudy]) -> None:
    """Say what a run is, and lead to it and to the studies it belongs to."""
    st.header(plain(run.labels.name or run_words(run)))
    said = [what_of(run)] if run.labels.name else []
    st.caption(plain(" · ".join([*said, setup_words(run), status_words(run), run.run_id])))
    if run.labels.note:
        st.text(run.labels.note)
    with st.container(horizontal=True):
        st.page_link(
            "live.py",
            label="Open in Live",
            icon=":material/open_in_new:",
            query_params={"run": run.run_id},
        )
        st.page_link(
            "examples.py",
            label="Its examples",
            icon=":material/scatter_plot:",
            query_params={"run": run.run_id},
        )
        offer_to_present(run=run.run_id)
        for study in studies:
            kind = study_name(study, labels.get(study.study_id))
            study_link(study, plain(kind))


def _empty() -> None:
    st.info("Nothing has been trained yet. Start a run on the Live page and it appears here.")
    st.page_link("live.py", label="Go to Live", icon=":material/monitoring:")


st.title("Runs")
try:
    store = shared_runs().store
    runs, trashed = store.runs(_EVERY), Trash(store).all()
    studies = sorted(
        Studies(store).all() + Studies(store).all(sweeps=True),
        key=lambda study: -study.created_unix,
    )
    labels = LabelBook(store).all()
except StoreError as error:
    st.error(f"The runs could not be listed. {plain(error)}", icon=":material/error:")
    st.stop()
notice(trashed)
counts = {"runs": len(runs), "studies": len(studies), "trash": len(trashed)}
titles = {"runs": "Runs", "studies": "Studies and sweeps", "trash": "Trash"}
what = "runs"
if any(counts.values()):
    st.session_state.setdefault("runs-what", "runs")  # a button may lead elsewhere
    what = st.radio(
        "What is listed", list(titles), format_func=lambda n: f"{titles[n]} ({counts[n]})",
        horizontal=True, key="runs-what", label_visibility="collapsed",
    )  # fmt: skip
if what == "studies":
    show_studies(studies, labels)
elif what == "trash":
    show_trash(trashed)
else:
    _say_unknown({run.run_id for run in runs})
    if runs:
        _show_runs(runs, studies)
    else:
        _empty()
with st.expander("Import a run", icon=":material/unarchive:"):
    import_form()
