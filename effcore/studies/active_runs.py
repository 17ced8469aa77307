"""What of a study or a sweep trains now, in this process or another.

Read from the store, where each run writes twice a second how far it is.
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

#: So much of a run must be done to say how long the others take.
_MIN_DONE_FOR_ESTIMATE = 0.1


class ActiveRun(NamedTuple):
    """A run that trains.

    Attributes:
        label: Which arm it is of, or what point of a sweep.
        seed: Its seed.
        progress: How far it is, from 0 to 1.
    """

    label: str
    seed: int
    progress: float


def active_study_runs(store: Store, planned: Iterable[StudyRun]) -> list[ActiveRun]:
    """Return which cells train now.

    Raises:
        StoreError: The store cannot be read.
    """
    now = store.unfinished_runs()
    wanted = {encode_record(cell.config): cell for cell in planned} if now else {}
    return [
        ActiveRun(cell.variant, cell.seed, run.progress)
        for run in now
        if (cell := wanted.get(encode_record(run.config))) is not None
    ]


def active_sweep_runs(store: Store, plan: SweepPlan) -> list[ActiveRun]:
    """Return which runs of a sweep train now; a trial is called by its budget.

    Raises:
        StoreError: The store cannot be read.
    """
    seeds = {*plan.seeds, *replication_seeds(plan)}
    configs = [(run.config, run.progress) for run in store.unfinished_runs()]
    return [
        ActiveRun(named, config.seed, progress)
        for config, progress in configs
        if config.seed in seeds and (named := _sweep_point_label(plan, config)) is not None
    ]


def active_steps(plan: SweepPlan, active: Iterable[ActiveRun]) -> float:
    """Return how many of a sweep's steps the runs that train are: a trial's seeds are one."""
    searched = len(plan.seeds)
    return sum(
        each.progress
        / (searched if each.label.startswith(TRIAL_PREFIX) and each.seed in plan.seeds else 1)
        for each in active
    )


def _sweep_point_label(plan: SweepPlan, config: RunConfig) -> str | None:
    """Return what point of a sweep a run is of; ``None`` where it is of another."""
    if config.budget is None:
        return None
    knobs = {s.name: v for s in search_space(plan) if (v := config.knobs.get(s.name)) is not None}
    with contextlib.suppress(ConfigError):  # knobs that do not go with the policy
        if trial_config(plan, knobs, config.budget, config.seed) == config:
            return f"{TRIAL_PREFIX} at {config.budget:.0%}"
    (dense,) = dense_runs(plan, config.budget, [config.seed])
    return dense.variant if dense.config == config else None


def estimate_seconds_left(elapsed_s: float, done: float, left: float) -> float | None:
    """Return about how long the rest takes; ``None`` before anything can be said.

    Args:
        elapsed_s: Time since it began or was gone on with.
        done: Runs done in that time, those that train in part.
        left: Runs left, those that train in part.
    """
    return elapsed_s / done * max(left, 0.0) if done >= _MIN_DONE_FOR_ESTIMATE else None
