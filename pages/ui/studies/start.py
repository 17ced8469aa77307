"""Studies and sweeps begun from a page, or gone on with."""

from __future__ import annotations

import streamlit as st

from effcore.runs.manager import DeviceBusyError, shared_run_manager
from effcore.store import StoreError
from effcore.studies.plan import StudyPlan
from effcore.studies.study_job import start_study_job
from effcore.studies.sweep import SweepPlan


def start_or_continue(
    plan: StudyPlan | SweepPlan | None, jobs: int, problem_key: str
) -> str | None:
    """Start a study or a sweep, or go on with it; returns its id, or leaves why not.

    Args:
        plan: What to carry out; ``None`` where the choices allow none. The button is greyed
            out then, but a script may press it all the same.
        jobs: Runs at a time.
        problem_key: Under which the page finds, in its session, why it could not begin.
    """
    if plan is None:
        return None
    try:
        return start_study_job(shared_run_manager(), plan, jobs).study_id
    except DeviceBusyError as error:
        title = error.active.description().title
        why = f"{title} trains on the same device: stop it or wait for its end"
    except (StoreError, RuntimeError, ValueError) as error:
        why = str(error)
    st.session_state[problem_key] = why
    return None
