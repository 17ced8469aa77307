"""Progress of a study or a sweep: finished runs, active runs, and the time left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import streamlit as st

from effcore.figures.study_charts import variant_title
from effcore.runs.descriptions import time_left_text
from effcore.runs.manager import shared_run_manager
from effcore.store import StoreError
from effcore.store.study_table import StudyTable
from effcore.studies.active_runs import (
    ActiveRun,
    active_steps,
    active_study_runs,
    active_sweep_runs,
)
from effcore.studies.executor import StudyRun
from effcore.studies.study_job import StudyJob
from effcore.studies.sweep import SweepPlan
from pages.ui.presenting import is_presenting

#: What is left to do: the runs of a study, or a sweep, which decides on its runs as it goes.
RemainingWork: TypeAlias = Sequence[StudyRun] | SweepPlan

#: Interval at which pages refresh the progress, seconds.
REFRESH_S = 1.0
#: Most active runs that are listed by name.
_MAX_NAMED_RUNS = 4


def list_running(remaining: RemainingWork) -> list[ActiveRun]:
    """Return the active runs of a study or a sweep; none if the store cannot be read."""
    store = shared_run_manager().store
    try:
        return (
            active_sweep_runs(store, remaining)
            if isinstance(remaining, SweepPlan)
            else active_study_runs(store, remaining)
        )
    except StoreError:
        return []


def is_running_elsewhere(study_id: str) -> bool:
    """Return whether another process runs a study; meaningless for a study of this process."""
    return StudyTable(shared_run_manager().store).is_running(study_id)


@st.fragment(run_every=REFRESH_S)
def follow_job(job: StudyJob, kind: str, remaining: RemainingWork) -> None:
    """Show the progress of a study of this process, and redraw the page when a run ends.

    Args:
        job: The study.
        kind: ``study`` or ``sweep``.
        remaining: What it has left to do.
    """
    progress, active_runs = job.progress, list_running(remaining)
    if isinstance(remaining, SweepPlan):
        running = active_steps(remaining, active_runs)
        total_text = f"at most {progress.total} runs and trials"
    else:
        running = sum(run.progress for run in active_runs)
        total_text = f"{progress.total} runs"
    text = f"{progress.done} of {total_text}{time_left_text(job.seconds_left(running))}"
    _draw_progress_bar(progress.done + running, progress.total, text, active_runs)
    _offer_cancel(job.study_id, kind)
    _rerun_on_progress(kind, (job.study_id, progress.done, job.ended.is_set()))


@st.fragment(run_every=REFRESH_S)
def follow_job_elsewhere(study_id: str, kind: str, remaining: RemainingWork, total: int) -> None:
    """Show the progress of a study that another process runs.

    Args:
        study_id: The study.
        kind: ``study`` or ``sweep``.
        remaining: What it has left to do.
        total: Number of its runs; that of a sweep is not known beforehand, and not shown.
    """
    ended = StudyTable(shared_run_manager().store).ended_runs(study_id, include_stopped=True)
    is_over = not is_running_elsewhere(study_id)
    active_runs = list_running(remaining)
    if isinstance(remaining, SweepPlan):
        st.info("Another process runs this sweep.", icon=":material/sync:")
        st.caption(_running_text(active_runs))
    else:
        done = total - len(remaining)
        text = f"Another process runs this study: {done} of {total} runs"
        running = sum(run.progress for run in active_runs)
        _draw_progress_bar(done + running, total, text, active_runs)
    _offer_cancel(study_id, kind)
    _rerun_on_progress(kind, (study_id, len(ended), is_over))


@st.fragment(run_every=REFRESH_S)
def follow_other_job(job: StudyJob) -> None:
    """Show the progress of a running study that is not the one on the page."""
    if job.ended.is_set():
        st.rerun()
    progress = job.progress
    st.caption(f"Another study or sweep is running: {progress.done} of {progress.total} runs.")


def _draw_progress_bar(done: float, total: int, text: str, running: Sequence[ActiveRun]) -> None:
    st.progress(min(done / max(total, 1), 1.0), text=text)
    st.caption(_running_text(running))


def _running_text(running: Sequence[ActiveRun]) -> str:
    named = [
        f"{variant_title(run.label)}, seed {run.seed}: {run.progress:.0%}"
        for run in running[:_MAX_NAMED_RUNS]
    ]
    if len(running) > _MAX_NAMED_RUNS:
        named.append(f"{len(running) - _MAX_NAMED_RUNS} more")
    return "Now " + " · ".join(named) if named else "No run is training at this moment."


def _offer_cancel(study_id: str, kind: str) -> None:
    """Offer to cancel a study, whichever process runs it; presenter mode has no controls."""
    if not is_presenting() and st.button("Cancel", icon=":material/stop:", key=f"cancel-{kind}"):
        try:
            StudyTable(shared_run_manager().store).cancel(study_id)
        except StoreError as error:
            st.caption(f"The {kind} could not be cancelled: {error}")
            return
        st.caption(f"The {kind} stops within a second. Finished runs are kept.")


def _rerun_on_progress(kind: str, progress: tuple[str, int, bool]) -> None:
    """Redraw the whole page if the progress has changed since the last call.

    Args:
        kind: ``study`` or ``sweep``.
        progress: Study id, number of ended runs, and whether the study is over.
    """
    seen = st.session_state.get(f"{kind}_seen")
    st.session_state[f"{kind}_seen"] = progress
    if seen != progress and (seen is not None or progress[-1]):
        st.rerun()
