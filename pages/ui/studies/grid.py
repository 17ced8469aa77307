"""The grid of a study: arms by seeds, filling in, and what each arm came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from effcore.runs.summary import metric_text
from effcore.studies.executor import StudyRun
from effcore.studies.plan import StudyPlan
from effcore.tasks.base import TASKS, Metric
from pages.ui.studies.progress import REFRESH_S, list_running
from pages.ui.tables import percent_cell, percent_column, show_swipe_hint


def draw_study_grid(
    plan: StudyPlan,
    study_record: Mapping[str, Any],
    missing_cells: Sequence[StudyRun],
    is_under_way: bool,
) -> None:
    """Draw the grid; of what trains, how far it is.

    Args:
        plan: What is compared.
        study_record: The study's record.
        missing_cells: What has not ended.
        is_under_way: Whether it is under way.
    """
    st.fragment(_draw_grid_table, run_every=REFRESH_S if is_under_way else None)(
        plan, study_record, missing_cells
    )
    if any(arm["metrics"] for arm in study_record["arms"]):
        st.caption("Skipped is of full dense training's computation, selecting included.")


def _draw_grid_table(
    plan: StudyPlan, study_record: Mapping[str, Any], missing_cells: Sequence[StudyRun]
) -> None:
    metric = TASKS.get(study_record["task"]).metric
    now = {
        (each.label, each.seed): f"now at {each.progress:.0%}"
        for each in list_running(missing_cells)
    }
    table = pd.DataFrame([_variant_row(plan, arm, metric, now) for arm in study_record["arms"]])
    whole = [name for name in table if table[name].isna().all() and "seed " not in str(name)]
    st.dataframe(
        table.drop(columns=whole),
        hide_index=True,
        placeholder="–",
        column_config={
            "Skipped": percent_column(),
            "Worst class": percent_column(),
            "Calibration error": percent_column(),
            "Time": st.column_config.NumberColumn(format="%.1f s"),
            "Arm": st.column_config.TextColumn(pinned=True),
        },
    )
    show_swipe_hint("arms")


def _variant_row(
    plan: StudyPlan,
    variant_record: Mapping[str, Any],
    metric: Metric,
    running_texts: Mapping[tuple[str, int], str],
) -> dict[str, Any]:
    mean, details = variant_record["metric_mean"], variant_record["details"]
    row: dict[str, Any] = {"Arm": variant_record["name"]}
    row["Mean"] = None if mean is None else metric_text(metric, mean)
    row["Skipped"], row["Time"] = (
        percent_cell(variant_record["skipped_compute_frac"]),
        variant_record["seconds"],
    )
    row["Worst class"] = percent_cell(details.get("worst_class"))
    row["Calibration error"] = percent_cell(details.get("calibration_error"))
    ended = {run["seed"]: run["metric"] for run in variant_record["runs"]}
    for seed in plan.seeds:
        text = running_texts.get((variant_record["name"], seed))
        if seed in ended:
            value = ended[seed]
            text = "failed" if value is None else metric_text(metric, value)
        row[f"seed {seed}"] = text
    return row
