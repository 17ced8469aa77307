"""Three open questions of efficient training.

How much can be saved without a loss, by family of models; how that depends on what is wrong
with the data; and how much of the computation skipped is time saved, by size, batch and
threads. The first two are asked of the policy that needs no tuning, the third of one that skips a
share that is known beforehand.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from effcore.bench import host_sync_counter as watch_module
from effcore.bench import time_saved as realised_module
from effcore.bench.bench_store import BenchStore
from effcore.bench.environment import measurement_environment
from effcore.bench.runner import run_missing
from effcore.bench.time_saved import measure_time_saved
from effcore.bench.verdict_columns import difference_columns, verdict_columns
from effcore.config import resolve
from effcore.records import RunConfig
from effcore.studies.run_origin import code_version
from effcore.studies.verdict import (
    MIN_SEEDS,
    NONINFERIORITY_ALPHA,
    SUPERIORITY_ALPHA,
    Outcome,
    Verdict,
    judge_arms,
    judge_difference,
)
from effcore.tasks.base import TASKS, Metric

ProgressSink = Callable[[str], None]
Rows = list[dict[str, Any]]
#: Shares of the dense compute that the first question tries.
FAMILY_BUDGETS = (0.3, 0.45, 0.6, 0.8)
#: What the second question crosses: shares of copies and of wrong labels, and how many times
#: as common the most common class is as the rarest.
DATA_FAULTS = {
    "redundancy": (0.0, 0.5, 0.9),
    "label_noise": (0.0, 0.1, 0.2),
    "imbalance": (1, 5, 20),
}
#: What is said where a run broke down.
_BROKEN_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("diff", "diff_lo", "diff_hi", "bound"), float("nan")),
    **dict.fromkeys(("diff_db", "diff_db_lo", "diff_db_hi"), float("nan")),
    **dict.fromkeys(("noninferior", "beats_db"), False),
    **dict.fromkeys(("outcome", "verdict"), Outcome.BROKE_DOWN.value),
}
#: Columns of a comparison without two seeds that dense training ended.
_NO_VERDICT_COLUMNS: dict[str, None] = dict.fromkeys(
    ("noninferior", "beats_db", "better", "outcome", "verdict")
)
#: What the third question crosses, beside a task's own batch size.
MACHINE_SIZES, BATCH_FACTORS, THREAD_COUNTS = ("small", "medium", "large"), (0.5, 1.0, 4.0), (1, 2)
#: The policy that the third question asks: it skips a share that does not depend on the run.
CONSTANT_SKIP_POLICY = "stale-pps"


def savings_by_family(
    models: Sequence[tuple[str, str]],
    budgets: Sequence[float],
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    store: BenchStore,
    jobs: int,
    say: ProgressSink,
) -> Rows:
    """Return, for each model, what is lost at each budget, and the saving that loses nothing.

    Args:
        models: Ids of task and model.
        budgets: Shares of the dense compute.
        seeds: Paired seeds, not used for tuning.
        settings: What differs from the task's defaults.
        store: Where runs are kept.
        jobs: Runs at a time.
        say: Takes progress messages.

    Returns:
        Rows ``{task, model, seeds, by_budget, auto, dense}``. ``auto`` and ``dense`` are the
        largest saving such that it and every smaller one tried is not inferior to the whole
        dense run, selecting by itself and by training for less; 0 where none is, ``None``
        where the seeds are too few to say.
    """
    rows = []
    for task, model in models:
        shared = {**settings, "task": task, "model": model}
        arms = {("dense", 1.0): {**shared, "selection": "dense"}}
        for selection, budget in product(("dense", "auto"), budgets):
            arms[selection, budget] = {**shared, "selection": selection, "budget": budget}
        say(f"{task}, {model}: {len(arms) * len(seeds)} runs")
        found = _test_metrics(arms, seeds, store, jobs, say)
        rows.append(_family_row(task, model, budgets, seeds, found))
    return rows


def _family_row(
    task: str,
    model: str,
    budgets: Sequence[float],
    seeds: Sequence[int],
    found: Mapping[Any, Sequence[float]],
) -> dict[str, Any]:
    row: dict[str, Any] = {"task": task, "model": model, "seeds": list(seeds)}
    row |= {"margin": TASKS.get(task).metric.margin, "by_budget": []}
    full, ordered = found["dense", 1.0], sorted(budgets, reverse=True)
    columns = {
        "dense": [_shortening_columns(task, found["dense", budget], full) for budget in ordered],
        "auto": [
            _auto_columns(_judge_auto(task, found["auto", budget], full, found["dense", budget]))
            for budget in ordered
        ],
    }
    for selection, each in columns.items():
        told = [
            {"arm": selection, "budget": budget, **own}
            for budget, own in zip(ordered, each, strict=True)
        ]
        row["by_budget"] += told
        row[selection] = _lossless_saving(told)
    return row


def _judge_auto(
    task: str, own: Sequence[float], full: Sequence[float], matched: Sequence[float]
) -> Verdict | Outcome | None:
    """Judge ``auto`` as a study of its own.

    Seeds on which dense training broke down do not count; ``None``, no verdict, without two that
    do. ``Outcome.BROKE_DOWN`` where ``auto`` broke down on one that counts.
    Budgets are asked from the largest on, and no further than the first that loses: each is
    asked at the level of a single one.
    """
    metric = TASKS.get(task).metric
    mine, first, second = _counted_values(metric, full, matched, (own, full, matched))
    if len(mine) < 2:
        return None
    if not np.isfinite(mine).all():
        return Outcome.BROKE_DOWN
    return judge_arms({"auto": mine}, first, second, metric.margin)[0]


def _counted_values(
    metric: Metric,
    full: Sequence[float],
    matched: Sequence[float],
    arms: Sequence[Sequence[float]],
) -> list[list[float]]:
    """Return the values of arms on seeds that dense training ended, the better the higher."""
    counted = np.isfinite(full) & np.isfinite(matched)
    return [(metric.sign * np.asarray(arm)[counted]).tolist() for arm in arms]


def _auto_columns(verdict: Verdict | Outcome | None) -> dict[str, Any]:
    if verdict is None:
        return _BROKEN_COLUMNS | _NO_VERDICT_COLUMNS
    if isinstance(verdict, Outcome):
        return _BROKEN_COLUMNS | {"better": None}
    return verdict_columns(verdict) | {"better": _is_better(verdict.against_full.values)}


def _is_better(differences: Sequence[float]) -> bool | None:
    """Return whether a mean difference is shown to be positive; ``None`` with too few seeds."""
    if len(differences) < MIN_SEEDS:
        return None
    zeros = [0.0] * len(differences)
    return judge_difference("", differences, zeros, 0.0, SUPERIORITY_ALPHA).p < SUPERIORITY_ALPHA


def _shortening_columns(
    task: str, matched: Sequence[float], full: Sequence[float]
) -> dict[str, Any]:
    """Return the loss of same-budget training, and whether it matches full training."""
    metric = TASKS.get(task).metric
    shortened, reference = _counted_values(metric, full, matched, (matched, full))
    if len(shortened) < 2:
        nothing = dict.fromkeys(("diff", "diff_lo", "diff_hi", "bound"), float("nan"))
        return {**nothing, "noninferior": None, "better": None}
    told = judge_difference("D100", shortened, reference, -metric.margin, NONINFERIORITY_ALPHA)
    shown = told.p < NONINFERIORITY_ALPHA if told.paired.n >= MIN_SEEDS else None
    better = _is_better(told.values)
    return {**difference_columns(told), "noninferior": shown, "better": better}


def _lossless_saving(told: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the saving before the first budget, from the largest on, that loses something."""
    saving = 0.0
    for each in told:
        if each["noninferior"] is None:
            return None
        if not each["noninferior"]:
            break
        saving = 1.0 - each["budget"]
    return saving


def fault_grid(
    task: str,
    faults: Mapping[str, Sequence[float]],
    budget: float,
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    store: BenchStore,
    jobs: int,
    say: ProgressSink,
) -> Rows:
    """Return what selecting loses and wins over a grid of faults of the data.

    Args:
        task: Id of a task whose data can be spoilt.
        faults: Values to cross, by the setting's name.
        budget: Share of the dense compute for selection and for the dense arm beside it.
        seeds: Paired seeds.
        settings: What differs from the task's defaults.
        store: Where runs are kept.
        jobs: Runs at a time.
        say: Takes progress messages.

    Returns:
        Rows ``{**faults, full, diff, …, diff_db, …}``, the better the higher.
    """
    cells = [dict(zip(faults, values, strict=True)) for values in product(*faults.values())]
    arms: dict[Any, dict[str, Any]] = {}
    for place, cell in enumerate(cells):
        shared = {**settings, "task": task, **cell}
        arms[place, "D100"] = {**shared, "selection": "dense"}
        arms[place, "D-B"] = {**shared, "selection": "dense", "budget": budget}
        arms[place, "auto"] = {**shared, "selection": "auto", "budget": budget}
    say(f"{task}: {len(cells)} cells, {len(arms) * len(seeds)} runs")
    found = _test_metrics(arms, seeds, store, jobs, say)
    return [_fault_cell_row(task, cell, found, place) for place, cell in enumerate(cells)]


def _fault_cell_row(
    task: str, cell: Mapping[str, float], found: Mapping[Any, Sequence[float]], place: int
) -> dict[str, Any]:
    full, matched, own = (found[place, arm] for arm in ("D100", "D-B", "auto"))
    row = {"task": task, **cell, "full": float(np.mean(full))}
    row |= _auto_columns(_judge_auto(task, own, full, matched))
    row["shortening"] = TASKS.get(task).metric.sign * float(np.mean(np.subtract(matched, full)))
    return row


def time_saved_grid(
    task: str,
    epochs: int,
    repeats: int,
    quick: bool,
    device: str,
    store: BenchStore,
    say: ProgressSink,
) -> Rows:
    """Return time saved over computation skipped, by size of model, batch and threads.

    Args:
        task: Id of the task.
        epochs: Passes of each run; a share of each is dense, which is accounted for.
        repeats: Runs of each kind.
        quick: Two cells in place of all.
        device: Where to train.
        store: Where cells are kept.
        say: Takes progress messages.
    """
    choice = TASKS.get(task).models[0]
    cells = list(product(MACHINE_SIZES, BATCH_FACTORS, THREAD_COUNTS))
    rows = []
    for size, factor, threads in cells[:2] if quick else cells:
        batch = max(1, round(choice.defaults.batch_size * factor))
        settings = {"size": size, "batch_size": batch, "threads": threads, "epochs": epochs}
        settings["device"] = device
        rows.append(
            {"task": task, **settings, **_time_saved_cell(task, settings, repeats, store, say)}
        )
    return rows


def _time_saved_cell(
    task: str, settings: Mapping[str, Any], repeats: int, store: BenchStore, say: ProgressSink
) -> dict[str, Any]:
    """Return a cell of the third question, measured where the store does not hold it."""
    key = f"{_measurement_version()} realised {task} {CONSTANT_SKIP_POLICY} {repeats} {settings}"
    known = store.timings.get(key)
    if known is None:
        store.timings.create_file()
        say(f"{task}: {', '.join(f'{name} {value}' for name, value in settings.items())}")
        row = measure_time_saved(
            task, TASKS.get(task).models[0].id, [CONSTANT_SKIP_POLICY], settings, repeats, say
        )[0]
        known = {**row._asdict(), "ratio": vars(row.ratio), "saved": vars(row.saved),
                 "own_cost": vars(row.own_cost)}  # fmt: skip
        store.timings.append(key, known)
    return known


def _measurement_version() -> str:
    """Return a text that is equal where a cell would be measured alike: by code and machine."""
    digest = hashlib.sha256()
    for module in (realised_module, watch_module):  # which the version of the runs leaves out
        digest.update(inspect.getsource(module).encode())
    where = measurement_environment()
    machine = ", ".join(str(where[name]) for name in ("cpu", "cores", "python", "torch"))
    return f"{code_version()} {digest.hexdigest()[:16]} {machine}"


def _test_metrics(
    arms: Mapping[Any, Mapping[str, Any]],
    seeds: Sequence[int],
    store: BenchStore,
    jobs: int,
    say: ProgressSink,
) -> dict[Any, list[float]]:
    """Return each arm's metrics on test, by seed; NaN for a run that broke down."""
    plan = [(name, _variant_config(arm, seed)) for name, arm in arms.items() for seed in seeds]
    results = run_missing([config for _, config in plan], store, jobs, say)
    found: dict[Any, list[float]] = {name: [] for name in arms}
    for (name, _), result in zip(plan, results, strict=True):
        value = result["metric"]
        found[name].append(float("nan") if value is None else value)
    return found


def _variant_config(arm: Mapping[str, Any], seed: int) -> RunConfig:
    return resolve({"device": "cpu", "threads": 1, "budget": 1.0, **arm, "seed": seed})


def every_task_model() -> Iterator[tuple[str, str]]:
    """Yield every task and model of the app, in order."""
    for task in TASKS:
        for choice in task.models:
            yield task.id, choice.id
