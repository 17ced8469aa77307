"""A stored study as it is shown, and the sign and colour of each verdict."""

from __future__ import annotations

from typing import Final

import streamlit as st

from effcore.runs.manager import shared_run_manager
from effcore.store import StoreError
from effcore.store.study_table import StoredStudy, StudyTable
from effcore.studies.comparison import PolicyResult, StudyResult, load_completed_runs, study_result
from effcore.studies.plan import StudyPlan, plan_from_json, variants_of
from effcore.studies.verdict import Outcome
from pages.ui.common import escape_markdown
from pages.ui.display_names import deleted_runs_text

_VERDICT_SIGNS: Final = {
    Outcome.WIN: (":material/check_circle:", "green"),
    Outcome.TIE: (":material/balance:", "blue"),
    Outcome.BETTER_FOR_LESS: (":material/trending_up:", "blue"),
    Outcome.LOSS: (":material/cancel:", "red"),
    Outcome.OVERTRAINED: (":material/content_cut:", "orange"),
    Outcome.INCONCLUSIVE: (":material/help:", "orange"),
    Outcome.TOO_FEW_SEEDS: (":material/hourglass_empty:", "gray"),
    Outcome.BROKE_DOWN: (":material/error:", "red"),
}


#: What helps where a run's files are gone.
LOST_RUN_REMEDY: Final = (
    "A run that is lost can be deleted on the Runs page; gone on with, it is trained anew."
)


def read_study(stored: StoredStudy) -> StudyResult | None:
    """Return what a study found, or say on the page why that cannot be read."""
    try:
        plan = plan_from_json(stored.plan)
        found = load_completed_runs(shared_run_manager().store, stored.study_id, plan)
        return study_result(stored.study_id, plan, found)
    except ValueError as error:
        st.error(f"This study cannot be read. {escape_markdown(error)}", icon=":material/error:")
    except StoreError as error:
        st.error(
            f"This study cannot be read. {escape_markdown(error)}. {LOST_RUN_REMEDY}",
            icon=":material/error:",
        )
    return None


def missing_runs_text(study_id: str, plan: StudyPlan, missing_run_count: int) -> str:
    """Return what a study that is not under way lacks; nothing where no runs are left."""
    if not missing_run_count:
        return ""
    total = len(plan.seeds) * len(variants_of(plan))
    lost = deleted_runs_text(StudyTable(shared_run_manager().store).deleted_run_ids(study_id))
    return (
        f"{lost or 'Cancelled or cut short:'} {total - missing_run_count} of {total} runs are done."
    )


def verdict_badge(policy: PolicyResult, is_over: bool) -> str:
    """Return a policy's verdict as a badge before its name, in Markdown; grey until all is over."""
    icon, colour = _VERDICT_SIGNS[policy.outcome]
    if not is_over:
        return f":gray-badge[{icon} {policy.outcome}, so far] {escape_markdown(policy.arm)}"
    return f":{colour}-badge[{icon} {policy.outcome}] {escape_markdown(policy.arm)}"
