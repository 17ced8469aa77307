"""The log of all settings tried, on the validation split, beside dense training.

The store holds the runs that studies tuned with and those tried by hand. The log shows all of
them, including failures, and never the test split.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from effcore.bench.bench_store import BenchRun, BenchStore, bench_run
from effcore.bench.eta import ProgressSink
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
    groups: dict[ComparisonGroup, dict[str, dict[int, BenchRun]]] = defaultdict(
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
    group: ComparisonGroup, runs: Mapping[str, Mapping[int, BenchRun]]
) -> list[TriedSetting]:
    """Return the rows of comparable runs by label and seed, those without a value last."""
    sign = TASKS.get(group.task).metric.sign
    complete: dict[str, dict[int, float]] = {}  # by seed, without runs that broke down
    means: dict[str, float | None] = {}
    for label, by_seed in runs.items():
        values = {seed: run.validation for seed, run in by_seed.items()}
        complete[label] = {seed: value for seed, value in values.items() if value is not None}
        failed = len(complete[label]) < len(by_seed)
        means[label] = None if failed else float(np.mean(list(complete[label].values())))
    dense = [
        complete[label]
        for label, mean in means.items()
        if mean is not None and label.split(",")[0] == _DENSE_LABEL
    ]
    rows = [
        TriedSetting(
            place=group,
            what=label,
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
