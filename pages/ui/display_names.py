"""Display names of runs and studies, in lists and on links; a given name comes first."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import UTC, datetime

from effcore.store import RunSummary
from effcore.store.labels import Labels
from effcore.store.study_table import SWEEP_KEY_PREFIX, StoredStudy
from effcore.studies.plan import StudyPlan, plan_from_json, variants_of
from effcore.studies.sweep import DENSE_BUDGETS, SweepPlan, sweep_from_json

_CACHED_PLANS = 512


def run_title(run: RunSummary) -> str:
    """Return a run's given name, if it has one, and its description; plain text."""
    return " · ".join(text for text in (run.labels.name, run_description(run)) if text)


def run_description(run: RunSummary) -> str:
    """Return a run's task, policy and seed."""
    return f"{run.config.task} · {run.config.selection} · seed {run.config.seed}"


def run_status_text(run: RunSummary) -> str:
    """Return a run's status, and whether it was imported."""
    return f"{run.status.value}, imported" if run.imported else run.status.value


def run_picker_label(run: RunSummary) -> str:
    """Return a run's label in a picker."""
    parts = (
        run_title(run),
        run_status_text(run),
        _start_time_text(run.created_unix),
        run.run_id[-4:],
    )
    # The end of the id makes labels unique: of two equal labels a picker selects the first.
    return " · ".join(parts)


def _start_time_text(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M")


def is_sweep(study: StoredStudy) -> bool:
    """Return whether this is a sweep rather than a comparison."""
    return study.key.startswith(SWEEP_KEY_PREFIX)


def parsed_plan(study: StoredStudy) -> StudyPlan | SweepPlan | None:
    """Return the plan of a study or a sweep; ``None`` if it cannot be read."""
    try:
        return _parse_plan(study.plan, is_sweep(study))
    except ValueError:
        return None


@functools.lru_cache(maxsize=_CACHED_PLANS)
def _parse_plan(text: str, sweep: bool) -> StudyPlan | SweepPlan:
    return sweep_from_json(text) if sweep else plan_from_json(text)


def study_description(study: StoredStudy) -> str:
    """Return a study's task, policies and size."""
    match parsed_plan(study):
        case StudyPlan() as plan:
            policies = ", ".join(plan.arms)
            return (
                f"{plan.shared['task']} · {policies} at {plan.budget:.0%} · {len(plan.seeds)} seeds"
            )
        case SweepPlan() as plan:
            return f"{plan.shared['task']} · {plan.policy} · {plan.trials} trials"
        case _:
            return "cannot be read"


def study_picker_label(study: StoredStudy, labels: Labels | None = None) -> str:
    """Return a study's label in a picker."""
    own = f"{labels.name} · " if labels is not None and labels.name else ""
    started = _start_time_text(study.created_unix)
    return f"{own}{started} · {study_description(study)} · {study.study_id[-4:]}"


def deleted_runs_text(deleted_run_ids: Sequence[str]) -> str:
    """Return a sentence about the deleted runs of a study; empty for none."""
    if not deleted_run_ids:
        return ""
    deleted, them = (
        ("One run was", "it")
        if len(deleted_run_ids) == 1
        else (f"{len(deleted_run_ids)} runs were", "them")
    )
    return f"{deleted} deleted. Restore {them} on the Runs page, or continue to train {them} again."


def planned_run_count(study: StoredStudy) -> int | None:
    """Return the number of planned runs; ``None`` if the plan cannot be read."""
    match parsed_plan(study):
        case StudyPlan() as plan:
            return len(plan.seeds) * len(variants_of(plan))
        case SweepPlan() as plan:
            return len(plan.seeds) * (len(DENSE_BUDGETS) + plan.trials)
        case _:
            return None
