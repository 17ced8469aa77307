"""A stored study as it is shown, and the sign and colour of each verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import streamlit as st

from effcore.runs.manager import shared_run_manager
from effcore.store import StoreError
from effcore.store.study_table import StoredStudy, StudyTable
from effcore.studies.comparison import CompletedRuns, load_completed_runs, study_record
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


def read_study(stored: StoredStudy) -> tuple[StudyPlan, CompletedRuns, dict[str, Any]] | None:
    """Return a study's plan, its results and its record, or say on the page why there are none."""
    try:
        plan = plan_from_json(stored.plan)
        found = load_completed_runs(shared_run_manager().store, stored.study_id, plan)
        return plan, found, study_record(stored.study_id, plan, found)
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


def verdict_badge(variant: str, study_record: Mapping[str, Any]) -> str:
    """Return an arm's verdict as a badge before its name, in Markdown; grey until all is over."""
    kind = Outcome(study_record["verdict"][variant])
    icon, colour = _VERDICT_SIGNS[kind]
    if study_record["runs_left"]:
        return f":gray-badge[{icon} {kind}, so far] {escape_markdown(variant)}"
    return f":{colour}-badge[{icon} {kind}] {escape_markdown(variant)}"
