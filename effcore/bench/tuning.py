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

The store holds the runs that studies tuned with and those tried by hand. The log shows all of
them on the validation split, beside dense training and including failures, and never the test
split.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import click
import numpy as np

from effcore.bench.bench_store import BenchRun, BenchStore, bench_run, open_bench_store
from effcore.bench.command_line import (
    ProgressSink,
    bench,
    device_option,
    echo_progress,
    journal_option,
    print_result,
    quick_settings,
    shared_setting_options,
)
from effcore.bench.matched_comparison import plan_comparison
from effcore.bench.savings_variants import SavingsStudy, SavingsVariant
from effcore.cli.knob_options import KnobCommand, jobs_option, json_option
from effcore.config import ConfigError, resolve
from effcore.knobs import values_of
from effcore.policies.combination import DENSE_POLICIES, PolicyCombination
from effcore.records import RunConfig
from effcore.records.settings import Settings
from effcore.runs.reproduce import config_to_settings
from effcore.studies.plan import planned_runs
from effcore.studies.verdict import DENSE_FULL
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
    """Return whether a point is at most ``MAX_STEPS_BEYOND`` steps beyond the first points."""
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


# The log of all settings tried ------------------------------------------------------------


#: Seeds from here on are for verdicts, and not part of the log.
FIRST_FRESH_SEED = 100
#: Settings that have columns of their own, or none.
_UNLISTED_SETTINGS = ("task", "model", "selection", "update", "intensity", "seed", "device",
                      "threads", "budget", "size", "epochs")  # fmt: skip
_DENSE_LABEL = "dense"


class ComparisonGroup(NamedTuple):
    """What comparable runs have in common.

    Attributes:
        task: Id of the task.
        model: Id of its model.
        size: Size of the model.
        epochs: Epochs of full training.
        data: Settings of the data that differ from the task's defaults, as on the command line.
        code: Identity of code, PyTorch, processor, model and data.
        budget: Budget, as a share of full training's FLOPs.
    """

    task: str
    model: str
    size: str
    epochs: int
    data: str
    code: str
    budget: float


class TriedSetting(NamedTuple):
    """A row of the log.

    Attributes:
        place: The runs that it is comparable with.
        what: Policies and settings, as on the command line.
        seeds: Tuning seeds.
        validation: Mean metric on validation; ``None`` where a run broke down.
        against: Mean difference from the best dense setting of the same place over the same
            seeds, positive where better; ``None`` where there is none. Only dense settings with
            most of these seeds compete, so that one lucky seed does not stand for a setting.
        note: Why there is no value.
    """

    place: ComparisonGroup
    what: str
    seeds: tuple[int, ...]
    validation: float | None
    against: float | None
    note: str

    def to_record(self) -> dict[str, str | float | tuple[int, ...] | None]:
        """Return the row as one flat record for JSON."""
        return self.place._asdict() | {n: v for n, v in self._asdict().items() if n != "place"}


def try_settings(
    settings: Settings,
    budget: float,
    seeds: Sequence[int],
    store: BenchStore,
    jobs: int,
    say: ProgressSink,
) -> list[TriedSetting]:
    """Train a policy's settings and same-budget training; returns the log of the task.

    Seeds must be below ``FIRST_FRESH_SEED``.

    Raises:
        ValueError: A seed is reserved for verdicts.
    """
    if max(seeds) >= FIRST_FRESH_SEED:
        raise ValueError(
            f"seed {max(seeds)} is not allowed: seeds from {FIRST_FRESH_SEED} on are reserved for "
            "verdicts; choose lower seeds"
        )
    runs = planned_runs(plan_comparison(settings, budget, seeds))
    store.train([run.config for run in runs if run.variant != DENSE_FULL], jobs, say)
    return tuning_log(store, str(settings["task"]))


def tuning_log(store: BenchStore, task: str | None = None) -> list[TriedSetting]:
    """Return the tuning runs of one task or all, grouped by comparable runs, the best first."""
    groups: dict[ComparisonGroup, dict[_Label, dict[int, BenchRun]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for kept in store.kept_runs():
        config = kept.snapshot.config
        if task not in (None, config.task) or config.seed >= FIRST_FRESH_SEED:
            continue
        if config.task in TASKS.ids():  # the task may not exist any more
            group = _comparison_group(" ".join(kept.origin.values()), config)
            groups[group][_settings_label(config)][config.seed] = bench_run(kept.snapshot)
    return [row for place in sorted(groups) for row in _ranked_rows(place, groups[place])]


def _comparison_group(code: str, config: RunConfig) -> ComparisonGroup:
    defaults = values_of(TASKS.get(config.task).settings())
    data = [f"{name} {value:g}" for name, value in config.data.items() if value != defaults[name]]
    return ComparisonGroup(
        task=config.task,
        model=config.model,
        size=config.size,
        epochs=config.epochs,
        data=", ".join(data),
        code=code,
        budget=config.budget or 1.0,
    )


class _Label(NamedTuple):
    """Settings as text, and whether they are without policies."""

    text: str
    is_dense: bool


def _settings_label(config: RunConfig) -> _Label:
    """Return the policies besides the dense ones, then the settings that are not defaults."""
    policies = PolicyCombination(config.selection, config.update, config.intensity)
    names = [name for name, dense in zip(policies, DENSE_POLICIES, strict=True) if name != dense]
    defaults = config_to_settings(
        resolve({"task": config.task, "model": config.model, **policies._asdict()})
    )
    changed = [
        f"{name} {value}"
        for name, value in config_to_settings(config).items()
        if name not in (*_UNLISTED_SETTINGS, *config.data) and defaults.get(name) != value
    ]
    return _Label(", ".join([" + ".join(names) or _DENSE_LABEL, *changed]), not names)


def _ranked_rows(
    group: ComparisonGroup, runs: Mapping[_Label, Mapping[int, BenchRun]]
) -> list[TriedSetting]:
    """Return the rows of comparable runs by label and seed, those without a value last."""
    sign = TASKS.get(group.task).metric.sign
    complete: dict[_Label, dict[int, float]] = {}  # by seed, without runs that broke down
    means: dict[_Label, float | None] = {}
    for label, by_seed in runs.items():
        values = {seed: run.validation for seed, run in by_seed.items()}
        complete[label] = {seed: value for seed, value in values.items() if value is not None}
        failed = len(complete[label]) < len(by_seed)
        means[label] = None if failed else float(np.mean(list(complete[label].values())))
    dense = [
        complete[label] for label, mean in means.items() if mean is not None and label.is_dense
    ]
    rows = [
        TriedSetting(
            place=group,
            what=label.text,
            seeds=tuple(sorted(by_seed)),
            validation=means[label],
            against=_difference_from_best_dense(complete[label], dense, sign),
            note="; ".join(sorted({run.reason for run in by_seed.values()} - {""})),
        )
        for label, by_seed in runs.items()
    ]
    return sorted(
        rows, key=lambda row: math.inf if row.validation is None else -sign * row.validation
    )


def _difference_from_best_dense(
    values: Mapping[int, float], dense: Sequence[Mapping[int, float]], sign: float
) -> float | None:
    """Return the mean paired difference from the best dense setting over the shared seeds."""
    shared = [[seed for seed in values if seed in by_seed] for by_seed in dense]
    most = max(map(len, shared), default=0)
    differences = [
        sign * float(np.mean([values[seed] - by_seed[seed] for seed in seeds]))
        for by_seed, seeds in zip(dense, shared, strict=True)
        if len(seeds) == most > 0
    ]
    return min(differences, default=None)


def tuning_log_text(rows: Sequence[TriedSetting]) -> str:
    """Return the log as Markdown."""
    lines = [
        "| task, model | code | compute | tried | seeds | validation | against the best dense |",
        "|-|-|-|-|-|-|-|",
    ]
    for row in rows:
        value = row.note if row.validation is None else f"{row.validation:.4f}"
        against = "" if row.against is None else f"{row.against:+.4f}"
        group = row.place
        words = [f"`{group.task}`", group.model, group.size, f"{group.epochs} epochs", group.data]
        lines.append(
            f"| {', '.join(filter(None, words))} | {group.code[:8]} | {group.budget:.0%} | "
            f"`{row.what}` | {len(row.seeds)} | {value} | {against} |"
        )
    return "\n".join(lines)


# Command ----------------------------------------------------------------------------------


@bench.command(cls=KnobCommand)
@click.option("--task", help="Task on which to try settings; without it, the log is shown.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option("--policy", default="auto", help="Selection policy.")
@shared_setting_options
@click.option("--budget", default=0.6, help="Budget, as a share of full training's FLOPs.")
@click.option("--seeds", default=1, type=click.IntRange(1), help="Tuning seeds, from 0 on.")
@device_option
@jobs_option
@journal_option
@click.option("--quick", is_flag=True, help="A small model, a quarter of the epochs.")
@json_option
def search(
    task: str | None,
    policy: str,
    budget: float,
    seeds: int,
    jobs: int,
    journal: str | None,
    quick: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Try settings, and show the log of all that were tried.

    The log has metrics on the validation split only. Resumable.
    """
    store = open_bench_store(journal)  # the log also shows what other benches tuned
    if task:
        chosen = {**settings, "task": task, "selection": policy, "threads": 1}
        rows = try_settings(
            quick_settings(chosen, quick), budget, range(seeds), store, jobs, echo_progress
        )
    else:
        rows = tuning_log(store)
    text = tuning_log_text(rows) if rows else "nothing was tried yet: try settings with --task"
    print_result({"rows": [row.to_record() for row in rows]}, as_json, text)
