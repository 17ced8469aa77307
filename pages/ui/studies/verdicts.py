"""A stored study as it is shown, and the sign and colour of each verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import streamlit as st

from effcore.runs.manager import shared_runs
from effcore.store import StoreError
from effcore.store.studies import StoredStudy, Studies
from effcore.studies.compare import Results, record, results
from effcore.studies.study import Plan, arms_of, plan_from_text
from effcore.verdict import Kind
from pages.ui.frame import plain
from pages.ui.naming import lost_words

_SIGNS: Final = {
    Kind.WIN: (":material/check_circle:", "green"),
    Kind.TIE: (":material/balance:", "blue"),
    Kind.BETTER_FOR_LESS: (":material/trending_up:", "blue"),
    Kind.LOSS: (":material/cancel:", "red"),
    Kind.OVERTRAINED: (":material/content_cut:", "orange"),
    Kind.INCONCLUSIVE: (":material/help:", "orange"),
    Kind.TOO_FEW: (":material/hourglass_empty:", "gray"),
    Kind.BROKE: (":material/error:", "red"),
}


#: What helps where a run's files are gone.
LOST_RUN: Final = (
    "A run that is lost can be deleted on the Runs page; gone on with, it is trained anew."
)


def read_study(stored: StoredStudy) -> tuple[Plan, Results, dict[str, Any]] | None:
    """Return a study's plan, its results and its record, or say on the page why there are none."""
    try:
        plan = plan_from_text(stored.plan)
        found = results(shared_runs().store, stored.study_id, plan)
        return plan, found, record(stored.study_id, plan, found)
    except ValueError as error:
        st.error(f"This study cannot be read. {plain(error)}", icon=":material/error:")
    except StoreError as error:
        st.error(f"This study cannot be read. {plain(error)}. {LOST_RUN}", icon=":material/error:")
    return None


def lacking_words(study_id: str, plan: Plan, left: int) -> str:
    """Return what a study that is not under way lacks; nothing where no runs are left."""
    if not left:
        return ""
    total = len(plan.seeds) * len(arms_of(plan))
    lost = lost_words(Studies(shared_runs().store).lost(study_id))
    return f"{lost or 'Cancelled or cut short:'} {total - left} of {total} runs are done."


def headline(arm: str, told: Mapping[str, Any]) -> str:
    """Return an arm's verdict as a badge before its name, in Markdown; grey until all is over."""
    kind = Kind(told["verdict"][arm])
    icon, colour = _SIGNS[kind]
    if told["runs_left"]:
        return f":gray-badge[{icon} {kind}, so far] {plain(arm)}"
    return f":{colour}-badge[{icon} {kind}] {plain(arm)}"
