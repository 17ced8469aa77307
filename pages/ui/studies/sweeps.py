"""A stored sweep as it is shown, and what it lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import streamlit as st

from effcore.runs.manager import shared_runs
from effcore.store import StoreError
from effcore.store.studies import StoredStudy, Studies
from effcore.studies.candidates import replication_runs_left
from effcore.studies.frontier import Confirmation, rejected_candidates, sweep_record
from effcore.studies.sweep import DENSE_BUDGETS, SweepPlan, sweep_from_json
from effcore.studies.sweep_executor import load_confirmations, load_sweep_points
from effcore.studies.trials import SweepPoint
from pages.ui.frame import plain
from pages.ui.naming import lost_words
from pages.ui.studies.verdicts import LOST_RUN


class Sweep(NamedTuple):
    """What is stored of a sweep.

    Attributes:
        plan: What is searched.
        points: What was tried.
        tried: What the studies of candidates came to, by the trial's name.
        told: Its record.
    """

    plan: SweepPlan
    points: Sequence[SweepPoint]
    tried: Mapping[str, Confirmation]
    told: Mapping[str, Any]


def read_sweep(stored: StoredStudy) -> Sweep | None:
    """Return a sweep, or say on the page why it cannot be shown."""
    store = shared_runs().store
    try:
        plan = sweep_from_json(stored.plan)
        points = load_sweep_points(store, stored.study_id, plan)
        tried = load_confirmations(store, plan, points)
        told = sweep_record(stored.study_id, plan, points, tried)
    except ValueError as error:
        st.error(f"This sweep cannot be read. {plain(error)}", icon=":material/error:")
        return None
    except StoreError as error:
        st.error(f"This sweep cannot be read. {plain(error)}. {LOST_RUN}", icon=":material/error:")
        return None
    return Sweep(plan, points, tried, told)


def lacking_words(sweep_id: str, sweep: Sweep) -> str:
    """Return what a sweep that is not under way lacks; nothing where it is over."""
    left = len(DENSE_BUDGETS) + sweep.plan.trials - sum(point.has_ended for point in sweep.points)
    again = replication_runs_left(sweep.plan, sweep.points, rejected_candidates(sweep.tried))
    if left <= 0 and not again:
        return ""
    what = f"{left} of its points" if left > 0 else f"at most {again} runs of its second look"
    lost = lost_words(Studies(shared_runs().store).lost(sweep_id))
    return f"{lost or 'Not over:'} {what} are missing."
