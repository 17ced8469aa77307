"""Table of runs: search, filters and selectable rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from effcore.impact.reference_comparison import compare_with_reference, computation_not_spent
from effcore.impact.saving_text import REFERENCE_HINT, saving_and_quality_text
from effcore.records import EVAL_COLUMNS, RunStatus
from effcore.registry import UnknownNameError
from effcore.runs.descriptions import setup_text
from effcore.runs.manager import shared_run_manager
from effcore.runs.summary import metric_text
from effcore.store import RunSummary, StoreError
from effcore.tasks.base import TASKS
from pages.ui.common import shorten_untrusted_text
from pages.ui.display_names import run_description, run_status_text
from pages.ui.tables import energy_text, percent_cell, show_swipe_hint

#: Session key of the study filter.
STUDY_FILTER_KEY = "find-study"


def search_runs(
    runs: Sequence[RunSummary], studies: Mapping[str, Sequence[str]], names: Mapping[str, str]
) -> list[RunSummary]:
    """Draw the search field and the filters; return the runs with all words that pass all filters.

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
    words = query.casefold().split()
    own_values = {run.run_id: _filter_values(run) for run in runs}
    filters: dict[str, list[str]] = {}
    with row.popover("Filters", icon=":material/filter_list:"):
        for name in ("status", "task", "policy", "tag"):
            options = sorted({value for values in own_values.values() for value in values[name]})
            filters[name] = st.multiselect(
                name.capitalize(), options, key=f"find-{name}", placeholder="All"
            )
        filters["study"] = _choose_study_filter(names)
    matching = []
    for run in runs:
        own = studies.get(run.run_id, ())
        values = {**own_values[run.run_id], "study": own}
        if any(wanted and not {*wanted} & {*values[name]} for name, wanted in filters.items()):
            continue
        if words:
            text = _searchable_text(run, [*own, *(names.get(study_id, "") for study_id in own)])
            if not all(word in text for word in words):
                continue
        matching.append(run)
    return matching


def _filter_values(run: RunSummary) -> dict[str, Sequence[str]]:
    return {
        "status": (run.status.value,),
        "task": (run.config.task,),
        "policy": (run.config.selection,),
        "tag": run.labels.tags,
    }


def _searchable_text(run: RunSummary, studies: Sequence[str]) -> str:
    """Return the text of a run in which words are searched."""
    config, labels = run.config, run.labels
    parts = [run.run_id, labels.name, *labels.tags, labels.note, config.task, config.model,
             config.selection, config.update, config.intensity, config.device,
             run_status_text(run), *studies]  # fmt: skip
    return "\n".join(parts).casefold()


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


#: Placeholder for missing values, for instance of a killed run.
_EMPTY_CELL = "–"
#: Points of a sparkline in the table.
_SPARKLINE_POINTS = 32
#: Columns that are hidden if they are empty.
_OPTIONAL_COLUMNS = ("Saved", "Not spent", "Tags", "Study")
_TABLE_KEY, _LISTED_KEY, _WRITTEN_KEY = "runs-table", "runs-listed", "runs-written"


def _final_metric_text(run: RunSummary) -> str | None:
    """Return the final metric as text; without label and unit if its task is not registered."""
    if run.end is None:
        return None
    try:
        metric = TASKS.get(run.config.task).metric
    except UnknownNameError:
        return f"{run.end.metric_name} {run.end.metric}"
    return f"{metric.label} {metric_text(metric, run.end.metric)}"


def run_setup_text(run: RunSummary) -> str:
    """Return model, size, policies, data settings and whether the run was steered, as text."""
    try:
        steered = " · steered" if run.exploratory else ""
        return setup_text(run.config) + steered
    except UnknownNameError:
        return run.config.model


def _sparkline_values(run: RunSummary, column: str) -> list[float]:
    """Return a run's validation curve, evenly downsampled, with its last point."""
    evals = shared_run_manager().store.read_evals(run.run_id)
    if evals is None:
        return []
    values = evals[EVAL_COLUMNS.index(column)]
    values = values[np.isfinite(values)]
    if len(values) > _SPARKLINE_POINTS:
        values = values[np.linspace(0, len(values) - 1, _SPARKLINE_POINTS).round().astype(int)]
    return [float(value) for value in values]


def _run_row(
    run: RunSummary, reference: RunSummary | None, curve: str, studies: Sequence[str]
) -> dict[str, object]:
    end = run.end
    saving = None if reference is None else compare_with_reference([(run, reference)])
    not_spent = computation_not_spent(run) if saving is None else None
    return {  # the columns that a phone shows come first
        "Name": run.labels.name or run_description(run),
        "Metric": _final_metric_text(run),
        "Saved": saving_and_quality_text(saving) if saving is not None else None,
        "Not spent": percent_cell(not_spent.share if not_spent is not None else None),
        "Skipped": percent_cell(end.skipped_compute_frac if end else None),
        "Curve": _sparkline_values(run, curve),
        "Status": run_status_text(run),
        "Progress": 1.0 if run.status is RunStatus.FINISHED else round(run.progress, 2),
        "Seconds": end.seconds if end else None,
        "Energy": energy_text(run.energy) if run.energy else None,
        "Task": run.config.task,
        "Policy": run.config.selection,
        "Setup": run_setup_text(run),
        "Seed": run.config.seed,
        "Tags": list(run.labels.tags) or None,
        "Study": ", ".join(studies) or None,
        "Started": datetime.fromtimestamp(run.created_unix, UTC),
        "Run": run.run_id,
    }


def pick_runs(
    runs: Sequence[RunSummary],
    curve: str,
    studies: Mapping[str, Sequence[str]],
    names: Mapping[str, str],
) -> list[RunSummary]:
    """Draw the table and return the selected runs, at first those in the address.

    Args:
        runs: The listed runs.
        curve: Quantity of the sparklines, ``metric`` or ``loss``.
        studies: Ids of the studies of each run, by run id.
        names: Names of the studies, by study id.
    """
    ids = [run.run_id for run in runs]
    _preserve_selection(ids)
    words = {run_id: [names.get(s, s) for s in own] for run_id, own in studies.items()}
    references = _find_references(runs)
    table = pd.DataFrame(
        [
            _run_row(run, references.get(run.run_id), curve, words.get(run.run_id, ()))
            for run in runs
        ]
    )
    event = st.dataframe(
        table.drop(columns=[name for name in _OPTIONAL_COLUMNS if table[name].isna().all()]),
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        key=_TABLE_KEY,
        placeholder=_EMPTY_CELL,
        column_config=_column_config(curve),
    )
    show_swipe_hint("runs")
    rows = [row for row in event["selection"]["rows"] if row < len(runs)]
    st.query_params["run"] = st.session_state[_WRITTEN_KEY] = [ids[row] for row in rows]
    return [runs[row] for row in rows]


def _find_references(runs: Sequence[RunSummary]) -> Mapping[str, RunSummary]:
    try:
        return shared_run_manager().store.references_of(runs)
    except StoreError:  # the runs can be listed without them
        return {}


def runs_in_address() -> list[str] | None:
    """Return the run ids in the address; ``None`` if this page wrote them itself."""
    run_ids = st.query_params.get_all("run")
    return None if run_ids == st.session_state.get(_WRITTEN_KEY) else run_ids


def _preserve_selection(ids: list[str]) -> None:
    """Keep the same runs selected when the list changes, since a selection holds row numbers."""
    selected, listed = runs_in_address(), st.session_state.get(_LISTED_KEY)
    if selected is None and listed == ids:
        return
    if selected is None:
        state: Any = st.session_state.get(_TABLE_KEY, {"selection": {"rows": []}})
        rows = state["selection"]["rows"]
        selected = [listed[row] for row in rows if row < len(listed)] if listed else []
    st.session_state[_LISTED_KEY] = ids
    rows = [row for row, run_id in enumerate(ids) if run_id in selected]
    st.session_state[_TABLE_KEY] = {"selection": {"rows": rows, "columns": [], "cells": []}}


def _column_config(curve: str) -> dict[str, Any]:
    column = st.column_config
    return {
        "Curve": column.LineChartColumn(
            "Curve", width="small", help=f"The {curve} on the validation split during training."
        ),
        "Progress": column.ProgressColumn("Progress", width="small", format="percent"),
        "Saved": column.TextColumn(
            "Saved",
            help="Saving against finished full training of the same seed, with the difference in "
            "the metric.",
        ),
        "Not spent": column.NumberColumn(
            "Not spent",
            format="%.1f %%",
            help="Share of full training's computation that was not spent, for runs without a "
            f"finished reference of the same seed. {REFERENCE_HINT}.",
        ),
        "Skipped": column.NumberColumn(
            "Skipped",
            format="%.1f %%",
            help="Share of the considered examples' computation that was left out; the cost of "
            "selection is counted.",
        ),
        "Seconds": column.NumberColumn("Time", format="%.1f s"),
        "Tags": column.ListColumn("Tags"),
        "Started": column.DatetimeColumn("Started (UTC)", format="YYYY-MM-DD HH:mm"),
        "Name": column.TextColumn("Name", pinned=True, width="medium"),
        "Run": column.TextColumn("Id"),
    }
