"""Loading of stored studies and sweeps, what they lack, and the sign of each verdict."""

from __future__ import annotations

from typing import Final

from effcore.runs.manager import shared_run_manager
from effcore.store.study_table import StoredStudy, StudyTable
from effcore.studies.candidates import replication_runs_left
from effcore.studies.comparison import PolicyResult, StudyResult, load_completed_runs, study_result
from effcore.studies.frontier import SweepResult, candidates_rejected_on_test
from effcore.studies.plan import StudyPlan, plan_from_json, variants_of
from effcore.studies.sweep import DENSE_BUDGETS, sweep_from_json
from effcore.studies.sweep_executor import load_sweep_result
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
#: Remedy if a run's files are missing.
LOST_RUN_REMEDY: Final = (
    "Delete the damaged run on the Runs page; continuing the study then trains it again."
)


def load_study(stored: StoredStudy) -> StudyResult:
    """Return a study's result.

    Raises:
        ValueError: The plan is damaged.
        StoreError: A run cannot be read.
    """
    plan = plan_from_json(stored.plan)
    completed = load_completed_runs(shared_run_manager().store, stored.study_id, plan)
    return study_result(stored.study_id, plan, completed)


def load_sweep(stored: StoredStudy) -> SweepResult:
    """Return a sweep's result; raises like :func:`load_study`."""
    plan = sweep_from_json(stored.plan)
    return load_sweep_result(shared_run_manager().store, stored.study_id, plan)


def missing_runs_text(study_id: str, plan: StudyPlan, missing_run_count: int) -> str:
    """Return how much of an incomplete study is done, as text; empty if no run is missing."""
    if not missing_run_count:
        return ""
    total = len(plan.seeds) * len(variants_of(plan))
    deleted = deleted_runs_text(StudyTable(shared_run_manager().store).deleted_run_ids(study_id))
    return f"{deleted or 'Incomplete.'} {total - missing_run_count} of {total} runs are done."


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


def verdict_badge(policy: PolicyResult, is_over: bool) -> str:
    """Return a policy's verdict as a badge and its name, in Markdown; grey until all runs ended."""
    icon, colour = _VERDICT_SIGNS[policy.outcome]
    if not is_over:
        return f":gray-badge[{icon} {policy.outcome}, so far] {escape_markdown(policy.arm)}"
    return f":{colour}-badge[{icon} {policy.outcome}] {escape_markdown(policy.arm)}"
