"""A sweep in large type: what it shows, what its candidate saves, and the front."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import plotly.graph_objects as go
import streamlit as st

from effcore.figures.frontier import frontier_figure
from effcore.store.studies import StoredStudy
from effcore.summary import metric_text
from effcore.tasks.base import TASKS, Metric
from pages.ui.frame import plain
from pages.ui.present.large import (
    NUMBER,
    SENTENCE,
    enlarge,
    large_type,
    show_chart,
    show_progress,
)
from pages.ui.studies.sweeps import lacking_words, read_sweep

_RECOMMENDED: Final = ":green-badge[:material/check_circle: recommended]"
_NOTHING: Final = ":orange-badge[:material/block: nothing wins]"
_CANDIDATE: Final = ":blue-badge[:material/star: a candidate, not confirmed yet]"
_OPEN: Final = ":gray-badge[:material/hourglass_empty: not decided yet]"


def present_sweep(stored: StoredStudy) -> None:
    """Draw what a sweep has found."""
    if (sweep := read_sweep(stored)) is None:
        return
    told = sweep.told
    task = TASKS.get(told["task"])
    st.markdown(f"# {plain(task.title)}: which thresholds for {plain(sweep.plan.policy)}?")
    show_progress(stored.study_id, lambda: lacking_words(stored.study_id, sweep))
    large_type()
    _say(told)
    known = {point["name"]: point for point in told["points"] if point["metric"] is not None}
    if told["candidate"] in known:
        _candidate(known[told["candidate"]], known, told, task.metric)
    if known:
        _front(told, task.metric)


def _say(told: Mapping[str, Any]) -> None:
    # The first sentence is the conclusion; numbers follow it.
    words = str(told["conclusion"])
    st.markdown(f"## {_badge(told)}")
    first, _, evidence = words.partition(". ")
    with st.container(key=SENTENCE):
        st.markdown(plain(first.removesuffix(".") + "."))
    if evidence:
        st.write(plain(evidence))


def _badge(told: Mapping[str, Any]) -> str:
    if told["recommended"]:
        return _RECOMMENDED
    if str(told["conclusion"]).startswith("Nothing wins"):
        return _NOTHING
    return _OPEN if told["candidate"] is None else _CANDIDATE


def _candidate(
    point: Mapping[str, Any],
    known: Mapping[str, Mapping[str, Any]],
    told: Mapping[str, Any],
    metric: Metric,
) -> None:
    """Draw what the candidate spends and comes to, beside full training, and its thresholds."""
    left, right = st.columns(2)
    with left.container(key=f"{NUMBER}-cost"):
        st.markdown(f"**{1 - point['cost']:.0%}**")
        kind = told["cost"].removeprefix("share of full dense training's ")
        st.caption(f"less {kind} than full training · {point['name']}, on validation")
    with right.container(key=f"{NUMBER}-metric"):
        st.markdown(f"**{metric_text(metric, point['metric'])}**")
        full = known.get("dense 1")
        beside = f"; full training {metric_text(metric, full['metric'])}" if full else ""
        st.caption(plain(f"{metric.label} on validation{beside}"))
    set_to = {"budget": point["budget"], **point["knobs"]}
    listed = " · ".join(f"{plain(name)} **{value:.4g}**" for name, value in set_to.items())
    st.markdown(f"Its settings: {listed}")


def _front(told: Mapping[str, Any], metric: Metric) -> None:
    figure = frontier_figure(told, metric.label, metric.factor, metric.unit)
    figure.update_xaxes(title=told["cost"].replace(" dense", ""))  # which a phone has room for
    show_chart(_larger(figure), "front")
    st.caption("Each point is one setting. What must be beaten is dense training for less, dotted.")


def _larger(figure: go.Figure) -> go.Figure:
    for trace in figure.data:
        trace.marker.size = round(1.5 * trace.marker.size)
        trace.line.width = 3
    return enlarge(figure)
