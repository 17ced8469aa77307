"""Search and filters of the list of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from effcore.store import RunSummary
from pages.ui.common import shorten_untrusted_text
from pages.ui.display_names import run_status_text

#: Session key of the study filter.
STUDY_FILTER_KEY = "find-study"


def searchable_text(run: RunSummary, studies: Sequence[str]) -> str:
    """Return the text of a run in which words are searched."""
    config, labels = run.config, run.labels
    parts = [run.run_id, labels.name, *labels.tags, labels.note, config.task, config.model,
             config.selection, config.update, config.intensity, config.device,
             run_status_text(run), *studies]  # fmt: skip
    return "\n".join(parts).casefold()


def matching_runs(
    runs: Sequence[RunSummary], query: str, filters: Mapping[str, Sequence[str]],
    studies: Mapping[str, Sequence[str]], names: Mapping[str, str],
) -> list[RunSummary]:  # fmt: skip
    """Return the runs that contain all words and pass all filters.

    Args:
        runs: The runs.
        query: Search words, each of which must occur in :func:`searchable_text`.
        filters: Allowed values of ``status``, ``task``, ``policy``, ``tag`` and ``study``; an empty
            list allows all.
        studies: Ids of the studies of each run, by run id.
        names: Names of the studies, by study id.
    """
    words, matching = query.casefold().split(), []
    for run in runs:
        own = studies.get(run.run_id, ())
        if not _passes_filters(run, filters, own):
            continue
        text = (
            searchable_text(run, [*own, *(names.get(study_id, "") for study_id in own)])
            if words
            else ""
        )
        if all(word in text for word in words):
            matching.append(run)
    return matching


def _passes_filters(
    run: RunSummary, filters: Mapping[str, Sequence[str]], studies: Sequence[str]
) -> bool:
    own: dict[str, Sequence[str]] = {
        "status": (run.status.value,),
        "task": (run.config.task,),
        "policy": (run.config.selection,),
        "tag": run.labels.tags,
        "study": studies,
    }
    return all(
        not allowed or any(value in allowed for value in own[name])
        for name, allowed in filters.items()
    )


def search_runs(
    runs: Sequence[RunSummary], studies: Mapping[str, Sequence[str]], names: Mapping[str, str]
) -> list[RunSummary]:
    """Draw the search field and the filters; return the matching runs.

    Args:
        runs: All runs.
        studies: Ids of the studies of each run, by run id.
        names: Names of the studies, by study id.
    """
    row = st.container(horizontal=True, vertical_alignment="bottom")
    query = row.text_input(
        "Search", key="find", icon=":material/search:", max_chars=200,
        placeholder="Name, tag, note, task, policy, status, id",
    )  # fmt: skip
    with row.popover("Filters", icon=":material/filter_list:"):
        filters = {
            "status": _choose_filter_values("Status", sorted({run.status.value for run in runs})),
            "task": _choose_filter_values("Task", sorted({run.config.task for run in runs})),
            "policy": _choose_filter_values(
                "Policy", sorted({run.config.selection for run in runs})
            ),
            "tag": _choose_filter_values(
                "Tag", sorted({tag for run in runs for tag in run.labels.tags})
            ),
            "study": _choose_study_filter(names),
        }
    return matching_runs(runs, query, filters, studies, names)


def _choose_filter_values(label: str, options: list[str]) -> list[str]:
    chosen = st.multiselect(label, options, key=f"find-{label.lower()}", placeholder="All")
    return [str(value) for value in chosen]


def _choose_study_filter(names: Mapping[str, str]) -> list[str]:
    """Draw the study filter, at first set to the study in the address."""
    requested = st.query_params.get("study")
    if STUDY_FILTER_KEY not in st.session_state and requested is not None:
        if requested in names:
            st.session_state[STUDY_FILTER_KEY] = requested
        else:
            st.warning(f"There is no study {shorten_untrusted_text(requested)} in this store.")
    if st.session_state.get(STUDY_FILTER_KEY) not in names:
        st.session_state[STUDY_FILTER_KEY] = None
    chosen: Any = st.selectbox(
        "Study or sweep",
        list(names),
        format_func=names.__getitem__,
        key=STUDY_FILTER_KEY,
        placeholder="All",
    )
    return [chosen] if chosen is not None else []
