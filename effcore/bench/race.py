"""Methods as published against ours: the same task, model, schedule and seeds, in one run.

Both sides train to the end of their passes and are evaluated at the same points of the run
while the clock stands still. Ours is the whole trainer, its pictures and histograms included;
the other side is :mod:`effcore.bench.peers`, which shows nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from effcore.bench.peers import (
    CodedKakurenbo,
    ComposerSelectiveBackprop,
    Published,
    PublishedInfoBatch,
    PublishedKakurenbo,
    PublishedSelectiveBackprop,
    Rig,
)
from effcore.clock import RunClock
from effcore.config import resolve
from effcore.events import EvalEvent, RunConfig, RunEnd, RunStatus
from effcore.knobs import Controls
from effcore.loop import Loop
from effcore.reporter import EVALUATIONS, Reporter
from effcore.stats import median_interval
from effcore.tasks.base import TASKS, Metric

#: Epochs of the runs in which host reads are counted; they also warm up.
_COUNTED_EPOCHS = 3
_READS = frozenset(
    getattr(torch.Tensor, name)
    for name in ("item", "tolist", "cpu", "nonzero", "__bool__", "__int__", "__float__")
)


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


class Watch(TorchFunctionMode):
    """Seconds of training and, where it is entered, reads of the host, evaluations left out.

    A read is a call that waits for the device on a GPU: ``item``, ``cpu``, ``nonzero`` and
    their like. Counting slows every call, so that a watch that counts tells no time.

    Args:
        counts: Whether it is to be entered, and count.
    """

    def __init__(self, counts: bool = False) -> None:
        super().__init__()
        self._counts = counts
        self.clock = RunClock()
        self.clock.hold()
        self.reads = 0
        self._on = False

    @contextmanager
    def running(self, on: bool = True) -> Iterator[None]:
        """Let it run for the duration of a block, or stand still where not ``on``."""
        before, self._on = self._on, on
        self._turn()
        try:
            yield
        finally:
            self._on = before
            self._turn()

    def _turn(self) -> None:
        if self._on and not self._counts:
            self.clock.go_on()
        else:
            self.clock.hold()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count what reads, while it runs."""
        self.reads += self._on and func in _READS
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Point:
    """An evaluation of the validation split, after so many seconds of training."""

    seconds: float
    loss: float
    metric: float


@dataclass(frozen=True)
class Course:
    """A training from its first evaluation to its last.

    Attributes:
        points: The evaluations.
        seconds: Of training, to its end.
        steps: Updates taken.
        trained_share: Examples trained on, of those considered.
    """

    points: tuple[Point, ...]
    seconds: float
    steps: int
    trained_share: float

    def until(self, target: float, metric: Metric) -> float | None:
        """Return the seconds at which a target was first seen reached, if ever."""
        sign = 1.0 if metric.higher_is_better else -1.0
        reached = (p.seconds for p in self.points if sign * (p.metric - target) >= 0)
        return next(reached, None)


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


class _Aside(Reporter):
    """A reporter that evaluates while the watch stands still."""

    watch: Watch

    def validation(self) -> EvalEvent:
        with self.watch.running(False):
            return super().validation()


def run_ours(config: RunConfig, watch: Watch) -> Course:
    """Train with our trainer, all that it reports included but the evaluations.

    Raises:
        ArithmeticError: The loss broke.
    """
    controls, points = Controls(), list[Point]()
    loop = Loop(config, controls, watch.clock)
    loop.reporter = _Aside(loop.chooser, loop.stepper, controls, loop.phases, config.learning_rate)
    loop.reporter.watch = watch
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


def quick_epochs(task: str, model: str | None) -> int:
    """Return a quarter of a model's usual passes, for a race of minutes.

    Raises:
        ConfigError: There is no such task or model.
    """
    return max(4, resolve({"task": task, "model": model, "selection": "dense"}).epochs // 4)


def peers(
    task: str,
    model: str | None,
    size: str | None,
    epochs: int | None,
    seeds: Sequence[int],
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
        say: Takes progress messages.

    Raises:
        ConfigError: A setting cannot be used.
        ArithmeticError: A run broke.
    """
    settings = {"task": task, "model": model, "size": size, "epochs": epochs}
    racing = entries({**settings, "device": "cpu", "threads": 1})
    reads = [reads_per_step(entry) for entry in racing]
    courses: list[list[Course]] = [[] for _ in racing]
    for place, seed in enumerate(seeds):
        for index, entry in list(enumerate(racing))[:: -1 if place % 2 else 1]:
            course = entry.run(replace(entry.config, seed=seed), Watch())
            courses[index].append(course)
            say(f"seed {seed} {entry.name} ({entry.side}): {course.seconds:.2f} s")
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


def peers_text(result: Mapping[str, Any]) -> str:
    """Return the result as Markdown: a table of all runs, and one of the ratios."""
    metric, seeds = result["metric"], result["seeds"]
    lines = [
        f"| method | side | seconds | {metric}, validation | seconds to target | trained on | "
        "host reads per step |",
        "|-|-|-|-|-|-|-|",
    ]
    lines += [_row_text(row) for row in result["rows"]]
    lines += ["", "| ours ÷ published | whole run | to target |", "|-|-|-|"]
    for name, ratios in result["ratios"].items():
        cells = [_ratio_text(ratios, kind) for kind in ("seconds", "seconds_to_target")]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    lines.append(
        f"\nMedians over {len(seeds)} seeds, ratios with 95% bootstrap interval; target: the dense "
        f"run's final {metric} less its margin of {result['margin']:g}; evaluations take no time. "
        "Composer selects in one batch of five, our policy beside it in all."
    )
    return "\n".join(lines)


def _row_text(row: Mapping[str, Any]) -> str:
    reached = [value for value in row["seconds_to_target"] if value is not None]
    of = f"({len(reached)} of {len(row['seconds_to_target'])})"
    cells = [
        row["name"],
        row["side"],
        f"{np.median(row['seconds']):.2f}",
        f"{np.median(row['metric']):.4f}",
        f"{np.median(reached):.2f} {of}" if reached else f"never {of}",
        f"{np.median(row['trained_share']):.1%}",
        f"{row['reads_per_step']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def _ratio_text(ratios: Mapping[str, Any], kind: str) -> str:
    known = [ratio for ratio in ratios[kind] if ratio is not None]
    if not known:
        return "–"
    interval = ratios[f"{kind}_interval"]
    return f"{np.median(known):.3f} n={len(known)}" if interval is None else str(interval)
