"""Loading of a stored sweep for a page, and the trials that it lacks."""

from __future__ import annotations

import streamlit as st

from effcore.runs.manager import shared_run_manager
from effcore.store import StoreError
from effcore.store.study_table import StoredStudy, StudyTable
from effcore.studies.candidates import replication_runs_left
from effcore.studies.frontier import SweepResult, candidates_rejected_on_test
from effcore.studies.sweep import DENSE_BUDGETS, sweep_from_json
from effcore.studies.sweep_executor import load_sweep_result
from pages.ui.common import escape_markdown
from pages.ui.display_names import deleted_runs_text
from pages.ui.studies.stored_study import LOST_RUN_REMEDY


def read_sweep(stored: StoredStudy) -> SweepResult | None:
    """Return a sweep's result, or show on the page why it cannot be read."""
    try:
        plan = sweep_from_json(stored.plan)
        return load_sweep_result(shared_run_manager().store, stored.study_id, plan)
    except ValueError as error:
        st.error(f"This sweep cannot be read. {escape_markdown(error)}", icon=":material/error:")
    except StoreError as error:
        st.error(
            f"This sweep cannot be read. {escape_markdown(error)}. {LOST_RUN_REMEDY}",
            icon=":material/error:",
        )
    return None


def missing_trials_text(sweep: SweepResult) -> str:
    """Return what an incomplete sweep lacks, as text; empty if it is complete."""
    points = sweep.sweep_points
    missing = len(DENSE_BUDGETS) + sweep.plan.trials - sum(point.has_ended for point in points)
    replications = replication_runs_left(
        sweep.plan, points, candidates_rejected_on_test(sweep.confirmations)
    )
    if missing <= 0 and not replications:
        return ""
    text = (
        f"{missing} of its points"
        if missing > 0
        else f"at most {replications} runs of its second look"
    )
    deleted = deleted_runs_text(
        StudyTable(shared_run_manager().store).deleted_run_ids(sweep.sweep_id)
    )
    return f"{deleted or 'Incomplete:'} {text} are missing."
