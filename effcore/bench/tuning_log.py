"""The log of everything that was tried: settings on the validation split, against dense.

What a study tunes and what is tried by hand is kept in the same store, and all of it is
shown, what failed included; the test split is never looked at here.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

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

#: Seeds from here on are for verdicts; what was tried on them is not tuning.
FIRST_FRESH_SEED = 100
#: Settings that do not tell what was tried.
_UNLISTED_SETTINGS = ("task", "model", "selection", "update", "intensity", "seed", "device",
                      "threads", "budget", "size", "epochs")  # fmt: skip
_DENSE_LABEL = "dense"


class ComparisonGroup(NamedTuple):
    """What two runs have in common that can be compared.

    Attributes:
        task: Id of the task.
        model: Id of its model.
        size: Its size.
        epochs: Passes that are 100% of the compute.
        data: What its data differs in from the task's usual, as on the command line.
        code: What tells the version of the code and of PyTorch, the processor, and the task's
            model and data.
        budget: Share of the dense compute.
    """

    task: str
    model: str
    size: str
    epochs: int
    data: str
    code: str
    budget: float


class TriedSetting(NamedTuple):
    """One row of the log.

    Attributes:
        place: What it can be compared within.
        what: Policies and settings, as on the command line.
        seeds: Tuning seeds.
        validation: Mean metric on validation; ``None`` where a run broke down.
        against: Mean difference to the best dense setting of the same place over the same
            seeds, the better the higher; ``None`` where there is none. Best of those that have
            most of these seeds, or one lucky seed would stand for a setting.
        note: Why it has no value.
    """

    place: ComparisonGroup
    what: str
    seeds: tuple[int, ...]
    validation: float | None
    against: float | None
    note: str

    def to_record(self) -> dict[str, Any]:
        """Return it as one flat record."""
        return self.place._asdict() | {n: v for n, v in self._asdict().items() if n != "place"}


def try_settings(
    settings: Settings,
    budget: float,
    seeds: Sequence[int],
    store: BenchStore,
    jobs: int,
    say: Callable[[str], None],
) -> list[TriedSetting]:
    """Try settings and the dense arms beside them; returns the log of the task.

    Args:
        settings: Settings of a policy's arm, as for :func:`~effcore.config.resolve`.
        budget: Share of the dense compute.
        seeds: Tuning seeds, below ``FIRST_FRESH_SEED``.
        store: Where runs are kept.
        jobs: Runs at a time.
        say: Takes progress messages.

    Raises:
        ValueError: A seed that verdicts use.
    """
    if max(seeds) >= FIRST_FRESH_SEED:
        raise ValueError(
            f"seed {max(seeds)} is not allowed: seeds from {FIRST_FRESH_SEED} on are for verdicts, "
            "and what is tried must not see them; choose lower ones"
        )
    runs = planned_runs(plan_comparison(settings, budget, seeds))
    store.train([run.config for run in runs if run.variant != DENSE_FULL], jobs, say)
    return tuning_log(store, str(settings["task"]))


def tuning_log(store: BenchStore, task: str | None = None) -> list[TriedSetting]:
    """Return what a store holds of tuning seeds, like beside like, the best first.

    Args:
        store: The runs of benches.
        task: Id of a task; all where not given.
    """
    groups: dict[ComparisonGroup, dict[str, dict[int, BenchRun]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for code, config, run in _kept_results(store):
        if task in (None, config.task) and config.seed < FIRST_FRESH_SEED:
            groups[_comparison_group(code, config)][_settings_label(config)][config.seed] = run
    return [row for place in sorted(groups) for row in _ranked_rows(place, groups[place])]


def _kept_results(store: BenchStore) -> Iterator[tuple[str, RunConfig, BenchRun]]:
    """Yield what tells the code and machine of each run, its configuration and its result."""
    for run in store.kept_runs():
        if run.snapshot.config.task in TASKS.ids():  # a task may be gone since
            yield " ".join(run.origin.values()), run.snapshot.config, bench_run(run.snapshot)


def _comparison_group(code: str, config: RunConfig) -> ComparisonGroup:
    usual = values_of(TASKS.get(config.task).settings())
    data = [f"{name} {value:g}" for name, value in config.data.items() if value != usual[name]]
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
    """Return the policies that are not plain, then what differs from their defaults."""
    chosen = PolicyCombination(config.selection, config.update, config.intensity)
    names = [name for name, plain in zip(chosen, DENSE_POLICIES, strict=True) if name != plain]
    usual = config_to_settings(
        resolve({"task": config.task, "model": config.model, **chosen._asdict()})
    )
    own = [
        f"{name} {value}"
        for name, value in config_to_settings(config).items()
        if name not in (*_UNLISTED_SETTINGS, *config.data) and usual.get(name) != value
    ]
    return ", ".join([" + ".join(names) or _DENSE_LABEL, *own])


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
