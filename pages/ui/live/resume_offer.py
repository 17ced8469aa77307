"""The offer to resume an interrupted run from its last checkpoint."""

from __future__ import annotations

import streamlit as st

from effcore.records import RunStatus
from effcore.runs.manager import DeviceBusyError, DeviceReservedError, shared_run_manager
from effcore.store import StoreError
from pages.ui.common import escape_markdown


def offer_to_resume(run_id: str) -> None:
    """Offer to resume an interrupted run; draw nothing for others."""
    runs = shared_run_manager()
    run = runs.find_run(run_id)
    if run is None or run.snapshot().status is not RunStatus.INTERRUPTED:
        return
    if problem := st.session_state.pop("resume_problem", None):
        st.error(
            f"The run could not be resumed. {escape_markdown(problem)}", icon=":material/error:"
        )
    if not runs.store.has_checkpoint(run_id):
        st.caption("This run was interrupted before its first checkpoint, so it cannot be resumed.")
        return
    row = st.container(horizontal=True, vertical_alignment="center")
    row.markdown("This run was interrupted. It can continue from its last checkpoint.")
    row.button(
        "Resume this run",
        icon=":material/resume:",
        key="resume",
        on_click=_resume_run,
        args=(run_id,),
        help="Steps after the last checkpoint are trained again. On a CPU the result is identical, "
        "to the bit, to that of an uninterrupted run.",
    )


def _resume_run(run_id: str) -> None:
    try:
        shared_run_manager().resume(run_id)
    except (StoreError, DeviceBusyError, DeviceReservedError) as error:
        st.session_state["resume_problem"] = str(error)
