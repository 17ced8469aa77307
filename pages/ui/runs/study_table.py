"""The list of studies and sweeps, and what can be done with those picked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import streamlit as st

from effcore.runs.manager import shared_runs
from effcore.store.labels import Labels
from effcore.store.studies import StoredStudy, Studies
from effcore.studies.study_job import current_study_job
from pages.ui.amounts import sideways_note
from pages.ui.naming import is_sweep, planned, study_words
from pages.ui.runs.discarding import delete
from pages.ui.runs.finding import STUDY
from pages.ui.runs.labelling import label_form


def show_studies(studies: Sequence[StoredStudy], labels: Mapping[str, Labels]) -> None:
    """Draw the studies that the search leaves, and what can be done with those picked."""
    words = st.text_input(
        "Search", key="find-studies", icon=":material/search:", max_chars=200,
        placeholder="Name, tag, note, task, policy, kind, id",
    ).casefold().split()  # fmt: skip
    listed = [s for s in studies if all(word in _text(s, labels) for word in words)]
    st.caption(f"{len(listed)} of {len(studies)}. A study points at runs; deleted, it leaves them.")
    if not listed:
        return
    tally = Studies(shared_runs().store).tally()
    table = pd.DataFrame([_row(study, labels, tally) for study in listed])
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
    sideways_note("studies")
    picked = [listed[row] for row in event["selection"]["rows"] if row < len(listed)]
    if not picked:
        st.caption("Select a row to open it, to name it or to see its runs.")
    elif len(picked) == 1:
        _one(picked[0], labels.get(picked[0].study_id, Labels()))
    if picked:
        ids = [study.study_id for study in picked]
        st.button(
            f"Delete {len(ids)} studies" if len(ids) > 1 else "Delete the study",
            icon=":material/delete:", key="delete-studies", on_click=delete, args=(ids,),
            kwargs={"studies": True},
        )  # fmt: skip


def _kind(study: StoredStudy) -> str:
    return "sweep" if is_sweep(study) else "comparison"


def _text(study: StoredStudy, labels: Mapping[str, Labels]) -> str:
    own = labels.get(study.study_id, Labels())
    parts = (_kind(study), study_words(study), study.study_id, own.name, *own.tags, own.note)
    return "\n".join(parts).casefold()


def _state(study: StoredStudy, there: int, lost: int, total: int | None) -> str:
    current = current_study_job()
    if current is not None and current.study_id == study.study_id and not current.ended.is_set():
        return "under way"
    if (total is None or there < total) and Studies(shared_runs().store).under_way(study.study_id):
        return "under way elsewhere"
    if lost:
        return f"{lost} of its runs deleted"
    return "whole" if total is not None and there >= total else "in part"


def _row(
    study: StoredStudy, labels: Mapping[str, Labels], tally: Mapping[str, tuple[int, int]]
) -> dict[str, object]:
    own, total = labels.get(study.study_id, Labels()), planned(study)
    there, lost = tally.get(study.study_id, (0, 0))
    return {
        "Name": own.name or None,
        "Kind": _kind(study),
        "What": study_words(study),
        "State": _state(study, there, lost, total),
        "Progress": min(there / total, 1.0) if total else None,
        "Runs": f"{there} of {total}" if total else str(there),
        "Tags": list(own.tags) or None,
        "Started": datetime.fromtimestamp(study.created_unix, UTC),
        "Study": study.study_id,
    }


def _one(study: StoredStudy, labels: Labels) -> None:
    with st.container(horizontal=True):
        study_link(study, "Open it")
        st.button(
            "Show its runs", icon=":material/list:", key="study-runs", on_click=_show_runs,
            args=(study.study_id,),
        )  # fmt: skip
    label_form(study.study_id, labels)


def study_link(study: StoredStudy, label: str) -> None:
    """Draw a link to the page of a study or of a sweep."""
    page, icon, name = (
        ("frontier.py", ":material/trending_up:", "sweep")
        if is_sweep(study)
        else ("compare.py", ":material/balance:", "study")
    )
    st.page_link(page, label=label, icon=icon, query_params={name: study.study_id})


def _show_runs(study_id: str) -> None:
    st.session_state[STUDY] = study_id
    st.session_state["runs-what"] = "runs"
