"""The grid of a study: arms by seeds, filling in, and what each arm came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from effcore.studies.executor import StudyRun
from effcore.studies.plan import StudyPlan
from effcore.summary import metric_text
from effcore.tasks.base import TASKS, Metric
from pages.ui.amounts import percent, percents, sideways_note
from pages.ui.studies.progress import LOOK_S, training


def draw_grid(
    plan: StudyPlan, told: Mapping[str, Any], left: Sequence[StudyRun], live: bool
) -> None:
    """Draw the grid; of what trains, how far it is.

    Args:
        plan: What is compared.
        told: The study's record.
        left: What has not ended.
        live: Whether it is under way.
    """
    st.fragment(_draw, run_every=LOOK_S if live else None)(plan, told, left)
    if any(arm["metrics"] for arm in told["arms"]):
        st.caption("Skipped is of full dense training's computation, selecting included.")


def _draw(plan: StudyPlan, told: Mapping[str, Any], left: Sequence[StudyRun]) -> None:
    metric = TASKS.get(told["task"]).metric
    now = {(each.label, each.seed): f"now at {each.progress:.0%}" for each in training(left)}
    table = pd.DataFrame([_row(plan, arm, metric, now) for arm in told["arms"]])
    whole = [name for name in table if table[name].isna().all() and "seed " not in str(name)]
    st.dataframe(
        table.drop(columns=whole),
        hide_index=True,
        placeholder="–",
        column_config={
            "Skipped": percents(),
            "Worst class": percents(),
            "Calibration error": percents(),
            "Time": st.column_config.NumberColumn(format="%.1f s"),
            "Arm": st.column_config.TextColumn(pinned=True),
        },
    )
    sideways_note("arms")


def _row(
    plan: StudyPlan,
    arm: Mapping[str, Any],
    metric: Metric,
    now: Mapping[tuple[str, int], str],
) -> dict[str, Any]:
    mean, details = arm["metric_mean"], arm["details"]
    row: dict[str, Any] = {"Arm": arm["name"]}
    row["Mean"] = None if mean is None else metric_text(metric, mean)
    row["Skipped"], row["Time"] = percent(arm["skipped_compute_frac"]), arm["seconds"]
    row["Worst class"] = percent(details.get("worst_class"))
    row["Calibration error"] = percent(details.get("calibration_error"))
    ended = {run["seed"]: run["metric"] for run in arm["runs"]}
    for seed in plan.seeds:
        text = now.get((arm["name"], seed))
        if seed in ended:
            value = ended[seed]
            text = "failed" if value is None else metric_text(metric, value)
        row[f"seed {seed}"] = text
    return row
