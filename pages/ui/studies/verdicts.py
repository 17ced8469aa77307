"""A stored study as it is shown, and the sign and colour of each verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import streamlit as st

from effcore.runs.manager import shared_runs
from effcore.store import StoreError
from effcore.store.studies import StoredStudy, Studies
from effcore.studies.comparison import CompletedRuns, load_completed_runs, study_record
from effcore.studies.plan import StudyPlan, plan_from_json, variants_of
from effcore.studies.verdict import Outcome
from pages.ui.frame import plain
from pages.ui.naming import lost_words

_SIGNS: Final = {
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
LOST_RUN: Final = (
    "A run that is lost can be deleted on the Runs page; gone on with, it is trained anew."
)


def read_study(stored: StoredStudy) -> tuple[StudyPlan, CompletedRuns, dict[str, Any]] | None:
    """Return a study's plan, its results and its record, or say on the page why there are none."""
    try:
        plan = plan_from_json(stored.plan)
        found = load_completed_runs(shared_runs().store, stored.study_id, plan)
        return plan, found, study_record(stored.study_id, plan, found)
    except ValueError as error:
        st.error(f"This study cannot be read. {plain(error)}", icon=":material/error:")
    except StoreError as error:
        st.error(f"This study cannot be read. {plain(error)}. {LOST_RUN}", icon=":material/error:")
    return None


def lacking_words(study_id: str, plan: StudyPlan, left: int) -> str:
    """Return what a study that is not under way lacks; nothing where no runs are left."""
    if not left:
        return ""
    total = len(plan.seeds) * len(variants_of(plan))
    lost = lost_words(Studies(shared_runs().store).lost(study_id))
    return f"{lost or 'Cancelled or cut short:'} {total - left} of {total} runs are done."


def headline(arm: str, told: Mapping[str, Any]) -> str:
    """Return an arm's verdict as a badge before its name, in Markdown; grey until all is over."""
    kind = Outcome(told["verdict"][arm])
    icon, colour = _SIGNS[kind]
    if told["runs_left"]:
        return f":gray-badge[{icon} {kind}, so far] {plain(arm)}"
    return f":{colour}-badge[{icon} {kind}] {plain(arm)}"
