"""A stored sweep as it is shown, and what it lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import streamlit as st

from effcore.runs.manager import shared_run_manager
from effcore.store import StoreError
from effcore.store.study_table import StoredStudy, StudyTable
from effcore.studies.candidates import replication_runs_left
from effcore.studies.frontier import Confirmation, rejected_candidates, sweep_record
from effcore.studies.sweep import DENSE_BUDGETS, SweepPlan, sweep_from_json
from effcore.studies.sweep_executor import load_confirmations, load_sweep_points
from effcore.studies.trials import SweepPoint
from pages.ui.common import escape_markdown
from pages.ui.display_names import deleted_runs_text
from pages.ui.studies.stored_study import LOST_RUN_REMEDY


class SweepView(NamedTuple):
    """What is stored of a sweep.

    Attributes:
        plan: What is searched.
        points: What was tried.
        confirmations: What the studies of candidates came to, by the trial's name.
        record: Its record.
    """

    plan: SweepPlan
    points: Sequence[SweepPoint]
    confirmations: Mapping[str, Confirmation]
    record: Mapping[str, Any]


def read_sweep(stored: StoredStudy) -> SweepView | None:
    """Return a sweep, or say on the page why it cannot be shown."""
    store = shared_run_manager().store
    try:
        plan = sweep_from_json(stored.plan)
        points = load_sweep_points(store, stored.study_id, plan)
        tried = load_confirmations(store, plan, points)
        told = sweep_record(stored.study_id, plan, points, tried)
    except ValueError as error:
        st.error(f"This sweep cannot be read. {escape_markdown(error)}", icon=":material/error:")
        return None
    except StoreError as error:
        st.error(
            f"This sweep cannot be read. {escape_markdown(error)}. {LOST_RUN_REMEDY}",
            icon=":material/error:",
        )
        return None
    return SweepView(plan, points, tried, told)


def missing_trials_text(sweep_id: str, sweep: SweepView) -> str:
    """Return what a sweep that is not under way lacks; nothing where it is over."""
    left = len(DENSE_BUDGETS) + sweep.plan.trials - sum(point.has_ended for point in sweep.points)
    again = replication_runs_left(
        sweep.plan, sweep.points, rejected_candidates(sweep.confirmations)
    )
    if left <= 0 and not again:
        return ""
    what = f"{left} of its points" if left > 0 else f"at most {again} runs of its second look"
    lost = deleted_runs_text(StudyTable(shared_run_manager().store).deleted_run_ids(sweep_id))
    return f"{lost or 'Not over:'} {what} are missing."
