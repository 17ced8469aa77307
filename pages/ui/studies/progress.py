"""Progress of a study or a sweep: finished runs, active runs, and the time left."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from effcore.figures.study_charts import variant_title
from effcore.runs.manager import shared_run_manager
from effcore.store import StoreError
from effcore.store.study_table import StudyTable
from effcore.studies.active_runs import ActiveRun, active_study_runs, active_sweep_runs
from effcore.studies.executor import StudyRun
from effcore.studies.sweep import SweepPlan

#: Interval at which pages refresh the progress, seconds.
REFRESH_S = 1.0
#: Most active runs that are listed by name.
_MAX_NAMED_RUNS = 4


def list_running(work: Sequence[StudyRun] | SweepPlan) -> list[ActiveRun]:
    """Return the active runs of a study or a sweep; none if the store cannot be read."""
    store = shared_run_manager().store
    try:
        return (
            active_sweep_runs(store, work)
            if isinstance(work, SweepPlan)
            else active_study_runs(store, work)
        )
    except StoreError:
        return []


def is_running_elsewhere(study_id: str) -> bool:
    """Return whether another process runs a study; meaningless for a study of this process."""
    return StudyTable(shared_run_manager().store).is_running(study_id)


def progress_elsewhere(study_id: str) -> tuple[str, int, bool]:
    """Return the study id, the number of ended runs, and whether the study is over."""
    ended = StudyTable(shared_run_manager().store).ended_runs(study_id, include_stopped=True)
    return study_id, len(ended), not is_running_elsewhere(study_id)


def draw_progress_bar(done: float, total: int, text: str, running: Sequence[ActiveRun]) -> None:
    """Draw a progress bar, and below it the active runs."""
    st.progress(min(done / max(total, 1), 1.0), text=text)
    st.caption(running_text(running))


def running_text(running: Sequence[ActiveRun]) -> str:
    """Return the active runs and their progress as text."""
    named = [
        f"{variant_title(run.label)}, seed {run.seed}: {run.progress:.0%}"
        for run in running[:_MAX_NAMED_RUNS]
    ]
    if len(running) > _MAX_NAMED_RUNS:
        named.append(f"{len(running) - _MAX_NAMED_RUNS} more")
    return "Now " + " · ".join(named) if named else "No run is training at this moment."


def offer_cancel(study_id: str, key: str) -> None:
    """Offer to cancel a study, whichever process runs it."""
    if st.button("Cancel", icon=":material/stop:", key=key):
        try:
            StudyTable(shared_run_manager().store).cancel(study_id)
        except StoreError as error:
            st.caption(f"The study could not be cancelled: {error}")
            return
        st.caption("The study stops within a second. Finished runs are kept.")


def rerun_on_progress(state_key: str, progress: tuple[str, int, bool]) -> None:
    """Redraw the whole page if the progress has changed since the last call.

    Args:
        state_key: Session key that holds the last progress.
        progress: Study id, number of ended runs, and whether the study is over.
    """
    seen = st.session_state.get(state_key)
    st.session_state[state_key] = progress
    if seen != progress and (seen is not None or progress[-1]):
        st.rerun()
