"""Table of a study: a row for each variant, with its results and a column for each seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from effcore.figures.study_charts import variant_title
from effcore.runs.summary import metric_text
from effcore.studies.comparison import StudyResult, VariantResult
from effcore.studies.executor import StudyRun
from effcore.studies.plan import StudyPlan
from effcore.studies.savings import SHARE_CAPTION
from effcore.tasks.base import Metric
from pages.ui.studies.progress import REFRESH_S, list_running
from pages.ui.tables import percent_cell, percent_column, show_swipe_hint


def draw_study_grid(
    result: StudyResult,
    remaining_runs: Sequence[StudyRun],
    is_under_way: bool,
) -> None:
    """Draw the table, with the progress of active runs.

    Args:
        result: Result of the study so far.
        remaining_runs: Runs that have not ended.
        is_under_way: Whether the study is running.
    """
    st.fragment(_draw_grid_table, run_every=REFRESH_S if is_under_way else None)(
        result, remaining_runs
    )
    if any(variant.metrics for variant in result.variants):
        st.caption(SHARE_CAPTION)


def _draw_grid_table(result: StudyResult, remaining_runs: Sequence[StudyRun]) -> None:
    metric = result.metric
    running_texts = {
        (run.label, run.seed): f"now at {run.progress:.0%}" for run in list_running(remaining_runs)
    }
    table = pd.DataFrame(
        [_variant_row(result.plan, variant, metric, running_texts) for variant in result.variants]
    )
    empty = [name for name in table if table[name].isna().all() and "seed " not in str(name)]
    st.dataframe(
        table.drop(columns=empty),
        hide_index=True,
        placeholder="–",
        column_config={
            "Saved": percent_column(),
            "Skipped": percent_column(),
            "Worst class": percent_column(),
            "Calibration error": percent_column(),
            "Time": st.column_config.NumberColumn(format="%.1f s"),
            "Variant": st.column_config.TextColumn(pinned=True),
        },
    )
    show_swipe_hint("variants")


def _variant_row(
    plan: StudyPlan,
    variant: VariantResult,
    metric: Metric,
    running_texts: Mapping[tuple[str, int], str],
) -> dict[str, Any]:
    mean, details = variant.metric_mean, variant.details
    row: dict[str, Any] = {"Variant": variant_title(variant.name)}
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
