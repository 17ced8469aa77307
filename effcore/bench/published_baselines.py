"""Methods as published against ours: the same task, model, schedule and seeds, in one run.

Both sides train to the end of their passes and are evaluated at the same points of the run
while the clock stands still. Ours is the whole trainer, its pictures and histograms included;
the other side is :mod:`effcore.bench.published_methods`, which shows nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from effcore.bench.baseline_context import BaselineContext, PublishedMethod
from effcore.bench.eta import with_eta
from effcore.bench.host_sync_counter import (
    EvaluationPoint,
    HostSyncCounter,
    TrainingCurve,
    UntimedReporter,
    loop_with_counter,
)
from effcore.bench.published_methods import (
    CodedKakurenbo,
    ComposerSelectiveBackprop,
    PublishedInfoBatch,
    PublishedKakurenbo,
    PublishedSelectiveBackprop,
)
from effcore.config import resolve
from effcore.records import EvalEvent, RunConfig, RunEnd, RunStatus
from effcore.studies.statistics import median_interval
from effcore.tasks.base import TASKS, Metric
from effcore.training.reporter import EVALUATIONS

#: Epochs of the runs in which host reads are counted; they also warm up.
_READ_COUNTING_EPOCHS = 3


@dataclass(frozen=True)
class BaselinePairing:
    """A published method, and which of our policies is set to the same.

    Attributes:
        name: What the result calls it.
        make_published: Makes it.
        selection: Id of our policy.
        knobs: What our policy is set to where its own defaults are not the published ones.
    """

    name: str
    make_published: Callable[[BaselineContext], PublishedMethod]
    selection: str
    knobs: tuple[tuple[str, float], ...] = ()


#: Composer keeps one in two by rank to the power of 1, which is our beta = 1, but not always.
BASELINE_PAIRINGS = (
    BaselinePairing("infobatch", PublishedInfoBatch, "infobatch"),
    BaselinePairing(
        "selective-backprop", PublishedSelectiveBackprop, "selective-backprop", (("beta", 3.0),)
    ),
    BaselinePairing("composer", ComposerSelectiveBackprop, "selective-backprop", (("beta", 1.0),)),
    BaselinePairing("kakurenbo", PublishedKakurenbo, "kakurenbo", (("hidden_share", 0.3),)),
    BaselinePairing("kakurenbo-coded", CodedKakurenbo, "kakurenbo", (("hidden_share", 0.3),)),
)


def train_published(
    make: Callable[[BaselineContext], PublishedMethod], config: RunConfig, counter: HostSyncCounter
) -> TrainingCurve:
    """Train a published method; evaluated where ours would be.

    Raises:
        ArithmeticError: The loss broke.
    """
    rig = BaselineContext(config)
    method, points, due = make(rig), list[EvaluationPoint](), 1 / EVALUATIONS
    points.append(_evaluate_published(rig, counter))
    with counter.running():
        for progress in method.train():
            if progress >= due:
                due = (int(progress * EVALUATIONS) + 1) / EVALUATIONS
                with counter.running(False):
                    points.append(_evaluate_published(rig, counter))
    points.append(_evaluate_published(rig, counter))
    if not math.isfinite(points[-1].loss):
        raise ArithmeticError(f"{config.selection} as published, seed {config.seed}: it broke")
    share = rig.examples_trained / (config.epochs * rig.n)
    return TrainingCurve(tuple(points), points[-1].seconds, rig.steps, share)


def _evaluate_published(context: BaselineContext, counter: HostSyncCounter) -> EvaluationPoint:
    context.model.eval()
    with torch.inference_mode():
        loss, metric = torch.stack(
            list(context.task.evaluate(context.model, "validation"))
        ).tolist()
    context.model.train()
    return EvaluationPoint(counter.clock(), loss, metric)


def train_ours(config: RunConfig, counter: HostSyncCounter) -> TrainingCurve:
    """Train with our trainer, all that it reports included but the evaluations.

    Raises:
        ArithmeticError: The loss broke.
    """
    loop, points = loop_with_counter(config, counter, UntimedReporter), list[EvaluationPoint]()
    with counter.running():
        for event in loop.run():
            if isinstance(event, EvalEvent):
                points.append(EvaluationPoint(event.seconds, event.loss, event.metric))
    assert isinstance(event, RunEnd), "a run ends with its RunEnd"
    if event.status is not RunStatus.FINISHED:
        raise ArithmeticError(f"{config.selection}, seed {config.seed}: {event.reason}")
    share = event.examples_trained / event.examples_considered
    return TrainingCurve(tuple(points), points[-1].seconds, loop.ledger.steps, share)


@dataclass(frozen=True)
class BaselineEntry:
    """One who trains in the race: which side of which rival, how, and configured how."""

    name: str
    side: str
    train: Callable[[RunConfig, HostSyncCounter], TrainingCurve]
    config: RunConfig


def first_pairing_name(pairing: BaselinePairing) -> str:
    """Return the name of the first rival that our same policy is raced against."""
    return next(
        r.name
        for r in BASELINE_PAIRINGS
        if (r.selection, r.knobs) == (pairing.selection, pairing.knobs)
    )


def baseline_entries(settings: Mapping[str, Any]) -> list[BaselineEntry]:
    """Return dense training and both sides of every rival; ours but once for each setting.

    Raises:
        ConfigError: A setting cannot be used.
    """
    found = [
        BaselineEntry("dense", "ours", train_ours, resolve({**settings, "selection": "dense"}))
    ]
    for rival in BASELINE_PAIRINGS:
        config = resolve({**settings, **dict(rival.knobs), "selection": rival.selection})
        run = partial(train_published, rival.make_published)
        found.append(BaselineEntry(rival.name, "published", run, config))
        if first_pairing_name(rival) == rival.name:
            found.append(BaselineEntry(rival.name, "ours", train_ours, config))
    return found


def host_reads_per_step(entry: BaselineEntry) -> float:
    """Return how often a short run reads the host, evaluations left out, per step."""
    short = replace(entry.config, epochs=min(entry.config.epochs, _READ_COUNTING_EPOCHS))
    watch = HostSyncCounter(counts=True)
    with watch:
        steps = entry.train(short, watch).steps
    return watch.reads / steps


def compare_published_baselines(
    task: str,
    model: str | None,
    size: str | None,
    epochs: int | None,
    seeds: Sequence[int],
    device: str,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Race every published method against ours; returns times, metrics and their ratios.

    One run at a time, since what is compared is time. Runs of a seed follow each other
    directly, and every other seed in reverse, so that neither side always goes first.

    Args:
        task: Id of the task.
        model: One of its models; the first where ``None``.
        size: Size of the model.
        epochs: Passes of every run; the model's own where ``None``.
        seeds: Seeds, the same for all.
        device: Where to train.
        say: Takes progress messages.

    Raises:
        ConfigError: A setting cannot be used.
        ArithmeticError: A run broke.
    """
    settings = {"task": task, "model": model, "size": size, "epochs": epochs, "device": device}
    racing = baseline_entries({**settings, "threads": 1})
    reads = [host_reads_per_step(entry) for entry in racing]
    courses = _training_curves(racing, seeds, say)
    config, metric = racing[0].config, TASKS.get(task).metric
    targets = [_target_metric(course, metric) for course in courses[0]]
    rows = [_entry_row(*each, targets, metric) for each in zip(racing, reads, courses, strict=True)]
    return {
        "settings": {name: getattr(config, name) for name in settings},
        "metric": metric.name,
        "margin": metric.margin,
        "seeds": list(seeds),
        "targets": targets,
        "rows": rows,
        "ratios": {rival.name: _speed_ratios(rival, rows) for rival in BASELINE_PAIRINGS},
    }


def _training_curves(
    entries: Sequence[BaselineEntry], seeds: Sequence[int], say: Callable[[str], None]
) -> list[list[TrainingCurve]]:
    """Run all, seed by seed, back and forth; returns each entry's courses."""
    courses: list[list[TrainingCurve]] = [[] for _ in entries]
    tell = with_eta(say, len(entries) * len(seeds))
    for place, seed in enumerate(seeds):
        for index, entry in list(enumerate(entries))[:: -1 if place % 2 else 1]:
            course = entry.train(replace(entry.config, seed=seed), HostSyncCounter())
            courses[index].append(course)
            tell(f"seed {seed} {entry.name} ({entry.side}): {course.seconds:.2f} s")
    return courses


def _target_metric(dense: TrainingCurve, metric: Metric) -> float:
    """Return what is as good as the end of the dense run, but for the margin."""
    slack = -metric.margin if metric.higher_is_better else metric.margin
    return dense.points[-1].metric + slack


def _entry_row(
    entry: BaselineEntry,
    reads: float,
    curves: Sequence[TrainingCurve],
    targets: Sequence[float],
    metric: Metric,
) -> dict[str, Any]:
    pairs = zip(curves, targets, strict=True)
    return {
        "name": entry.name,
        "side": entry.side,
        "seconds": [course.seconds for course in curves],
        "metric": [course.points[-1].metric for course in curves],
        "seconds_to_target": [course.seconds_to_target(target, metric) for course, target in pairs],
        "trained_share": [course.trained_share for course in curves],
        "steps": [course.steps for course in curves],
        "reads_per_step": reads,
    }


def _speed_ratios(pairing: BaselinePairing, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return ours / published by seed; ``None`` where one did not reach the target."""
    by_key = {(row["name"], row["side"]): row for row in rows}
    published, ours = by_key[pairing.name, "published"], by_key[first_pairing_name(pairing), "ours"]
    found: dict[str, Any] = {}
    for name in ("seconds", "seconds_to_target"):
        pairs = zip(ours[name], published[name], strict=True)
        found[name] = [None if a is None or not b else a / b for a, b in pairs]
        known = [ratio for ratio in found[name] if ratio is not None]
        found[f"{name}_interval"] = median_interval(known) if len(known) >= 3 else None
    return found
