"""The list of runs as a table, and which of its rows are picked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from effcore.impact.reference_comparison import compare_with_reference, computation_not_spent
from effcore.impact.saving_text import REFERENCE_HINT, saving_sentence
from effcore.records import EVAL_COLUMNS, RunStatus
from effcore.registry import UnknownNameError
from effcore.runs.descriptions import setup_text
from effcore.runs.manager import shared_run_manager
from effcore.runs.summary import metric_text
from effcore.store import RunSummary, StoreError
from effcore.store.eval_curves import read_evals
from effcore.tasks.base import TASKS
from pages.ui.display_names import run_description, run_status_text
from pages.ui.tables import energy_text, percent_cell, show_swipe_hint

#: What stands in the table where a run has nothing to say, for instance because it was killed.
EMPTY_CELL = "–"
#: Points of a line in the table.
_SPARKLINE_POINTS = 32
#: Columns that are left out where no run has anything there.
_OPTIONAL_COLUMNS = ("Saved", "Not spent", "Tags", "Study")
_TABLE_KEY, _LISTED_KEY, _WRITTEN_KEY = "runs-table", "runs-listed", "runs-written"


def final_metric_text(run: RunSummary) -> str | None:
    """Return the final metric in words; a task that is gone has lost its own."""
    if run.end is None:
        return None
    try:
        metric = TASKS.get(run.config.task).metric
    except UnknownNameError:
        return f"{run.end.metric_name} {run.end.metric}"
    return f"{metric.label} {metric_text(metric, run.end.metric)}"


def run_setup_text(run: RunSummary) -> str:
    """Return model, size, update policy and faults of the data."""
    try:
        steered = " · steered" if run.exploratory else ""
        return setup_text(run.config) + steered
    except UnknownNameError:
        return run.config.model


def _sparkline_values(run: RunSummary, column: str) -> list[float]:
    """Return a run's validation curve, thinned evenly, its last point kept."""
    evals = read_evals(shared_run_manager().store, run.run_id)
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
    return {  # what a phone has room for first
        "Name": run.labels.name or run_description(run),
        "Metric": final_metric_text(run),
        "Saved": saving_sentence(saving) if saving is not None else None,
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
    """Draw the runs and return those picked, at first those in the address.

    Args:
        runs: What is listed.
        curve: ``metric`` or ``loss``: what the small curves show.
        studies: The studies of each run, by its id.
        names: What each study is called.
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
        placeholder=EMPTY_CELL,
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
    """Return the runs in the address, where it is not as this page has left it."""
    asked = st.query_params.get_all("run")
    return None if asked == st.session_state.get(_WRITTEN_KEY) else asked


def _preserve_selection(ids: list[str]) -> None:
    """Let what is picked stay so while the list changes: a selection is one of row numbers."""
    wanted, listed = runs_in_address(), st.session_state.get(_LISTED_KEY)
    if wanted is None and listed == ids:
        return
    if wanted is None:
        state: Any = st.session_state.get(_TABLE_KEY, {"selection": {"rows": []}})
        rows = state["selection"]["rows"]
        wanted = [listed[row] for row in rows if row < len(listed)] if listed else []
    st.session_state[_LISTED_KEY] = ids
    rows = [row for row, run_id in enumerate(ids) if run_id in wanted]
    st.session_state[_TABLE_KEY] = {"selection": {"rows": rows, "columns": [], "cells": []}}


def _column_config(curve: str) -> dict[str, Any]:
    column = st.column_config
    return {
        "Curve": column.LineChartColumn(
            "Curve", width="small", help=f"The {curve} on the validation split, as it trained."
        ),
        "Progress": column.ProgressColumn("Progress", width="small", format="percent"),
        "Saved": column.TextColumn(
            "Saved",
            help="Beside finished full training of the same seed, with what it cost in quality.",
        ),
        "Not spent": column.NumberColumn(
            "Not spent",
            format="%.1f %%",
            help="Share of full training's computation not spent, where no reference of the seed "
            f"has finished. {REFERENCE_HINT}.",
        ),
        "Skipped": column.NumberColumn(
            "Skipped",
            format="%.1f %%",
            help="Rate of computation left out of what was considered, selecting included.",
        ),
        "Seconds": column.NumberColumn("Time", format="%.1f s"),
        "Tags": column.ListColumn("Tags"),
        "Started": column.DatetimeColumn("Started (UTC)", format="YYYY-MM-DD HH:mm"),
        "Name": column.TextColumn("Name", pinned=True, width="medium"),
        "Run": column.TextColumn("Id"),
    }
