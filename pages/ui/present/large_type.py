"""What the verdict of a study and of a sweep share on the large screen."""

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
#: Prefixes of the keys of what is set in the largest type: the sentence, and each number.
SENTENCE_KEY: Final = "present-sentence"
NUMBER_KEY_PREFIX: Final = "present-saved"


def apply_large_type() -> None:
    """Set the verdict and what was saved in the largest type of the screen."""
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
    """Show how far a study has got; where it is not under way, why it ended and what it lacks.

    Args:
        study_id: The study or the sweep.
        missing_text: Says what is missing of one that is not under way; nothing where none is.
    """
    study = current_study_job()
    own = study if study is not None and study.study_id == study_id else None
    if own is not None and not own.ended.is_set():
        _refresh_progress()
        return
    if own is not None and own.problem:
        st.error(f"It ended early. {escape_markdown(own.problem)}", icon=":material/error:")
    if own is None and is_running_elsewhere(study_id):
        st.info("Another process carries it out.", icon=":material/sync:")
    elif words := missing_text():
        st.info(words, icon=":material/hourglass_empty:")


@st.fragment(run_every=_REFRESH_S)
def _refresh_progress() -> None:
    """Show how far the study has got; the page is drawn anew with each run that ends."""
    study = current_study_job()
    if study is None:
        return
    told = study.progress
    share = min(told.done / max(told.total, 1), 1.0)
    most = "at most " if isinstance(study.plan, SweepPlan) else ""
    st.progress(share, text=f"{told.done} of {most}{told.total} runs")
    now = (study.study_id, told.done, study.ended.is_set())
    seen = st.session_state.get("present_seen", now)
    st.session_state["present_seen"] = now
    if seen != now:
        st.rerun()


def show_screen_chart(figure: go.Figure, name: str) -> None:
    """Draw a figure in the height that is left of the screen.

    Args:
        figure: From :func:`enlarge_figure`.
        name: Tells it from what else the screen shows.
    """
    st.plotly_chart(
        figure, height="stretch", key=f"{FILL_KEY_PREFIX}-{name}", config={"displayModeBar": False}
    )


def enlarge_figure(figure: go.Figure) -> go.Figure:
    """Set a figure's type for the large screen; returns it."""
    figure.update_layout(font={"size": 20}, legend={"font": {"size": 18}}, height=None)
    figure.update_xaxes(tickfont={"size": 18}, title_font={"size": 18})
    figure.update_yaxes(tickfont={"size": 18}, title_font={"size": 18})
    return figure.update_annotations(font={"size": 18})
