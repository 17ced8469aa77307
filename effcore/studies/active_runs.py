"""Runs of a study or a sweep that train now, in this process or another.

They are read from the store, where each run writes its progress twice a second.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import NamedTuple

from effcore.config import ConfigError
from effcore.records import RunConfig
from effcore.store import Store
from effcore.store.serialization import encode_record
from effcore.studies.executor import StudyRun
from effcore.studies.sweep import (
    TRIAL_PREFIX,
    SweepPlan,
    dense_runs,
    replication_seeds,
    search_space,
    trial_config,
)

#: Share of a run that must be done before the remaining time is estimated.
_MIN_DONE_FOR_ESTIMATE = 0.1


class ActiveRun(NamedTuple):
    """A run that trains now.

    Attributes:
        label: Its variant of a study, or its point of a sweep.
        seed: Its seed.
        progress: Its progress from 0 to 1.
    """

    label: str
    seed: int
    progress: float


def active_study_runs(store: Store, planned: Iterable[StudyRun]) -> list[ActiveRun]:
    """Return the planned runs that train now.

    Raises:
        StoreError: The store cannot be read.
    """
    unfinished = store.unfinished_runs()
    by_config = {encode_record(run.config): run for run in planned} if unfinished else {}
    return [
        ActiveRun(study_run.variant, study_run.seed, run.progress)
        for run in unfinished
        if (study_run := by_config.get(encode_record(run.config))) is not None
    ]


def active_sweep_runs(store: Store, plan: SweepPlan) -> list[ActiveRun]:
    """Return the runs of a sweep that train now; a trial is labelled by its budget.

    Raises:
        StoreError: The store cannot be read.
    """
    seeds = {*plan.seeds, *replication_seeds(plan)}
    configs = [(run.config, run.progress) for run in store.unfinished_runs()]
    return [
        ActiveRun(label, config.seed, progress)
        for config, progress in configs
        if config.seed in seeds and (label := _sweep_point_label(plan, config)) is not None
    ]


def active_steps(plan: SweepPlan, active: Iterable[ActiveRun]) -> float:
    """Return the progress of the active runs in steps of a sweep.

    All search runs of a trial together are one step; any other run is one step by itself.
    """
    runs_per_trial = len(plan.seeds)
    return sum(
        run.progress
        / (runs_per_trial if run.label.startswith(TRIAL_PREFIX) and run.seed in plan.seeds else 1)
        for run in active
    )


def _sweep_point_label(plan: SweepPlan, config: RunConfig) -> str | None:
    """Return the label of a run's point; ``None`` where the run is not part of the sweep."""
    if config.budget is None:
        return None
    knobs = {s.name: v for s in search_space(plan) if (v := config.knobs.get(s.name)) is not None}
    with contextlib.suppress(ConfigError):  # the run has knobs that the policy lacks
        if trial_config(plan, knobs, config.budget, config.seed) == config:
            return f"{TRIAL_PREFIX} at {config.budget:.0%}"
    (dense,) = dense_runs(plan, config.budget, [config.seed])
    return dense.variant if dense.config == config else None


def estimate_seconds_left(elapsed_s: float, done: float, left: float) -> float | None:
    """Return an estimate of the remaining time; ``None`` while too little is done.

    Args:
        elapsed_s: Time since the study started or continued.
        done: Runs done in that time; an active run counts in part.
        left: Runs left; an active run counts in part.
    """
    return elapsed_s / done * max(left, 0.0) if done >= _MIN_DONE_FOR_ESTIMATE else None
