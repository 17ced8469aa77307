"""Start or continue a study or a sweep from a page."""

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
    """Start or continue a study or a sweep; return its id, or store why it cannot start.

    Args:
        plan: The plan; ``None`` if the settings are invalid. The button is disabled then, but a
            script may still press it.
        jobs: Runs at a time.
        problem_key: Session key under which the reason for a failure is stored.
    """
    if plan is None:
        return None
    try:
        return start_study_job(shared_run_manager(), plan, jobs).study_id
    except DeviceBusyError as error:
        title = error.active.description().title
        problem = f"{title} trains on the same device: stop it or wait until it ends"
    except (StoreError, RuntimeError, ValueError) as error:
        problem = str(error)
    st.session_state[problem_key] = problem
    return None
