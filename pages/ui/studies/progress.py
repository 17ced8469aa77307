"""How far a study or a sweep is: what has ended, what trains now, and the time left."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from effcore.runs.manager import shared_run_manager
from effcore.store import StoreError
from effcore.store.study_table import StudyTable
from effcore.studies.active_runs import ActiveRun, active_study_runs, active_sweep_runs
from effcore.studies.executor import StudyRun
from effcore.studies.sweep import SweepPlan

#: How often the page asks.
REFRESH_S = 1.0
#: Most runs that are named; a machine may train many at a time.
_MAX_NAMED_RUNS = 4


def list_running(work: Sequence[StudyRun] | SweepPlan) -> list[ActiveRun]:
    """Return what trains now of some cells or of a sweep; nothing where that cannot be read."""
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
    """Return whether another process carries a study out; not to be asked of one's own."""
    return StudyTable(shared_run_manager().store).is_running(study_id)


def progress_elsewhere(study_id: str) -> tuple[str, int, bool]:
    """Return a study that another process carries out, its runs that ended, and if it is over."""
    ended = StudyTable(shared_run_manager().store).ended_runs(study_id, include_stopped=True)
    return study_id, len(ended), not is_running_elsewhere(study_id)


def draw_progress_bar(done: float, total: int, text: str, running: Sequence[ActiveRun]) -> None:
    """Draw how much is done, and below it what trains now."""
    st.progress(min(done / max(total, 1), 1.0), text=text)
    st.caption(running_text(running))


def running_text(running: Sequence[ActiveRun]) -> str:
    """Return what trains now, and how far it is."""
    named = [
        f"{each.label}, seed {each.seed}: {each.progress:.0%}" for each in running[:_MAX_NAMED_RUNS]
    ]
    if len(running) > _MAX_NAMED_RUNS:
        named.append(f"{len(running) - _MAX_NAMED_RUNS} more")
    return "Now " + " · ".join(named) if named else "No run trains at this moment."


def offer_cancel(study_id: str, key: str) -> None:
    """Offer to leave the rest of a study, whichever process carries it out."""
    if st.button("Cancel", icon=":material/stop:", key=key):
        try:
            StudyTable(shared_run_manager().store).cancel(study_id)
        except StoreError as error:
            st.caption(f"It could not be cancelled: {error}")
            return
        st.caption("Ends within a second; what is done stays.")


def rerun_on_progress(state_key: str, progress: tuple[str, int, bool]) -> None:
    """Draw the whole page again where a run has ended since the last look, or all of it is over.

    Args:
        state_key: Under which the last look is kept.
        progress: The study, how much of it has ended, and whether it is over.
    """
    seen = st.session_state.get(state_key)
    st.session_state[state_key] = progress
    if seen != progress and (seen is not None or progress[-1]):
        st.rerun()
