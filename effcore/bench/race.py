"""Methods as published against ours: the same task, model, schedule and seeds, in one run.

Both sides train to the end of their passes and are evaluated at the same points of the run
while the clock stands still. Ours is the whole trainer, its pictures and histograms included;
the other side is :mod:`effcore.bench.peers`, which shows nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from effcore.bench.left import counted
from effcore.bench.peers import (
    CodedKakurenbo,
    ComposerSelectiveBackprop,
    PublishedInfoBatch,
    PublishedKakurenbo,
    PublishedSelectiveBackprop,
)
from effcore.bench.rig import Published, Rig
from effcore.bench.watch import Aside, Course, Point, Watch, watched
from effcore.config import resolve
from effcore.events import EvalEvent, RunConfig, RunEnd, RunStatus
from effcore.stats import median_interval
from effcore.tasks.base import TASKS, Metric
from effcore.training.reporter import EVALUATIONS

#: Epochs of the runs in which host reads are counted; they also warm up.
_COUNTED_EPOCHS = 3


@dataclass(frozen=True)
class Rival:
    """A published method, and which of our policies is set to the same.

    Attributes:
        name: What the result calls it.
        published: Makes it.
        selection: Id of our policy.
        knobs: What our policy is set to where its own defaults are not the published ones.
    """

    name: str
    published: Callable[[Rig], Published]
    selection: str
    knobs: tuple[tuple[str, float], ...] = ()


#: Composer keeps one in two by rank to the power of 1, which is our beta = 1, but not always.
RIVALS = (
    Rival("infobatch", PublishedInfoBatch, "infobatch"),
    Rival("selective-backprop", PublishedSelectiveBackprop, "selective-backprop", (("beta", 3.0),)),
    Rival("composer", ComposerSelectiveBackprop, "selective-backprop", (("beta", 1.0),)),
    Rival("kakurenbo", PublishedKakurenbo, "kakurenbo", (("hidden_share", 0.3),)),
    Rival("kakurenbo-coded", CodedKakurenbo, "kakurenbo", (("hidden_share", 0.3),)),
)


def run_published(make: Callable[[Rig], Published], config: RunConfig, watch: Watch) -> Course:
    """Train a published method; evaluated where ours would be.

    Raises:
        ArithmeticError: The loss broke.
    """
    rig = Rig(config)
    method, points, due = make(rig), list[Point](), 1 / EVALUATIONS
    points.append(_look(rig, watch))
    with watch.running():
        for progress in method.train():
            if progress >= due:
                due = (int(progress * EVALUATIONS) + 1) / EVALUATIONS
                with watch.running(False):
                    points.append(_look(rig, watch))
    points.append(_look(rig, watch))
    if not math.isfinite(points[-1].loss):
        raise ArithmeticError(f"{config.selection} as published, seed {config.seed}: it broke")
    share = rig.trained / (config.epochs * rig.n)
    return Course(tuple(points), points[-1].seconds, rig.steps, share)


def _look(rig: Rig, watch: Watch) -> Point:
    rig.model.eval()
    with torch.inference_mode():
        loss, metric = torch.stack(list(rig.task.evaluate(rig.model, "validation"))).tolist()
    rig.model.train()
    return Point(watch.clock(), loss, metric)


def run_ours(config: RunConfig, watch: Watch) -> Course:
    """Train with our trainer, all that it reports included but the evaluations.

    Raises:
        ArithmeticError: The loss broke.
    """
    loop, points = watched(config, watch, Aside), list[Point]()
    with watch.running():
        for event in loop.run():
            if isinstance(event, EvalEvent):
                points.append(Point(event.seconds, event.loss, event.metric))
    assert isinstance(event, RunEnd), "a run ends with its RunEnd"
    if event.status is not RunStatus.FINISHED:
        raise ArithmeticError(f"{config.selection}, seed {config.seed}: {event.reason}")
    share = event.examples_trained / event.examples_considered
    return Course(tuple(points), points[-1].seconds, loop.ledger.steps, share)


@dataclass(frozen=True)
class Entry:
    """One who trains in the race: which side of which rival, how, and configured how."""

    name: str
    side: str
    run: Callable[[RunConfig, Watch], Course]
    config: RunConfig


def twin(rival: Rival) -> str:
    """Return the name of the first rival that our same policy is raced against."""
    return next(r.name for r in RIVALS if (r.selection, r.knobs) == (rival.selection, rival.knobs))


def entries(settings: Mapping[str, Any]) -> list[Entry]:
    """Return dense training and both sides of every rival; ours but once for each setting.

    Raises:
        ConfigError: A setting cannot be used.
    """
    found = [Entry("dense", "ours", run_ours, resolve({**settings, "selection": "dense"}))]
    for rival in RIVALS:
        own = {"selection": rival.selection, **dict(rival.knobs)}
        config = resolve({**settings, **own})
        run = partial(run_published, rival.published)
        found.append(Entry(rival.name, "published", run, config))
        if twin(rival) == rival.name:
            found.append(Entry(rival.name, "ours", run_ours, config))
    return found


def reads_per_step(entry: Entry) -> float:
    """Return how often a short run reads the host, evaluations left out, per step."""
    short = replace(entry.config, epochs=min(entry.config.epochs, _COUNTED_EPOCHS))
    watch = Watch(counts=True)
    with watch:
        steps = entry.run(short, watch).steps
    return watch.reads / steps


def peers(
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
    racing = entries({**settings, "threads": 1})
    reads = [reads_per_step(entry) for entry in racing]
    courses = _courses(racing, seeds, say)
    config, metric = racing[0].config, TASKS.get(task).metric
    targets = [_target(course, metric) for course in courses[0]]
    rows = [_row(*each, targets, metric) for each in zip(racing, reads, courses, strict=True)]
    return {
        "settings": {name: getattr(config, name) for name in settings},
        "metric": metric.name,
        "margin": metric.margin,
        "seeds": list(seeds),
        "targets": targets,
        "rows": rows,
        "ratios": {rival.name: _ratios(rival, rows) for rival in RIVALS},
    }


def _courses(
    racing: Sequence[Entry], seeds: Sequence[int], say: Callable[[str], None]
) -> list[list[Course]]:
    """Run all, seed by seed, back and forth; returns each entry's courses."""
    courses: list[list[Course]] = [[] for _ in racing]
    tell = counted(say, len(racing) * len(seeds))
    for place, seed in enumerate(seeds):
        for index, entry in list(enumerate(racing))[:: -1 if place % 2 else 1]:
            course = entry.run(replace(entry.config, seed=seed), Watch())
            courses[index].append(course)
            tell(f"seed {seed} {entry.name} ({entry.side}): {course.seconds:.2f} s")
    return courses


def _target(dense: Course, metric: Metric) -> float:
    """Return what is as good as the end of the dense run, but for the margin."""
    slack = -metric.margin if metric.higher_is_better else metric.margin
    return dense.points[-1].metric + slack


def _row(
    entry: Entry, reads: float, courses: Sequence[Course], targets: Sequence[float], metric: Metric
) -> dict[str, Any]:
    pairs = zip(courses, targets, strict=True)
    return {
        "name": entry.name,
        "side": entry.side,
        "seconds": [course.seconds for course in courses],
        "metric": [course.points[-1].metric for course in courses],
        "seconds_to_target": [course.until(target, metric) for course, target in pairs],
        "trained_share": [course.trained_share for course in courses],
        "steps": [course.steps for course in courses],
        "reads_per_step": reads,
    }


def _ratios(rival: Rival, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return ours / published by seed; ``None`` where one did not reach the target."""
    by_key = {(row["name"], row["side"]): row for row in rows}
    published, ours = by_key[rival.name, "published"], by_key[twin(rival), "ours"]
    found: dict[str, Any] = {}
    for name in ("seconds", "seconds_to_target"):
        pairs = zip(ours[name], published[name], strict=True)
        found[name] = [None if a is None or not b else a / b for a, b in pairs]
        known = [ratio for ratio in found[name] if ratio is not None]
        found[f"{name}_interval"] = median_interval(known) if len(known) >= 3 else None
    return found
