"""The grid of a study: arms by seeds, filling in, and what each arm came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from effcore.runs.summary import metric_text
from effcore.studies.comparison import StudyResult, VariantResult
from effcore.studies.executor import StudyRun
from effcore.studies.plan import StudyPlan
from effcore.tasks.base import Metric
from pages.ui.studies.progress import REFRESH_S, list_running
from pages.ui.tables import percent_cell, percent_column, show_swipe_hint


def draw_study_grid(
    result: StudyResult,
    missing_cells: Sequence[StudyRun],
    is_under_way: bool,
) -> None:
    """Draw the grid; of what trains, how far it is.

    Args:
        result: What the study found so far.
        missing_cells: What has not ended.
        is_under_way: Whether it is under way.
    """
    st.fragment(_draw_grid_table, run_every=REFRESH_S if is_under_way else None)(
        result, missing_cells
    )
    if any(variant.metrics for variant in result.variants):
        st.caption("Skipped is of full dense training's computation, selecting included.")


def _draw_grid_table(result: StudyResult, missing_cells: Sequence[StudyRun]) -> None:
    metric = result.metric
    now = {
        (each.label, each.seed): f"now at {each.progress:.0%}"
        for each in list_running(missing_cells)
    }
    table = pd.DataFrame(
        [_variant_row(result.plan, variant, metric, now) for variant in result.variants]
    )
    whole = [name for name in table if table[name].isna().all() and "seed " not in str(name)]
    st.dataframe(
        table.drop(columns=whole),
        hide_index=True,
        placeholder="–",
        column_config={
            "Saved": percent_column(),
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
    variant: VariantResult,
    metric: Metric,
    running_texts: Mapping[tuple[str, int], str],
) -> dict[str, Any]:
    mean, details = variant.metric_mean, variant.details
    row: dict[str, Any] = {"Arm": variant.name}
    row["Mean"] = None if mean is None else metric_text(metric, mean)
    row["Saved"] = percent_cell(variant.saved_compute_frac)
    row["Skipped"] = percent_cell(variant.skipped_compute_frac)
    row["Time"] = variant.seconds
    row["Worst class"] = percent_cell(details.get("worst_class"))
    row["Calibration error"] = percent_cell(details.get("calibration_error"))
    ended = {run.seed: run.metric for run in variant.runs}
    for seed in plan.seeds:
        text = running_texts.get((variant.name, seed))
        if seed in ended:
            value = ended[seed]
            text = "failed" if value is None else metric_text(metric, value)
        row[f"seed {seed}"] = text
    return row
