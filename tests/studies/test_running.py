"""What of a study or a sweep trains now, told by the store alone."""

from __future__ import annotations

from contextlib import ExitStack, closing

import pytest

from effcore.records import RunConfig, StepEvent
from effcore.store import RunWriter, Store
from effcore.studies.active_runs import (
    ActiveRun,
    active_steps,
    active_study_runs,
    active_sweep_runs,
    estimate_seconds_left,
)
from effcore.studies.plan import plan_study, planned_runs
from effcore.studies.sweep import dense_curve_runs, replication_seeds, trial_runs
from tests.studies.sweeps import SHARED, plan

pytestmark = pytest.mark.usefixtures("tiny_sweeps")


def trains(store: Store, config: RunConfig, progress: float) -> RunWriter:
    """A run that trains and is so far."""
    writer = store.create_run(config)
    writer.write_event(StepEvent(1, progress, 0))
    writer.flush()
    return writer


def test_of_a_study_those_cells_train_whose_runs_do(store: Store) -> None:
    left = list(planned_runs(plan_study(SHARED, ["auto"], 0.6, (100, 101))))
    (own,) = (cell for cell in left if (cell.variant, cell.seed) == ("D-B", 101))
    other = next(iter(dense_curve_runs(plan(settings={"epochs": 9}))))
    assert active_study_runs(store, left) == []
    with closing(trains(store, own.config, 0.4)), closing(trains(store, other.config, 0.5)):
        assert active_study_runs(store, left) == [ActiveRun("D-B", 101, 0.4)]
        assert active_study_runs(store, left[:2]) == []
    assert active_study_runs(store, left) == [], "interrupted"


def test_of_a_sweep_its_points_train(store: Store) -> None:
    task = plan(seeds=(0, 1))
    dense = next(iter(dense_curve_runs(task)))
    knobs = {"mass": 0.2, "revisit": 3}
    trial, _ = trial_runs(task, 7, knobs, 0.45)
    (looked,) = trial_runs(task, 7, knobs, 0.45, replication_seeds(task)[:1])
    others = [
        next(iter(dense_curve_runs(plan(settings={"epochs": 9})))),
        *trial_runs(task, 7, knobs, 0.45, [99]),
        *trial_runs(plan(policy="auto"), 0, {}, 0.45),
    ]
    with ExitStack() as until:
        for cell, progress in ((dense, 0.5), (trial, 0.4), (looked, 0.3)):
            until.enter_context(closing(trains(store, cell.config, progress)))
        for cell in others:
            until.enter_context(closing(trains(store, cell.config, 0.9)))
        now = active_sweep_runs(store, task)
    assert now == [
        ActiveRun("dense 1", 0, 0.5),
        ActiveRun("trial at 45%", 0, 0.4),
        ActiveRun("trial at 45%", looked.seed, 0.3),
    ]
    assert active_steps(task, now) == pytest.approx(0.5 + 0.4 / 2 + 0.3), "its seeds are one step"


def test_the_time_left_counts_what_trains() -> None:
    assert estimate_seconds_left(10.0, 0.05, 7.95) is None, "too early to say"
    assert estimate_seconds_left(10.0, 0.5, 7.5) == pytest.approx(150.0)
    assert estimate_seconds_left(10.0, 2.0, -0.1) == 0.0
