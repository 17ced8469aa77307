"""What every policy saves, against dense training that is as strong as it can be made.

Each arm tries its settings on the validation split, all arms equally many, on seeds of their
own; the best of each is then trained on fresh seeds, the same for all, and judged on the
test split, once, by its final parameters. All arms but D100 spend the same share of the dense
FLOPs at their own batch size, with the learning rate decayed over that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from effcore.bench.arms import FULL_DENSE, MATCHED_DENSE, Arm, Settings, arms_for
from effcore.bench.journal import Journal
from effcore.bench.judged import judged, matched_words, sign
from effcore.bench.trial import trials
from effcore.config import DEFAULT_SIZE, resolve
from effcore.events import RunConfig
from effcore.store.store import default_home
from effcore.tasks.base import TASKS, Metric


@dataclass(frozen=True)
class Study:
    """What is compared, and how.

    Attributes:
        task: Id of the task.
        model: Id of its model.
        budget: Share of the dense compute for all arms but D100.
        tries: Settings that each arm may try on validation; 1 takes the defaults.
        tuning_seeds: Seeds to try them on.
        seeds: Fresh seeds for the test.
        arms: Names of the arms besides the dense ones; empty for all.
        settings: What differs from the task's defaults, for all arms.
    """

    task: str
    model: str
    budget: float
    tries: int
    tuning_seeds: Sequence[int]
    seeds: Sequence[int]
    arms: Sequence[str]
    settings: Mapping[str, Any]


def savings(
    study: Study, journal: Journal, jobs: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Run a study, or what of it is missing; returns a row for each arm.

    Args:
        study: What is compared.
        journal: Where results are kept.
        jobs: Runs at a time.
        say: Takes progress messages.

    Raises:
        ValueError: An arm that does not exist, or does not go with the model.
    """
    arms = _chosen(study)
    metric = TASKS.get(study.task).metric
    dense = [arm for arm in arms if arm.dense]
    best = _tuned(study, dense, {}, metric, journal, jobs, say)
    shared = best[MATCHED_DENSE]
    best |= _tuned(
        study, [arm for arm in arms if not arm.dense], shared, metric, journal, jobs, say
    )
    plan = [(arm, seed) for seed in study.seeds for arm in arms]
    configs = [_config(study, arm, best[arm.name], seed) for arm, seed in plan]
    say(f"{study.task}: the test, {len(configs)} runs")
    found = trials(configs, journal, jobs, say)
    results: dict[str, list[dict[str, Any]]] = {arm.name: [] for arm in arms}
    for (arm, _), result in zip(plan, found, strict=True):
        results[arm.name].append(result)
    return [_row(study, metric, arm.name, best[arm.name], results) for arm in arms]


def studies(
    tasks: Sequence[str], model: str | None, *, quick: bool, **options: Any
) -> Iterator[tuple[Study, Journal]]:
    """Yield a study for each task from what the command line says, and where it is kept.

    Raises:
        ValueError: A task or model that does not exist.
    """
    path = options["journal"]
    journal = Journal(Path(path) if path else default_home() / "bench" / "savings.jsonl")
    first = options["first_seed"]
    if first < options["tuning_seeds"]:
        raise ValueError(
            f"first_seed={first} is not allowed: seeds 0 to {options['tuning_seeds'] - 1} are for "
            "tuning, and the test needs fresh ones; choose a higher one"
        )
    for task in tasks:
        choice = TASKS.get(task).model_choice(model or TASKS.get(task).models[0].id)
        epochs = options["epochs"] or choice.defaults.epochs
        settings = {"size": options["size"], "epochs": epochs, "device": "cpu"}
        if quick:
            settings |= {"size": options["size"] or "small", "epochs": max(1, epochs // 4)}
        yield (
            Study(
                task=task,
                model=choice.id,
                budget=options["budget"],
                tries=1 if quick else options["tries"],
                tuning_seeds=range(options["tuning_seeds"]),
                seeds=range(first, first + (2 if quick else options["seeds"])),
                arms=[name for name in options["arms"].split(",") if name],
                settings={name: value for name, value in settings.items() if value is not None},
            ),
            journal,
        )


def _chosen(study: Study) -> list[Arm]:
    choice = TASKS.get(study.task).model_choice(study.model)
    size = study.settings.get("size") or DEFAULT_SIZE
    arms = arms_for(study.task, choice, size, study.budget)
    names = [arm.name for arm in arms]
    for name in study.arms:
        if name not in names:
            raise ValueError(
                f"arm {name!r} is not possible with model {study.model!r} of task "
                f"{study.task!r}: choose of {', '.join(names)}"
            )
    wanted = {FULL_DENSE, MATCHED_DENSE, *(study.arms or names)}
    return [arm for arm in arms if arm.name in wanted]


def _config(study: Study, arm: Arm, settings: Settings, seed: int) -> RunConfig:
    base = {"task": study.task, "model": study.model, **study.settings, "threads": 1}
    return resolve(
        {**base, **arm.policies._asdict(), **settings, "budget": arm.budget, "seed": seed}
    )


def _tuned(
    study: Study,
    arms: Sequence[Arm],
    shared: Settings,
    metric: Metric,
    journal: Journal,
    jobs: int,
    say: Callable[[str], None],
) -> dict[str, Settings]:
    """Return each arm's best settings by the mean metric on validation."""
    offered = {arm.name: [shared | own for own in arm.tries[: study.tries]] for arm in arms}
    several = [arm for arm in arms if len(offered[arm.name]) > 1]
    plan = [(arm, s, seed) for seed in study.tuning_seeds for arm in several
            for s in offered[arm.name]]  # fmt: skip
    if plan:
        say(f"{study.task}: tuning, {len(plan)} runs")
    found = trials([_config(study, *item) for item in plan], journal, jobs, say)
    scores: dict[str, list[list[float]]] = {
        arm.name: [[] for _ in offered[arm.name]] for arm in several
    }
    for (arm, settings, _), result in zip(plan, found, strict=True):
        value = result["validation"]
        scores[arm.name][offered[arm.name].index(settings)].append(
            -np.inf if value is None else value * sign(metric)
        )
    best = {name: offered[name][0] for name in offered}
    for name, values in scores.items():
        best[name] = offered[name][int(np.argmax([np.mean(each) for each in values]))]
    return best


def _row(
    study: Study,
    metric: Metric,
    name: str,
    settings: Settings,
    results: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    own, full = results[name], results[FULL_DENSE]
    values = [result["metric"] for result in own]
    row: dict[str, Any] = {"task": study.task, "model": study.model, "arm": name}
    row |= {"settings": settings, "seeds": list(study.seeds), "metrics": values}
    row |= {"margin": metric.margin}
    if None in values or None in [result["metric"] for result in full]:
        reasons = {str(result["reason"]) for result in own if result["metric"] is None}
        return row | {"metric": None, "failed": sorted(reasons)}
    flops = [mine["flops"] / theirs["flops"] for mine, theirs in zip(own, full, strict=True)]
    row |= {
        "metric": float(np.mean(values)),
        "skipped_compute_frac": 1.0 - float(np.mean(flops)),
        "seconds": float(np.mean([result["seconds"] for result in own])),
        "energy": [result["energy"] for result in own],
    }
    return row | _verdict(metric, name, results)


def _verdict(
    metric: Metric, name: str, results: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """Return paired differences, the better the higher, and what follows from them."""
    scores = {
        arm: [result["metric"] for result in runs]
        for arm, runs in results.items()
        if all(result["metric"] is not None for result in runs)
    }
    if len(scores[name]) < 2:
        return {}
    verdict = judged(metric, scores[name], scores[FULL_DENSE])
    del verdict["better"]
    if MATCHED_DENSE in scores:
        matched = judged(metric, scores[name], scores[MATCHED_DENSE])
        verdict |= matched_words(matched)
        length = np.mean(scores[FULL_DENSE]) - np.mean(scores[MATCHED_DENSE])
        verdict["overtrained"] = bool(sign(metric) * length <= 0)
    return verdict


def savings_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as Markdown; differences are in the metric's scale, better is higher."""
    lines = [
        "| task, model | arm | metric | skipped | against D100 | not inferior | against D-B "
        "| better | s |",
        "|-|-|-|-|-|-|-|-|-|",
    ]
    lines += [_line(row) for row in rows]
    over = sorted({row["task"] for row in rows if row.get("overtrained")})
    if over:
        lines.append(
            f"\nOn {', '.join(over)} dense training at the smaller budget is at least as good as "
            "at the full one: there, shortening is all it takes."
        )
    return "\n".join(lines)


def _line(row: Mapping[str, Any]) -> str:
    head = f"| `{row['task']}`, {row['model']} | {row['arm']} | "
    if row["metric"] is None:
        return head + f"failed: {'; '.join(row['failed'])} | | | | | | |"
    text = head + f"{row['metric']:.4f} | {row['skipped_compute_frac']:.1%} | "
    if "diff" not in row:
        return text + f"| | | | {row['seconds']:.0f} |"
    said = {True: "yes", False: "no", None: "too few seeds"}
    text += f"{row['diff']:+.4f} ({row['diff_lo']:+.4f} to {row['diff_hi']:+.4f}) | "
    text += f"{said[row['noninferior']]} | "
    if "diff_db" in row:
        text += f"{row['diff_db']:+.4f} ({row['diff_db_lo']:+.4f} to {row['diff_db_hi']:+.4f}) | "
        text += f"{said[row['beats_db']]} | "
    else:
        text += "| | "
    return text + f"{row['seconds']:.0f} |"
