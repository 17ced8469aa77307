"""Runs: everything the store holds, to find, compare, name, take along and delete."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from effcore.runs.manager import shared_run_manager
from effcore.store import RunSummary, StoreError
from effcore.store.label_table import LabelTable
from effcore.store.study_table import StoredStudy, StudyTable
from effcore.store.trash import Trash
from pages.ui.common import escape_markdown, shorten_untrusted_text
from pages.ui.display_names import run_description, run_status_text, run_title, study_picker_label
from pages.ui.present.screen import link_to_present
from pages.ui.runs.label_form import draw_label_form
from pages.ui.runs.overlay import show_overlay
from pages.ui.runs.run_table import pick_runs, run_setup_text, runs_in_address
from pages.ui.runs.search import search_runs
from pages.ui.runs.study_table import link_to_study, show_study_table
from pages.ui.runs.transfer import draw_import_form, draw_run_downloads
from pages.ui.runs.trash import move_to_trash, show_deletion_notice, show_trash

#: Rows of the table; older runs are found by searching.
_MAX_ROWS = 500
_ALL_RUNS = 1_000_000
_CURVE_CHOICES = {"metric": "Metric curve", "loss": "Loss curve"}


def _show_run_list(runs: Sequence[RunSummary], studies: Sequence[StoredStudy]) -> None:
    """Draw the runs that the search leaves, and what can be done with those picked."""
    of_runs = StudyTable(shared_run_manager().store).study_ids_by_run()
    names = {
        study.study_id: study_picker_label(study, labels.get(study.study_id)) for study in studies
    }
    found = search_runs(runs, of_runs, names)
    listed = found[:_MAX_ROWS]
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        st.caption(_count_text(len(found), len(runs)))
        curve = st.radio(
            "Small curves",
            list(_CURVE_CHOICES),
            format_func=_CURVE_CHOICES.__getitem__,
            horizontal=True,
            key="runs-curve",
            label_visibility="collapsed",
            width="content",
        )
    if not listed:
        st.info("No run is like that: search for less, or take filters away.")
        return
    picked = pick_runs(listed, curve, of_runs, names)
    if not picked:
        st.caption("Select a row to open, name or export its run; several to lay them over.")
        return
    if len(picked) == 1:
        _show_run(
            picked[0], [s for s in studies if s.study_id in of_runs.get(picked[0].run_id, ())]
        )
    show_overlay(picked)
    if len(picked) == 1:
        draw_label_form(picked[0].run_id, picked[0].labels)
        draw_run_downloads(picked[0])
    st.button(
        f"Delete {len(picked)} runs" if len(picked) > 1 else "Delete the run",
        icon=":material/delete:", key="delete-runs", on_click=move_to_trash,
        args=([run.run_id for run in picked],),
    )  # fmt: skip


def _count_text(matching: int, total: int) -> str:
    noun = "run" if total == 1 else "runs"
    words = f"{total} {noun}" if matching == total else f"{matching} of {total} {noun}"
    if matching > _MAX_ROWS:
        words += f", the newest {_MAX_ROWS} of them here"
    return (
        f"{words}. An interrupted run is one whose process ended before it did; what it had is "
        "here."
    )


def _warn_about_unknown_runs(known_run_ids: set[str]) -> None:
    """Say which runs in the address are not in the store."""
    for run_id in runs_in_address() or ():
        if run_id not in known_run_ids:
            st.warning(
                f"There is no run {shorten_untrusted_text(run_id)} in this store. It may have been "
                "deleted, or the "
                "address comes from another machine.",
                icon=":material/link_off:",
            )
            break


def _show_run(run: RunSummary, studies: Sequence[StoredStudy]) -> None:
    """Say what a run is, and lead to it and to the studies it belongs to."""
    st.header(escape_markdown(run.labels.name or run_title(run)))
    said = [run_description(run)] if run.labels.name else []
    st.caption(
        escape_markdown(" · ".join([*said, run_setup_text(run), run_status_text(run), run.run_id]))
    )
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
        link_to_present(run=run.run_id)
        for study in studies:
            kind = study_picker_label(study, labels.get(study.study_id))
            link_to_study(study, escape_markdown(kind))


def _show_introduction() -> None:
    st.info("Nothing has been trained yet. Start a run on the Live page and it appears here.")
    st.page_link("live.py", label="Go to Live", icon=":material/monitoring:")


st.title("Runs")
try:
    store = shared_run_manager().store
    runs, trashed = store.runs(_ALL_RUNS), Trash(store).list_items()
    studies = sorted(
        StudyTable(store).list_studies() + StudyTable(store).list_studies(sweeps=True),
        key=lambda study: -study.created_unix,
    )
    labels = LabelTable(store).all_labels()
except StoreError as error:
    st.error(f"The runs could not be listed. {escape_markdown(error)}", icon=":material/error:")
    st.stop()
show_deletion_notice(trashed)
counts = {"runs": len(runs), "studies": len(studies), "trash": len(trashed)}
titles = {"runs": "Runs", "studies": "Studies and sweeps", "trash": "Trash"}
listed_kind = "runs"
if any(counts.values()):
    st.session_state.setdefault("runs-what", "runs")  # a button may lead elsewhere
    listed_kind = st.radio(
        "What is listed", list(titles), format_func=lambda n: f"{titles[n]} ({counts[n]})",
        horizontal=True, key="runs-what", label_visibility="collapsed",
    )  # fmt: skip
if listed_kind == "studies":
    show_study_table(studies, labels)
elif listed_kind == "trash":
    show_trash(trashed)
else:
    _warn_about_unknown_runs({run.run_id for run in runs})
    if runs:
        _show_run_list(runs, studies)
    else:
        _show_introduction()
with st.expander("Import a run", icon=":material/unarchive:"):
    draw_import_form()
