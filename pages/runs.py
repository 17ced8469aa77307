"""Runs: what the store holds, the newest first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pandas as pd
import streamlit as st

from effcore.config import setup
from effcore.events import Snapshot
from effcore.manager import shared_runs
from effcore.registry import UnknownNameError
from effcore.report import run_report, run_table, to_csv, to_parquet
from effcore.store import RunSummary, StoreError
from effcore.summary import metric_text
from effcore.tasks.base import TASKS
from pages.ui.frame import plain

_NEWEST = 200
#: What stands in the table where a run has nothing to say, for instance because it was killed.
_NOTHING = "–"


def _metric(run: RunSummary) -> str | None:
    """Return the final metric in words; a task that is gone has lost its own."""
    if run.end is None:
        return None
    try:
        metric = TASKS.get(run.config.task).metric
    except UnknownNameError:
        return f"{run.end.metric_name} {run.end.metric}"
    return f"{metric.label} {metric_text(metric, run.end.metric)}"


def _setup(run: RunSummary) -> str:
    """Return model, size, update policy and faults of the data."""
    try:
        steered = " · steered" if run.exploratory else ""
        return setup(run.config) + steered
    except UnknownNameError:
        return run.config.model


def _row(run: RunSummary) -> dict[str, object]:
    end = run.end
    return {
        "Run": run.run_id,
        "Status": run.status.value,
        "Task": run.config.task,
        "Policy": run.config.selection,
        "Setup": _setup(run),
        "Seed": run.config.seed,
        "Metric": _metric(run),
        "Skipped": round(100 * end.skipped_compute_frac, 1) + 0.0 if end else None,  # no -0.0
        "Seconds": end.seconds if end else None,
        "Energy": run.energy.short() if run.energy else None,
        "Started": datetime.fromtimestamp(run.created_unix, UTC),
    }


def _table(runs: list[RunSummary]) -> RunSummary | None:
    """Draw the runs and return the one picked."""
    event = st.dataframe(
        pd.DataFrame([_row(run) for run in runs]),
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key="runs-table",
        placeholder=_NOTHING,
        column_config={
            "Skipped": st.column_config.NumberColumn("Skipped", format="%.1f %%"),
            "Seconds": st.column_config.NumberColumn("Time", format="%.1f s"),
            "Started": st.column_config.DatetimeColumn("Started (UTC)", format="YYYY-MM-DD HH:mm"),
        },
    )
    rows = event["selection"]["rows"]
    return runs[rows[0]] if rows else None


def _downloads(run_id: str) -> None:
    """Offer the run as one page to read offline, and its tables; made when asked."""

    def look() -> Snapshot:
        return shared_runs().store.load(run_id)

    offers: list[tuple[str, str, Any]] = [("Report (HTML)", "html", lambda: run_report(look()))]
    for name, label in (("steps", "Steps"), ("evals", "Evaluations"), ("power", "Power")):
        for ending, write in (("csv", to_csv), ("parquet", to_parquet)):
            offers.append(
                (f"{label} ({ending})", f"{name}.{ending}",
                 lambda name=name, write=write: write(run_table(look(), name)))
            )  # fmt: skip
    with st.container(horizontal=True):
        for label, ending, make in offers:
            st.download_button(
                label, make, f"effcore-{run_id}-{ending}" if "." in ending else
                f"effcore-{run_id}.{ending}", key=f"download-{ending}", on_click="ignore",
                icon=":material/download:",
            )  # fmt: skip


st.title("Runs")
try:
    stored = shared_runs().store.runs(_NEWEST)
except StoreError as error:
    st.error(f"The runs could not be listed. {plain(error)}", icon=":material/error:")
    st.stop()
if not stored:
    st.info("Nothing has been trained yet. Start a run on the Live page and it appears here.")
    st.page_link("live.py", label="Go to Live", icon=":material/monitoring:")
    st.stop()
st.caption(
    f"The newest {_NEWEST} at most. An interrupted run is one whose process ended before it did; "
    "what it had is here."
)
picked = _table(stored)
if picked is None:
    st.caption("Select a row to open its run.")
else:
    st.page_link(
        "live.py",
        label=f"Open {picked.run_id}",
        icon=":material/open_in_new:",
        query_params={"run": picked.run_id},
    )
    _downloads(picked.run_id)
