"""Shared parts of the presented study and the presented sweep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import plotly.graph_objects as go
import streamlit as st

from effcore.studies.study_job import current_study_job
from effcore.studies.sweep import SweepPlan
from pages.ui.common import escape_markdown
from pages.ui.present.screen import FILL_KEY_PREFIX
from pages.ui.studies.progress import is_running_elsewhere

_REFRESH_S: Final = 2.0
#: Container keys of the elements in the largest type: the sentence, and each number.
SENTENCE_KEY: Final = "present-sentence"
NUMBER_KEY_PREFIX: Final = "present-saved"


def apply_large_type() -> None:
    """Set the sentence and the numbers in the largest type."""
    st.html(
        f"""<style>
        .st-key-{SENTENCE_KEY} p {{ font-size: clamp(1.3rem, 2.5vw, 2rem); line-height: 1.25;
          font-weight: 650; letter-spacing: -0.01em; }}
        [class*="st-key-{NUMBER_KEY_PREFIX}"] p {{ font-size: clamp(1.6rem, 3.2vw, 2.6rem); }}
        [class*="st-key-{NUMBER_KEY_PREFIX}"] [data-testid="stCaptionContainer"] p {{
          font-size: 1rem; }}
        [class*="st-key-{NUMBER_KEY_PREFIX}"] {{ gap: 0; }}
        </style>"""
    )


def show_study_progress(study_id: str, missing_text: Callable[[], str]) -> None:
    """Show a running study's progress; otherwise why it ended early and what it lacks.

    Args:
        study_id: The study or the sweep.
        missing_text: Returns what an incomplete study lacks; empty if it is complete.
    """
    study = current_study_job()
    own = study if study is not None and study.study_id == study_id else None
    if own is not None and not own.ended.is_set():
        _refresh_progress()
        return
    if own is not None and own.problem:
        st.error(f"The study ended early. {escape_markdown(own.problem)}", icon=":material/error:")
    if own is None and is_running_elsewhere(study_id):
        st.info("Another process runs this study.", icon=":material/sync:")
    elif text := missing_text():
        st.info(text, icon=":material/hourglass_empty:")


@st.fragment(run_every=_REFRESH_S)
def _refresh_progress() -> None:
    """Show the study's progress, and redraw the page when a run ends."""
    study = current_study_job()
    if study is None:
        return
    progress = study.progress
    share = min(progress.done / max(progress.total, 1), 1.0)
    at_most = "at most " if isinstance(study.plan, SweepPlan) else ""
    st.progress(share, text=f"{progress.done} of {at_most}{progress.total} runs")
    state = (study.study_id, progress.done, study.ended.is_set())
    last_state = st.session_state.get("present_seen", state)
    st.session_state["present_seen"] = state
    if last_state != state:
        st.rerun()


def show_screen_chart(figure: go.Figure, name: str) -> None:
    """Draw a figure in the remaining height of the screen.

    Args:
        figure: From :func:`enlarge_figure`.
        name: Unique name of the chart on this screen.
    """
    st.plotly_chart(
        figure, height="stretch", key=f"{FILL_KEY_PREFIX}-{name}", config={"displayModeBar": False}
    )


def enlarge_figure(figure: go.Figure) -> go.Figure:
    """Enlarge a figure's type for the large screen, and return the figure."""
    figure.update_layout(font={"size": 20}, legend={"font": {"size": 18}}, height=None)
    figure.update_xaxes(tickfont={"size": 18}, title_font={"size": 18})
    figure.update_yaxes(tickfont={"size": 18}, title_font={"size": 18})
    return figure.update_annotations(font={"size": 18})
