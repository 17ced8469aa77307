"""A sweep in large type: its conclusion, what its candidate saves, and the front."""

from __future__ import annotations

from typing import Final

import plotly.graph_objects as go
import streamlit as st

from effcore.figures.sweep_charts import frontier_figure
from effcore.runs.summary import metric_text
from effcore.store.study_table import StoredStudy
from effcore.studies.frontier import (
    PointResult,
    SweepOutcome,
    SweepResult,
    conclusion_sentences,
)
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
    """Draw the result of a sweep."""
    if (sweep := read_sweep(stored)) is None:
        return
    st.markdown(
        f"# {escape_markdown(sweep.task.title)}: which thresholds for "
        f"{escape_markdown(sweep.plan.policy)}?"
    )
    show_study_progress(stored.study_id, lambda: missing_trials_text(sweep))
    apply_large_type()
    _show_conclusion(sweep)
    if sweep.candidate is not None:
        _show_candidate(sweep, sweep.candidate)
    if sweep.measured_points:
        _show_front_chart(sweep)


def _show_conclusion(sweep: SweepResult) -> None:
    headline, *evidence = conclusion_sentences(sweep)
    st.markdown(f"## {_conclusion_badge(sweep.outcome)}")
    with st.container(key=SENTENCE_KEY):
        st.markdown(escape_markdown(headline))
    if evidence:
        st.write(escape_markdown(" ".join(evidence)))


def _conclusion_badge(outcome: SweepOutcome) -> str:
    if outcome is SweepOutcome.RECOMMENDED:
        return _RECOMMENDED_BADGE
    if outcome.nothing_wins:
        return _NOTHING_WINS_BADGE
    return _CANDIDATE_BADGE if outcome is SweepOutcome.UNCONFIRMED else _UNDECIDED_BADGE


def _show_candidate(sweep: SweepResult, candidate: PointResult) -> None:
    """Draw the candidate's saving, its metric beside full training's, and its thresholds."""
    metric, point = sweep.metric, candidate.point
    left, right = st.columns(2)
    with left.container(key=f"{NUMBER_KEY_PREFIX}-cost"):
        st.markdown("–" if candidate.cost is None else f"**{1 - candidate.cost:.0%}**")
        st.caption(f"less {sweep.cost_unit} than full training · {point.name}, on validation")
    with right.container(key=f"{NUMBER_KEY_PREFIX}-metric"):
        st.markdown(f"**{metric_text(metric, candidate.metric)}**")
        dense = [result for result in sweep.measured_points if result.point.is_dense]
        full = next((result for result in dense if result.point.budget == 1.0), None)
        beside = f"; full training {metric_text(metric, full.metric)}" if full else ""
        st.caption(escape_markdown(f"{metric.label} on validation{beside}"))
    settings = {"budget": point.budget, **point.knobs}
    listed = " · ".join(
        f"{escape_markdown(name)} **{value:.4g}**" for name, value in settings.items()
    )
    st.markdown(f"Settings: {listed}")


def _show_front_chart(sweep: SweepResult) -> None:
    figure = frontier_figure(sweep)
    # This shorter title fits a phone.
    figure.update_xaxes(title=f"share of full training's {sweep.cost_unit}")
    show_screen_chart(_enlarge_front(figure), "front")
    st.caption("Each point is one setting. The dotted line is same-budget training, to be beaten.")


def _enlarge_front(figure: go.Figure) -> go.Figure:
    for trace in figure.data:
        trace.marker.size = round(1.5 * trace.marker.size)
        trace.line.width = 3
    return enlarge_figure(figure)
