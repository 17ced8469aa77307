"""A sweep in large type: what it shows, what its candidate saves, and the front."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import plotly.graph_objects as go
import streamlit as st

from effcore.figures.sweep_charts import frontier_figure
from effcore.runs.summary import metric_text
from effcore.store.study_table import StoredStudy
from effcore.tasks.base import TASKS, Metric
from pages.ui.common import escape_markdown
from pages.ui.present.large_type import (
    NUMBER_KEY_PREFIX,
    SENTENCE_KEY,
    apply_large_type,
    enlarge_figure,
    show_screen_chart,
    show_study_progress,
)
from pages.ui.studies.stored_sweep import missing_trials_text, read_sweep

_RECOMMENDED_BADGE: Final = ":green-badge[:material/check_circle: recommended]"
_NOTHING_WINS_BADGE: Final = ":orange-badge[:material/block: nothing wins]"
_CANDIDATE_BADGE: Final = ":blue-badge[:material/star: a candidate, not confirmed yet]"
_UNDECIDED_BADGE: Final = ":gray-badge[:material/hourglass_empty: not decided yet]"


def present_sweep(stored: StoredStudy) -> None:
    """Draw what a sweep has found."""
    if (sweep := read_sweep(stored)) is None:
        return
    told = sweep.record
    task = TASKS.get(told["task"])
    st.markdown(
        f"# {escape_markdown(task.title)}: which thresholds for "
        f"{escape_markdown(sweep.plan.policy)}?"
    )
    show_study_progress(stored.study_id, lambda: missing_trials_text(stored.study_id, sweep))
    apply_large_type()
    _show_conclusion(told)
    known = {point["name"]: point for point in told["points"] if point["metric"] is not None}
    if told["candidate"] in known:
        _show_candidate(known[told["candidate"]], known, told, task.metric)
    if known:
        _show_front_chart(told, task.metric)


def _show_conclusion(sweep_record: Mapping[str, Any]) -> None:
    # The first sentence is the conclusion; numbers follow it.
    words = str(sweep_record["conclusion"])
    st.markdown(f"## {_conclusion_badge(sweep_record)}")
    first, _, evidence = words.partition(". ")
    with st.container(key=SENTENCE_KEY):
        st.markdown(escape_markdown(first.removesuffix(".") + "."))
    if evidence:
        st.write(escape_markdown(evidence))


def _conclusion_badge(sweep_record: Mapping[str, Any]) -> str:
    if sweep_record["recommended"]:
        return _RECOMMENDED_BADGE
    if str(sweep_record["conclusion"]).startswith("Nothing wins"):
        return _NOTHING_WINS_BADGE
    return _UNDECIDED_BADGE if sweep_record["candidate"] is None else _CANDIDATE_BADGE


def _show_candidate(
    point: Mapping[str, Any],
    points_by_name: Mapping[str, Mapping[str, Any]],
    sweep_record: Mapping[str, Any],
    metric: Metric,
) -> None:
    """Draw what the candidate spends and comes to, beside full training, and its thresholds."""
    left, right = st.columns(2)
    with left.container(key=f"{NUMBER_KEY_PREFIX}-cost"):
        st.markdown(f"**{1 - point['cost']:.0%}**")
        kind = sweep_record["cost"].removeprefix("share of full dense training's ")
        st.caption(f"less {kind} than full training · {point['name']}, on validation")
    with right.container(key=f"{NUMBER_KEY_PREFIX}-metric"):
        st.markdown(f"**{metric_text(metric, point['metric'])}**")
        full = points_by_name.get("dense 1")
        beside = f"; full training {metric_text(metric, full['metric'])}" if full else ""
        st.caption(escape_markdown(f"{metric.label} on validation{beside}"))
    set_to = {"budget": point["budget"], **point["knobs"]}
    listed = " · ".join(
        f"{escape_markdown(name)} **{value:.4g}**" for name, value in set_to.items()
    )
    st.markdown(f"Its settings: {listed}")


def _show_front_chart(sweep_record: Mapping[str, Any], metric: Metric) -> None:
    figure = frontier_figure(sweep_record, metric.label, metric.factor, metric.unit)
    figure.update_xaxes(
        title=sweep_record["cost"].replace(" dense", "")
    )  # which a phone has room for
    show_screen_chart(_enlarge_front(figure), "front")
    st.caption("Each point is one setting. What must be beaten is dense training for less, dotted.")


def _enlarge_front(figure: go.Figure) -> go.Figure:
    for trace in figure.data:
        trace.marker.size = round(1.5 * trace.marker.size)
        trace.line.width = 3
    return enlarge_figure(figure)
