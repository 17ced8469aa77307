"""The log of all settings tried, on the validation split, beside dense training.

The store holds the runs that studies tuned with and those tried by hand. The log shows all of
them, including failures, and never the test split.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from effcore.bench.bench_store import BenchRun, BenchStore, bench_run
from effcore.bench.matched_comparison import plan_comparison
from effcore.config import resolve
from effcore.knobs import values_of
from effcore.policies.combination import DENSE_POLICIES, PolicyCombination
from effcore.records import RunConfig
from effcore.records.settings import Settings
from effcore.runs.reproduce import config_to_settings
from effcore.studies.plan import planned_runs
from effcore.studies.verdict import DENSE_FULL
from effcore.tasks.base import TASKS

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
    say: Callable[[str], None],
) -> list[TriedSetting]:
    """Train a policy's settings and same-budget training; returns the log of the task.

    Args:
        settings: Settings of the policy's runs, as for :func:`~effcore.config.resolve`.
        budget: Budget, as a share of full training's FLOPs.
        seeds: Tuning seeds, below ``FIRST_FRESH_SEED``.
        store: Where runs are stored.
        jobs: Runs at a time.
        say: Takes progress messages.

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
    """Return the tuning runs of a store, grouped by comparable runs, the best first.

    Args:
        store: The runs of benches.
        task: Id of a task; all tasks where ``None``.
    """
    groups: dict[ComparisonGroup, dict[str, dict[int, BenchRun]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for code, config, run in _kept_results(store):
        if task in (None, config.task) and config.seed < FIRST_FRESH_SEED:
            groups[_comparison_group(code, config)][_settings_label(config)][config.seed] = run
    return [row for place in sorted(groups) for row in _ranked_rows(place, groups[place])]


def _kept_results(store: BenchStore) -> Iterator[tuple[str, RunConfig, BenchRun]]:
    """Yield the origin, configuration and result of each run whose task still exists."""
    for run in store.kept_runs():
        if run.snapshot.config.task in TASKS.ids():  # a task may be gone since
            yield " ".join(run.origin.values()), run.snapshot.config, bench_run(run.snapshot)


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


def _settings_label(config: RunConfig) -> str:
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
    return ", ".join([" + ".join(names) or _DENSE_LABEL, *changed])


def _ranked_rows(
    group: ComparisonGroup, tried: Mapping[str, Mapping[int, BenchRun]]
) -> list[TriedSetting]:
    """Return the rows of one place, those without a value last."""
    way = TASKS.get(group.task).metric.sign
    values = {
        what: {seed: run.validation for seed, run in by_seed.items()}
        for what, by_seed in tried.items()
    }
    dense = [each for what, each in values.items() if what.split(",")[0] == _DENSE_LABEL]
    whole = [
        {seed: value for seed, value in each.items() if value is not None}
        for each in dense
        if _mean_validation(each) is not None
    ]
    rows = [
        TriedSetting(
            *(group, what, tuple(sorted(own)), _mean_validation(own)),
            against=_difference_to_best_dense(own, whole, way),
            note="; ".join(sorted({run.reason for run in tried[what].values()} - {""})),
        )
        for what, own in values.items()
    ]
    return sorted(rows, key=lambda row: _rank_key(row, way))


def _rank_key(row: TriedSetting, way: float) -> float:
    return math.inf if row.validation is None else -way * row.validation


def _mean_validation(by_seed: Mapping[int, float | None]) -> float | None:
    found = [value for value in by_seed.values() if value is not None]
    return None if len(found) < len(by_seed) else float(np.mean(found))


def _difference_to_best_dense(
    own: Mapping[int, float | None], dense: Sequence[Mapping[int, float]], way: float
) -> float | None:
    """Return the mean paired difference to the best of the dense over the seeds that both have."""
    ended = {seed: value for seed, value in own.items() if value is not None}
    shared = [[seed for seed in ended if seed in each] for each in dense]
    most = max(map(len, shared), default=0)
    found = [
        way * float(np.mean([ended[seed] - each[seed] for seed in seeds]))
        for each, seeds in zip(dense, shared, strict=True)
        if len(seeds) == most > 0
    ]
    return min(found, default=None)


def tuning_log_text(rows: Sequence[TriedSetting]) -> str:
    """Return the log as Markdown."""
    lines = [
        "| task, model | code | compute | tried | seeds | validation | against the best dense |",
        "|-|-|-|-|-|-|-|",
    ]
    for row in rows:
        value = row.note if row.validation is None else f"{row.validation:.4f}"
        against = "" if row.against is None else f"{row.against:+.4f}"
        lines.append(
            f"| {_group_text(row.place)} | {row.place.code[:8]} | {row.place.budget:.0%} | "
            f"`{row.what}` | {len(row.seeds)} | {value} | {against} |"
        )
    return "\n".join(lines)


def _group_text(group: ComparisonGroup) -> str:
    words = [f"`{group.task}`", group.model, group.size, f"{group.epochs} epochs", group.data]
    return ", ".join(word for word in words if word)
