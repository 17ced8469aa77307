"""What runs and studies are called, in lists and on links: their own name first."""

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
    """Return a run's name, where it has one, and what it is; plain text."""
    return " · ".join(text for text in (run.labels.name, run_description(run)) if text)


def run_description(run: RunSummary) -> str:
    """Return what a run is, without the name that somebody gave it."""
    return f"{run.config.task} · {run.config.selection} · seed {run.config.seed}"


def run_status_text(run: RunSummary) -> str:
    """Return a run's status, and that it is another machine's where it is."""
    return f"{run.status.value}, imported" if run.imported else run.status.value


def run_picker_label(run: RunSummary) -> str:
    """Return what a run is called in a picker."""
    parts = (
        run_title(run),
        run_status_text(run),
        _start_time_text(run.created_unix),
        run.run_id[-4:],
    )
    # The id's tail tells apart what is alike: of two equal names a picker finds the first.
    return " · ".join(parts)


def _start_time_text(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M")


def is_sweep(study: StoredStudy) -> bool:
    """Return whether this is a sweep and no comparison."""
    return study.key.startswith(SWEEP_KEY_PREFIX)


def parsed_plan(study: StoredStudy) -> StudyPlan | SweepPlan | None:
    """Return what a study compares or searches; ``None`` where that cannot be read."""
    try:
        return _parse_plan(study.plan, is_sweep(study))
    except ValueError:
        return None


@functools.lru_cache(maxsize=_CACHED_PLANS)
def _parse_plan(text: str, sweep: bool) -> StudyPlan | SweepPlan:
    return sweep_from_json(text) if sweep else plan_from_json(text)


def study_description(study: StoredStudy) -> str:
    """Return what a study compares or searches, in words."""
    match parsed_plan(study):
        case StudyPlan() as plan:
            arms = ", ".join(plan.arms)
            return f"{plan.shared['task']} · {arms} at {plan.budget:.0%} · {len(plan.seeds)} seeds"
        case SweepPlan() as plan:
            return f"{plan.shared['task']} · {plan.policy} · {plan.trials} trials"
        case _:
            return "cannot be read"


def study_picker_label(study: StoredStudy, labels: Labels | None = None) -> str:
    """Return what a study is called in a picker."""
    own = f"{labels.name} · " if labels is not None and labels.name else ""
    started = _start_time_text(study.created_unix)
    return f"{own}{started} · {study_description(study)} · {study.study_id[-4:]}"


def deleted_runs_text(deleted_run_ids: Sequence[str]) -> str:
    """Return what is to be said of runs that were deleted from a study; nothing for none."""
    if not deleted_run_ids:
        return ""
    what = (
        "One of its runs was"
        if len(deleted_run_ids) == 1
        else f"{len(deleted_run_ids)} of its runs were"
    )
    again = "it is" if len(deleted_run_ids) == 1 else "they are"
    return f"{what} deleted; gone on with, {again} trained anew, unless restored on the Runs page:"


def planned_run_count(study: StoredStudy) -> int | None:
    """Return how many runs a study is to have; ``None`` where its plan cannot be read."""
    match parsed_plan(study):
        case StudyPlan() as plan:
            return len(plan.seeds) * len(variants_of(plan))
        case SweepPlan() as plan:
            return len(plan.seeds) * (len(DENSE_BUDGETS) + plan.trials)
        case _:
            return None
