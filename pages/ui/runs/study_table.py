"""Table of studies and sweeps, and the actions for the selected ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import streamlit as st

from effcore.runs.manager import shared_run_manager
from effcore.store.labels import Labels
from effcore.store.study_table import StoredStudy, StudyTable
from effcore.studies.study_job import current_study_job
from pages.ui.display_names import is_sweep, planned_run_count, study_description
from pages.ui.runs.actions import draw_label_form, move_to_trash
from pages.ui.runs.run_table import STUDY_FILTER_KEY
from pages.ui.tables import show_swipe_hint


def show_study_table(studies: Sequence[StoredStudy], labels: Mapping[str, Labels]) -> None:
    """Draw the studies that match the search, and the actions for the selected ones."""
    search_words = st.text_input(
        "Search", key="find-studies", icon=":material/search:", max_chars=200,
        placeholder="Name, tag, note, task, policy, kind, id",
    ).casefold().split()  # fmt: skip
    listed = [
        study
        for study in studies
        if all(word in _searchable_study_text(study, labels) for word in search_words)
    ]
    st.caption(f"{len(listed)} of {len(studies)} studies. Deleting a study keeps its runs.")
    if not listed:
        return
    run_counts = StudyTable(shared_run_manager().store).run_counts_by_study()
    table = pd.DataFrame([_study_row(study, labels, run_counts) for study in listed])
    event: Any = st.dataframe(
        table.drop(columns=[name for name in ("Name", "Tags") if table[name].isna().all()]),
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        key="studies-table",
        placeholder="–",
        column_config={
            "Progress": st.column_config.ProgressColumn("Progress", format="percent"),
            "Started": st.column_config.DatetimeColumn("Started (UTC)", format="YYYY-MM-DD HH:mm"),
        },
    )
    show_swipe_hint("studies")
    selected = [listed[row] for row in event["selection"]["rows"] if row < len(listed)]
    if not selected:
        st.caption("Select a row to open or name the study, or to list its runs.")
    elif len(selected) == 1:
        _show_study_actions(selected[0], labels.get(selected[0].study_id, Labels()))
    if selected:
        ids = [study.study_id for study in selected]
        st.button(
            f"Delete {len(ids)} studies" if len(ids) > 1 else "Delete the study",
            icon=":material/delete:", key="delete-studies", on_click=move_to_trash, args=(ids,),
            kwargs={"studies": True},
        )  # fmt: skip


def _study_kind(study: StoredStudy) -> str:
    return "sweep" if is_sweep(study) else "comparison"


def _searchable_study_text(study: StoredStudy, labels: Mapping[str, Labels]) -> str:
    own = labels.get(study.study_id, Labels())
    parts = (
        _study_kind(study),
        study_description(study),
        study.study_id,
        own.name,
        *own.tags,
        own.note,
    )
    return "\n".join(parts).casefold()


def _study_state(
    study: StoredStudy, existing_runs: int, deleted_runs: int, planned_runs: int | None
) -> str:
    current = current_study_job()
    if current is not None and current.study_id == study.study_id and not current.ended.is_set():
        return "running"
    if (planned_runs is None or existing_runs < planned_runs) and StudyTable(
        shared_run_manager().store
    ).is_running(study.study_id):
        return "running in another process"
    if deleted_runs:
        return f"{deleted_runs} of its runs deleted"
    is_complete = planned_runs is not None and existing_runs >= planned_runs
    return "complete" if is_complete else "incomplete"


def _study_row(
    study: StoredStudy, labels: Mapping[str, Labels], run_counts: Mapping[str, tuple[int, int]]
) -> dict[str, object]:
    own, total = labels.get(study.study_id, Labels()), planned_run_count(study)
    existing, deleted = run_counts.get(study.study_id, (0, 0))
    return {
        "Name": own.name or None,
        "Kind": _study_kind(study),
        "What": study_description(study),
        "State": _study_state(study, existing, deleted, total),
        "Progress": min(existing / total, 1.0) if total else None,
        "Runs": f"{existing} of {total}" if total else str(existing),
        "Tags": list(own.tags) or None,
        "Started": datetime.fromtimestamp(study.created_unix, UTC),
        "Study": study.study_id,
    }


def _show_study_actions(study: StoredStudy, labels: Labels) -> None:
    with st.container(horizontal=True):
        link_to_study(study, "Open it")
        st.button(
            "Show its runs",
            icon=":material/list:",
            key="study-runs",
            on_click=_filter_runs_by_study,
            args=(study.study_id,),
        )
    draw_label_form(study.study_id, labels)


def link_to_study(study: StoredStudy, label: str) -> None:
    """Draw a link to the page of a study or of a sweep."""
    page, icon, name = (
        ("frontier.py", ":material/trending_up:", "sweep")
        if is_sweep(study)
        else ("compare.py", ":material/balance:", "study")
    )
    st.page_link(page, label=label, icon=icon, query_params={name: study.study_id})


def _filter_runs_by_study(study_id: str) -> None:
    st.session_state[STUDY_FILTER_KEY] = study_id
    st.session_state["runs-what"] = "runs"
