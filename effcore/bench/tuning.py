"""Tuning of a savings study on the validation split, by one rule for each kind of variant.

Full and same-budget training try batch sizes and learning rates on a grid in powers of two. Where
the batch is halved, the learning rate falls by 0.7. They begin with the defaults, half and twice
the learning rate, and half and twice the batch. While the best so far has an untried neighbour on
the grid (half or twice the batch or the learning rate), that is tried, at most
``MAX_STEPS_BEYOND`` steps beyond the first settings in each direction. So the best lies between
others, or a message names the edge.

A policy tries a number of settings of its knobs that train differently. A setting has no effect
where it leaves, on every tuning seed, the parameters of an earlier setting or of training without
the policy. The next spare setting is then tried in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from effcore.bench.bench_store import BenchRun, BenchStore
from effcore.bench.savings_variants import SavingsStudy, SavingsVariant
from effcore.config import ConfigError
from effcore.records.settings import Settings
from effcore.tasks.base import TASKS

#: Steps of two in batch size and in learning rate, from the defaults.
GridPoint = tuple[int, int]
#: The first points that full and same-budget training try; the defaults come first.
FIRST_POINTS: tuple[GridPoint, ...] = ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0))
#: Steps beyond these in each direction that it may try.
MAX_STEPS_BEYOND = 2
#: Factor of the learning rate where the batch is halved.
_LR_FACTOR_OF_HALF_BATCH = 0.7


class Tuner(NamedTuple):
    """Runs and scores the settings of a savings study.

    Attributes:
        study: The study.
        store: The store of the runs.
        jobs: Runs at a time.
        say: Takes progress messages.
    """

    study: SavingsStudy
    store: BenchStore
    jobs: int
    say: Callable[[str], None]

    def run_settings(
        self, asked: Sequence[tuple[SavingsVariant, Settings]]
    ) -> list[Sequence[BenchRun]]:
        """Return the results of each setting on all tuning seeds."""
        study = self.study
        configs = [
            study.run_config(arm.policies, settings, arm.budget, seed)
            for seed in study.tuning_seeds
            for arm, settings in asked
        ]
        if configs:
            self.say(f"{study.task}: tuning, {len(configs)} runs")
        results = self.store.results(configs, self.jobs, self.say)
        return [results[place :: len(asked)] for place in range(len(asked))]

    def mean_validation_score(self, runs: Sequence[BenchRun]) -> float:
        """Return the mean metric on validation; higher is better, −∞ where a run broke down."""
        sign = TASKS.get(self.study.task).metric.sign
        values = [sign * run.validation for run in runs if run.validation is not None]
        return float(np.mean(values)) if len(values) == len(runs) else -np.inf


class BestSettings(NamedTuple):
    """The tuned settings of a variant.

    Attributes:
        settings: The best of those tried.
        at_grid_edge: Whether better ones may lie beyond the batch sizes and learning rates tried.
    """

    settings: Settings
    at_grid_edge: bool = False


# Full and same-budget training -----------------------------------------------------------


def dense_grid_settings(study: SavingsStudy, point: GridPoint) -> Settings:
    """Return the batch size and learning rate at a point of the grid."""
    usual = TASKS.get(study.task).model_choice(study.model).defaults
    batch, rate = point
    return {
        "batch_size": round(usual.batch_size * 2.0**batch),
        "learning_rate": usual.learning_rate * 2.0**rate * _LR_FACTOR_OF_HALF_BATCH**-batch,
    }


def tune_dense(tuner: Tuner, arms: Sequence[SavingsVariant]) -> dict[str, BestSettings]:
    """Return the best batch size and learning rate of full and of same-budget training."""
    if tuner.study.tries == 1:
        return {
            arm.name: BestSettings(dense_grid_settings(tuner.study, FIRST_POINTS[0]))
            for arm in arms
        }
    scores: dict[str, dict[GridPoint, float]] = {arm.name: {} for arm in arms}
    waiting = {
        arm.name: [p for p in FIRST_POINTS if _is_valid_point(tuner.study, arm, p)] for arm in arms
    }
    while any(waiting.values()):
        asked = [(arm, point) for arm in arms for point in waiting[arm.name]]
        settings = [(arm, dense_grid_settings(tuner.study, point)) for arm, point in asked]
        for (arm, point), runs in zip(asked, tuner.run_settings(settings), strict=True):
            scores[arm.name][point] = tuner.mean_validation_score(runs)
        waiting = {
            arm.name: _untried_neighbours(tuner.study, arm, scores[arm.name]) for arm in arms
        }
    return {arm.name: _best_dense_settings(tuner, arm, scores[arm.name]) for arm in arms}


def _neighbours(point: GridPoint) -> list[GridPoint]:
    batch, rate = point
    return [(batch - 1, rate), (batch + 1, rate), (batch, rate - 1), (batch, rate + 1)]


def _within_reach(point: GridPoint) -> bool:
    """Whether a point is within the steps that may be tried."""
    ends = [
        (min(axis) - MAX_STEPS_BEYOND, max(axis) + MAX_STEPS_BEYOND)
        for axis in zip(*FIRST_POINTS, strict=True)
    ]
    return all(lo <= place <= hi for place, (lo, hi) in zip(point, ends, strict=True))


def _is_valid_point(study: SavingsStudy, arm: SavingsVariant, point: GridPoint) -> bool:
    """Whether the batch has at least one example and at most all."""
    settings = dense_grid_settings(study, point)
    try:
        study.run_config(arm.policies, settings, arm.budget, 0)
    except ConfigError:
        return False
    return True


def _untried_neighbours(
    study: SavingsStudy, arm: SavingsVariant, scores: dict[GridPoint, float]
) -> list[GridPoint]:
    """Return the untried neighbours of the best point."""
    return [
        point
        for point in _neighbours(_best_point(scores))
        if point not in scores and _within_reach(point) and _is_valid_point(study, arm, point)
    ]


def _best_point(scores: dict[GridPoint, float]) -> GridPoint:
    return max(scores, key=scores.__getitem__)  # the first of equals


def _best_dense_settings(
    tuner: Tuner, arm: SavingsVariant, scores: dict[GridPoint, float]
) -> BestSettings:
    best = _best_point(scores)
    missing = [p for p in _neighbours(best) if p not in scores]
    edge = any(_is_valid_point(tuner.study, arm, point) for point in missing)
    settings = dense_grid_settings(tuner.study, best)
    if edge:
        tuner.say(f"{tuner.study.task}: {arm.name} is best at the edge of its grid, {settings}")
    return BestSettings(settings, edge)


# Policies --------------------------------------------------------------------------------


def tune_policies(
    tuner: Tuner, arms: Sequence[SavingsVariant], shared: Settings
) -> dict[str, BestSettings]:
    """Return the best settings of each policy.

    Args:
        tuner: Runs and scores settings.
        arms: The policies' variants.
        shared: Batch size and learning rate of all of them.
    """
    best = {arm.name: BestSettings({**shared, **arm.tuning_grid[0]}) for arm in arms}
    several = [arm for arm in arms if min(tuner.study.tries, len(arm.tuning_grid)) > 1]
    plain = _baseline_results(tuner, several, shared)
    tried: dict[str, list[tuple[Settings, Sequence[BenchRun]]]] = {arm.name: [] for arm in several}
    waiting = {arm.name: list(arm.tuning_grid) for arm in several}
    while asked := _next_settings(tuner.study.tries, several, tried, waiting):
        results = tuner.run_settings([(arm, {**shared, **own}) for arm, own in asked])
        for (arm, own), runs in zip(asked, results, strict=True):
            others = [plain[arm.name], *(runs for _, runs in tried[arm.name])]
            if any(_same_parameters(runs, other) for other in others):
                tuner.say(f"{tuner.study.task}: {arm.name} {own or 'by default'} has no new effect")
            else:
                tried[arm.name].append((own, runs))
    for name, distinct in tried.items():
        if distinct:
            own, _ = max(distinct, key=lambda each: tuner.mean_validation_score(each[1]))
            best[name] = BestSettings({**shared, **own})
    return best


def _next_settings(
    tries: int,
    arms: Sequence[SavingsVariant],
    tried: dict[str, list[tuple[Settings, Sequence[BenchRun]]]],
    waiting: dict[str, list[Settings]],
) -> list[tuple[SavingsVariant, Settings]]:
    """Take from ``waiting`` the settings that each policy still lacks."""
    asked = []
    for arm in arms:
        lacking = tries - len(tried[arm.name])
        asked += [(arm, own) for own in waiting[arm.name][:lacking]]
        del waiting[arm.name][:lacking]
    return asked


def _baseline_results(
    tuner: Tuner, arms: Sequence[SavingsVariant], shared: Settings
) -> dict[str, Sequence[BenchRun]]:
    """Return the results of training without each policy, by the policy's variant."""
    kinds = {arm.baseline_policies: arm._replace(policies=arm.baseline_policies) for arm in arms}
    results = tuner.run_settings([(arm, shared) for arm in kinds.values()])
    by_kind = dict(zip(kinds, results, strict=True))
    return {arm.name: by_kind[arm.baseline_policies] for arm in arms}


def _same_parameters(one: Sequence[BenchRun], other: Sequence[BenchRun]) -> bool:
    """Whether both left the same parameters on every seed."""
    first, second = ([run.parameters_sha256 for run in runs] for runs in (one, other))
    return None not in first and first == second
