"""The savings of every policy, compared with dense training that was tuned as far as it goes.

Each arm tries its settings on the validation split, all arms equally many, on seeds of their
own; the best of each is then trained on fresh seeds, the same for all, and judged on the
test split, once, by its final parameters. All arms but D100 spend the same share of the dense
FLOPs at their own batch size, with the learning rate decayed over that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from effcore.bench.bench_store import BenchStore, open_bench_store
from effcore.bench.quick_mode import given_or_default, quick_epochs
from effcore.bench.runner import run_missing
from effcore.bench.savings_variants import (
    DENSE_FULL,
    DENSE_MATCHED,
    MAX_TRIES,
    RANDOM_SKIPPING,
    SavingsStudy,
    SavingsVariant,
    Settings,
    variants_for,
)
from effcore.bench.tuning import Tuner, tune_dense, tune_policies
from effcore.bench.verdict_columns import difference_columns, matched_columns, verdict_columns
from effcore.config import DEFAULT_SIZE, resolve
from effcore.records import saved_frac
from effcore.studies.comparison import mean_share
from effcore.studies.difference_table import ANSWER_TEXT
from effcore.studies.plan import BASELINES
from effcore.studies.verdict import (
    NONINFERIORITY_ALPHA,
    SUPERIORITY_ALPHA,
    Outcome,
    judge_arms,
    judge_difference,
    min_seeds_for,
    too_few_seeds_text,
)
from effcore.tasks.base import TASKS, Metric


def run_savings_study(
    study: SavingsStudy, store: BenchStore, jobs: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Run a study, or what of it is missing; returns a row for each arm.

    Args:
        study: What is compared.
        store: Where runs are kept.
        jobs: Runs at a time.
        say: Takes progress messages.

    Raises:
        ValueError: An arm that does not exist, or does not go with the model.
    """
    arms = chosen_variants(study)
    tuner = Tuner(study, store, jobs, say)
    best = tune_dense(tuner, [arm for arm in arms if arm.is_dense])
    shared = best[DENSE_MATCHED].settings
    best |= tune_policies(tuner, [arm for arm in arms if not arm.is_dense], shared)
    if words := too_few_seeds_text(len(judged_names(arm.name for arm in arms)), len(study.seeds)):
        say(f"{study.task}: {words}")
    plan = [(arm, seed) for seed in study.seeds for arm in arms]
    configs = [
        study.run_config(arm.policies, best[arm.name].settings, arm.budget, seed)
        for arm, seed in plan
    ]
    say(f"{study.task}: the test, {len(configs)} runs")
    found = run_missing(configs, store, jobs, say)
    results: dict[str, list[dict[str, Any]]] = {arm.name: [] for arm in arms}
    for (arm, _), result in zip(plan, found, strict=True):
        results[arm.name].append(result)
    metric = TASKS.get(study.task).metric
    return [
        _variant_row(study, metric, arm.name, best[arm.name].settings, results)
        | {"edge": best[arm.name].at_grid_edge}
        for arm in arms
    ]


def plan_savings_studies(
    tasks: Sequence[str], model: str | None, *, quick: bool, **options: Any
) -> tuple[list[SavingsStudy], BenchStore]:
    """Return a study for each task from what the command line says, and where all are kept.

    Everything is checked here, before the first of them trains.

    Raises:
        ValueError: A task, model, size, arm or other setting that cannot be used.
    """
    store = open_bench_store(options["journal"])
    first, tuning = options["first_seed"], options["tuning_seeds"]
    if first < tuning:
        raise ValueError(
            f"first_seed={first} is not allowed: seeds 0 to {tuning - 1} are for tuning, and the "
            "test needs fresh ones; choose a higher one"
        )
    return [_plan_savings_study(task, model, quick, options) for task in tasks], store


def _plan_savings_study(
    task: str, model: str | None, quick: bool, options: Mapping[str, Any]
) -> SavingsStudy:
    """Return a study of a task; what is quick is shorter only where nothing else was asked."""
    settings = {name: options[name] for name in ("size", "epochs", "device")}
    settings["size"] = given_or_default(settings["size"], quick, "small", DEFAULT_SIZE)
    if quick and settings["epochs"] is None:
        settings["epochs"] = quick_epochs(task, model)
    usual = resolve({"task": task, "model": model, "selection": "dense", **settings})
    study = SavingsStudy(
        task=task,
        model=usual.model,
        budget=options["budget"],
        tries=given_or_default(options["tries"], quick, 1, MAX_TRIES),
        tuning_seeds=range(options["tuning_seeds"]),
        seeds=(),
        arms=[name for name in options["arms"].split(",") if name],
        settings={**settings, "epochs": usual.epochs},
    )
    judged = len(judged_names(arm.name for arm in chosen_variants(study)))
    first = options["first_seed"]
    seeds = given_or_default(options["seeds"], quick, 2, min_seeds_for(judged))
    return replace(study, seeds=range(first, first + seeds))


def judged_names(names: Iterable[str]) -> list[str]:
    """Return the variants that a verdict is asked of: all but the baselines."""
    return [name for name in names if name not in BASELINES]


def chosen_variants(study: SavingsStudy) -> list[SavingsVariant]:
    """Return the arms of a study.

    Raises:
        ValueError: An arm that does not exist, or does not go with the model.
    """
    choice = TASKS.get(study.task).model_choice(study.model)
    size = study.settings.get("size") or DEFAULT_SIZE
    arms = variants_for(study.task, choice, size, study.budget)
    names = [arm.name for arm in arms]
    for name in study.arms:
        if name not in names:
            raise ValueError(
                f"arm {name!r} is not possible with model {study.model!r} of task "
                f"{study.task!r}: choose of {', '.join(names)}"
            )
    wanted = {DENSE_FULL, DENSE_MATCHED, *(study.arms or names)}
    return [arm for arm in arms if arm.name in wanted]


def _variant_row(
    study: SavingsStudy,
    metric: Metric,
    name: str,
    settings: Settings,
    results: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    counted = _counted_places(results)
    left_out = {
        str(seed): "; ".join(sorted(_failure_reasons(_dense_results(results, [place]))))
        for place, seed in enumerate(study.seeds)
        if place not in counted
    }
    results = {arm: [runs[place] for place in counted] for arm, runs in results.items()}
    own, full = results[name], results[DENSE_FULL]
    values = [result["metric"] for result in own]
    seeds = [study.seeds[place] for place in counted]
    row: dict[str, Any] = {"task": study.task, "model": study.model, "arm": name}
    row |= {"settings": settings, "seeds": seeds, "metrics": values, "left_out": left_out}
    row |= {"margin": metric.margin}
    needed = {DENSE_FULL: full}
    if name not in BASELINES:
        needed[DENSE_MATCHED] = results.get(DENSE_MATCHED, ())
    broken = {"": own, **{f"{arm}: ": runs for arm, runs in needed.items() if arm != name}}
    if failed := sorted(_failure_reasons(broken)):
        outcome = Outcome.BROKE_DOWN.value if None in values and name not in BASELINES else None
        return row | {"metric": None, "failed": failed, "outcome": outcome, "verdict": outcome}
    below = [saved_frac(mine["flops"], of["flops"]) for mine, of in zip(own, full, strict=True)]
    row |= {
        "metric": float(np.mean(values)),
        "skipped_compute_frac": mean_share([r.get("skipped_compute_frac") for r in own]),
        "saved_compute_frac": mean_share([saved_frac(r["flops"], r["flops_full"]) for r in own]),
        "below_tuned_full_frac": mean_share(below),
        "seconds": float(np.mean([result["seconds"] for result in own])),
        "energy": [result["energy"] for result in own],
    }
    return row | _variant_verdict(metric, name, results)


def _dense_results(
    results: Mapping[str, Sequence[Mapping[str, Any]]], places: Iterable[int]
) -> dict[str, list[Mapping[str, Any]]]:
    """Return the results of dense training at some places, each behind its name."""
    dense = [arm for arm in (DENSE_FULL, DENSE_MATCHED) if arm in results]
    return {f"{arm}: ": [results[arm][place] for place in places] for arm in dense}


def _counted_places(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[int]:
    """Return at which places of the seeds both dense arms ended; all where fewer than two are."""
    places = range(len(results[DENSE_FULL]))
    counted = [p for p in places if not _failure_reasons(_dense_results(results, [p]))]
    return counted if len(counted) >= 2 else list(places)


def _failure_reasons(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> set[str]:
    """Return why runs broke down, each behind what it is said of."""
    return {
        f"{of}{result['reason']}"
        for of, runs in results.items()
        for result in runs
        if result["metric"] is None
    }


def _variant_verdict(
    metric: Metric, name: str, results: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """Return paired differences, the better the higher, and what follows from them.

    All policies of the study are judged together, those that broke down counted. The baselines
    have no verdict: the dense ones are compared with each other, ``random`` is only shown.
    """
    scores = {
        arm: [metric.sign * result["metric"] for result in runs]
        for arm, runs in results.items()
        if all(result["metric"] is not None for result in runs)
    }
    if len(scores[name]) < 2:
        return {}
    full, planned = scores[DENSE_FULL], judged_names(results)
    if name not in BASELINES:
        judged = {arm: scores[arm] for arm in planned if arm in scores}
        verdicts = judge_arms(judged, full, scores[DENSE_MATCHED], metric.margin, len(planned))
        return verdict_columns(next(each for each in verdicts if each.arm == name))
    asked = name in (DENSE_FULL, DENSE_MATCHED) and len(full) >= min_seeds_for(len(planned))
    above = judge_difference(DENSE_FULL, scores[name], full, -metric.margin, NONINFERIORITY_ALPHA)
    row: dict[str, Any] = {**difference_columns(above), "outcome": None, "verdict": None}
    row["noninferior"] = above.p < NONINFERIORITY_ALPHA if asked else None
    if DENSE_MATCHED in scores:
        matched = scores[DENSE_MATCHED]
        better = judge_difference(DENSE_MATCHED, scores[name], matched, 0.0, SUPERIORITY_ALPHA)
        less = judge_difference(DENSE_FULL, matched, full, -metric.margin, NONINFERIORITY_ALPHA)
        row |= matched_columns(better)
        row["beats_db"] = better.p < SUPERIORITY_ALPHA if asked else None
        row["overtrained"] = less.p < NONINFERIORITY_ALPHA if asked else None
    return row


def savings_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as Markdown; differences are in the metric's scale, better is higher."""
    lines = [
        "| task, model | arm | metric | saved | against D100 | not inferior | against D-B "
        "| better | verdict | s |",
        "|-|-|-|-|-|-|-|-|-|-|",
    ]
    lines += [_savings_line(row) for row in rows]
    over = sorted({row["task"] for row in rows if row.get("overtrained")})
    if over:
        lines.append(
            f"\nOn {', '.join(over)} dense training at the smaller budget is shown to be as good "
            "as full training: training for less is all it takes there."
        )
    lost = {row["task"]: row["left_out"] for row in rows if row.get("left_out")}
    lines += [
        f"\nOn {task}, seed {seed} does not count: {why}."
        for task, seeds in lost.items()
        for seed, why in seeds.items()
    ]
    edges = [f"{row['arm']} on {row['task']}" for row in rows if row.get("edge")]
    if edges:
        lines.append(f"\nBest at the edge of the batch sizes and rates tried: {', '.join(edges)}.")
    return "\n".join(lines)


def _savings_line(row: Mapping[str, Any]) -> str:
    head = f"| `{row['task']}`, {row['model']} | {row['arm']} | "
    if row["metric"] is None:
        return head + f"failed: {'; '.join(row['failed'])} | | | | | | | |"
    text = head + f"{row['metric']:.4f} | {row['saved_compute_frac']:.1%} | "
    if "diff" not in row:
        return text + f"| | | | | {row['seconds']:.0f} |"
    text += f"{row['diff']:+.4f} ({row['diff_lo']:+.4f} to {row['diff_hi']:+.4f}) | "
    judged = row["arm"] != RANDOM_SKIPPING
    text += f"{ANSWER_TEXT[row['noninferior']] if judged else 'not judged'} | "
    if "diff_db" in row:
        text += f"{row['diff_db']:+.4f} ({row['diff_db_lo']:+.4f} to {row['diff_db_hi']:+.4f}) | "
        text += f"{ANSWER_TEXT[row['beats_db']] if judged else 'not judged'} | "
    else:
        text += "| | "
    return text + f"{row['verdict'] or ''} | {row['seconds']:.0f} |"
