"""Published methods against Effcore's policies: same task, model, schedule, seeds and machine.

Both sides train for all epochs, and are evaluated at the same progress while the clock is
paused. Effcore's side is its whole trainer, including views and histograms. The published side
is :mod:`effcore.bench.published_methods`, which draws nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from effcore.bench.eta import ProgressSink, with_eta
from effcore.bench.host_sync_counter import (
    EvaluationPoint,
    HostSyncCounter,
    TrainingCurve,
    UntimedReporter,
    loop_with_counter,
)
from effcore.bench.published_methods import (
    BaselineContext,
    CodedKakurenbo,
    ComposerSelectiveBackprop,
    PublishedInfoBatch,
    PublishedKakurenbo,
    PublishedMethod,
    PublishedSelectiveBackprop,
)
from effcore.config import resolve
from effcore.records import EvalEvent, RunConfig, RunEnd, RunStatus
from effcore.records.settings import Settings
from effcore.studies.statistics import MedianInterval, median_interval
from effcore.tasks.base import TASKS, Metric
from effcore.training.reporter import EVALUATIONS

#: Epochs of the runs in which host reads are counted; these runs also warm up.
_READ_COUNTING_EPOCHS = 3


@dataclass(frozen=True)
class BaselinePairing:
    """A published method and the policy of Effcore with the same settings.

    Attributes:
        name: Name of the pairing in results.
        make_published: Creates the published method.
        selection: Id of Effcore's policy.
        knobs: Knob values that set the policy to what was published, where its defaults differ.
    """

    name: str
    make_published: Callable[[BaselineContext], PublishedMethod]
    selection: str
    knobs: tuple[tuple[str, float], ...] = ()


#: Composer keeps half by rank to the power of 1, which is beta = 1, but not in every batch.
BASELINE_PAIRINGS = (
    BaselinePairing("infobatch", PublishedInfoBatch, "infobatch"),
    BaselinePairing(
        "selective-backprop", PublishedSelectiveBackprop, "selective-backprop", (("beta", 3.0),)
    ),
    BaselinePairing("composer", ComposerSelectiveBackprop, "selective-backprop", (("beta", 1.0),)),
    BaselinePairing("kakurenbo", PublishedKakurenbo, "kakurenbo", (("hidden_share", 0.3),)),
    BaselinePairing("kakurenbo-coded", CodedKakurenbo, "kakurenbo", (("hidden_share", 0.3),)),
)


@dataclass(frozen=True)
class BaselineRow:
    """Results of one side of a pairing, ``published`` or ``ours``; lists have a value per seed.

    ``metric`` is the final one on validation. ``seconds_to_target`` is ``None`` where the target
    was not reached. ``trained_share`` is of the examples considered.
    """

    name: str
    side: str
    seconds: list[float]
    metric: list[float]
    seconds_to_target: list[float | None]
    trained_share: list[float]
    steps: list[int]
    reads_per_step: float


@dataclass(frozen=True)
class SpeedRatios:
    """Time of Effcore's policy ÷ time of the published method, by seed.

    A ratio is ``None`` where a side missed the target, an interval for fewer than three ratios.
    """

    seconds: list[float | None]
    seconds_to_target: list[float | None]
    seconds_interval: MedianInterval | None
    seconds_to_target_interval: MedianInterval | None


@dataclass(frozen=True)
class BaselineComparison:
    """Results of dense training and of both sides of each pairing.

    ``targets`` holds the final metric of dense training less the margin, by seed; ``ratios`` the
    ratios by name of the pairing.
    """

    settings: dict[str, str | int]
    metric: str
    margin: float
    seeds: list[int]
    targets: list[float]
    rows: list[BaselineRow]
    ratios: dict[str, SpeedRatios]


@dataclass(frozen=True)
class BaselineEntry:
    """One side of a pairing, ready to train."""

    name: str
    side: str
    train: Callable[[RunConfig, HostSyncCounter], TrainingCurve]
    config: RunConfig


def train_published(
    make: Callable[[BaselineContext], PublishedMethod], config: RunConfig, counter: HostSyncCounter
) -> TrainingCurve:
    """Train a published method, evaluated at the same progress as Effcore's runs.

    Raises:
        ArithmeticError: The loss is not finite.
    """
    context = BaselineContext(config)
    method, due = make(context), 1 / EVALUATIONS
    points = [_evaluate_published(context, counter)]
    with counter.running():
        for progress in method.train():
            if progress >= due:
                due = (int(progress * EVALUATIONS) + 1) / EVALUATIONS
                with counter.running(False):
                    points.append(_evaluate_published(context, counter))
    points.append(_evaluate_published(context, counter))
    if not math.isfinite(points[-1].loss):
        raise ArithmeticError(
            f"{config.selection} as published, seed {config.seed}: the loss is not finite"
        )
    share = context.examples_trained / (config.epochs * context.n)
    return TrainingCurve(tuple(points), points[-1].seconds, context.steps, share)


def _evaluate_published(context: BaselineContext, counter: HostSyncCounter) -> EvaluationPoint:
    context.model.eval()
    with torch.inference_mode():
        loss, metric = torch.stack(
            list(context.task.evaluate(context.model, "validation"))
        ).tolist()
    context.model.train()
    return EvaluationPoint(counter.clock(), loss, metric)


def train_ours(config: RunConfig, counter: HostSyncCounter) -> TrainingCurve:
    """Train with Effcore's trainer; everything it reports but the evaluations is timed.

    Raises:
        ArithmeticError: The run failed.
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


def first_pairing_name(pairing: BaselinePairing) -> str:
    """Return the name of the first pairing with the same policy and knob values."""
    return next(
        other.name
        for other in BASELINE_PAIRINGS
        if (other.selection, other.knobs) == (pairing.selection, pairing.knobs)
    )


def baseline_entries(settings: Settings) -> list[BaselineEntry]:
    """Return dense training and both sides of each pairing, without repeating equal policies.

    Raises:
        ConfigError: A setting is not allowed.
    """
    dense = resolve({**settings, "selection": "dense"})
    entries = [BaselineEntry("dense", "ours", train_ours, dense)]
    for pairing in BASELINE_PAIRINGS:
        config = resolve({**settings, **dict(pairing.knobs), "selection": pairing.selection})
        train = partial(train_published, pairing.make_published)
        entries.append(BaselineEntry(pairing.name, "published", train, config))
        if first_pairing_name(pairing) == pairing.name:
            entries.append(BaselineEntry(pairing.name, "ours", train_ours, config))
    return entries


def host_reads_per_step(entry: BaselineEntry) -> float:
    """Count reads from the device in a short run, evaluations excluded; return them per step."""
    short = replace(entry.config, epochs=min(entry.config.epochs, _READ_COUNTING_EPOCHS))
    counter = HostSyncCounter(counts=True)
    with counter:
        steps = entry.train(short, counter).steps
    return counter.reads / steps


def compare_published_baselines(
    task: str,
    model: str | None,
    size: str | None,
    epochs: int | None,
    seeds: Sequence[int],
    device: str,
    say: ProgressSink,
) -> BaselineComparison:
    """Train each published method and Effcore's policy on the same seeds, and compare times.

    Only one run trains at a time, since times are compared. The order of the runs is reversed
    for every other seed, so that neither side always comes first.

    Raises:
        ConfigError: A setting is not allowed.
        ArithmeticError: A run failed.
    """
    settings = {"task": task, "model": model, "size": size, "epochs": epochs, "device": device}
    entries = baseline_entries({**settings, "threads": 1})
    reads = [host_reads_per_step(entry) for entry in entries]
    curves = _training_curves(entries, seeds, say)
    config, metric = entries[0].config, TASKS.get(task).metric
    sign = metric.sign
    targets = [dense.points[-1].metric - sign * metric.margin for dense in curves[0]]
    rows = [
        _baseline_row(*one, targets, metric) for one in zip(entries, reads, curves, strict=True)
    ]
    return BaselineComparison(
        settings={name: getattr(config, name) for name in settings},
        metric=metric.name,
        margin=metric.margin,
        seeds=list(seeds),
        targets=targets,
        rows=rows,
        ratios={pairing.name: _speed_ratios(pairing, rows) for pairing in BASELINE_PAIRINGS},
    )


def _training_curves(
    entries: Sequence[BaselineEntry], seeds: Sequence[int], say: ProgressSink
) -> list[list[TrainingCurve]]:
    """Train all entries, seed by seed; returns the curves of each entry."""
    curves: list[list[TrainingCurve]] = [[] for _ in entries]
    say = with_eta(say, len(entries) * len(seeds))
    for place, seed in enumerate(seeds):
        for index, entry in list(enumerate(entries))[:: -1 if place % 2 else 1]:
            curve = entry.train(replace(entry.config, seed=seed), HostSyncCounter())
            curves[index].append(curve)
            say(f"seed {seed} {entry.name} ({entry.side}): {curve.seconds:.2f} s")
    return curves


def _baseline_row(
    entry: BaselineEntry,
    reads: float,
    curves: Sequence[TrainingCurve],
    targets: Sequence[float],
    metric: Metric,
) -> BaselineRow:
    pairs = zip(curves, targets, strict=True)
    return BaselineRow(
        name=entry.name,
        side=entry.side,
        seconds=[curve.seconds for curve in curves],
        metric=[curve.points[-1].metric for curve in curves],
        seconds_to_target=[curve.seconds_to_target(target, metric) for curve, target in pairs],
        trained_share=[curve.trained_share for curve in curves],
        steps=[curve.steps for curve in curves],
        reads_per_step=reads,
    )


def _speed_ratios(pairing: BaselinePairing, rows: Sequence[BaselineRow]) -> SpeedRatios:
    by_key = {(row.name, row.side): row for row in rows}
    published, ours = by_key[pairing.name, "published"], by_key[first_pairing_name(pairing), "ours"]
    seconds = _ratios(ours.seconds, published.seconds)
    to_target = _ratios(ours.seconds_to_target, published.seconds_to_target)
    return SpeedRatios(seconds, to_target, _ratio_interval(seconds), _ratio_interval(to_target))


def _ratios(ours: Sequence[float | None], published: Sequence[float | None]) -> list[float | None]:
    pairs = zip(ours, published, strict=True)
    return [None if a is None or not b else a / b for a, b in pairs]


def _ratio_interval(ratios: Sequence[float | None]) -> MedianInterval | None:
    known = [ratio for ratio in ratios if ratio is not None]
    return median_interval(known) if len(known) >= 3 else None


def published_baselines_text(comparison: BaselineComparison) -> str:
    """Return the results as Markdown: a table of all rows, and one of the ratios."""
    metric = comparison.metric
    lines = [
        f"| method | side | seconds | {metric}, validation | seconds to target | trained on | "
        "host reads per step |",
        "|-|-|-|-|-|-|-|",
    ]
    lines += [_baseline_row_text(row) for row in comparison.rows]
    lines += ["", "| ours ÷ published | whole run | to target |", "|-|-|-|"]
    for name, ratios in comparison.ratios.items():
        whole = _ratio_text(ratios.seconds, ratios.seconds_interval)
        to_target = _ratio_text(ratios.seconds_to_target, ratios.seconds_to_target_interval)
        lines.append(f"| {name} | {whole} | {to_target} |")
    lines.append(
        f"\nMedians over {len(comparison.seeds)} seeds, ratios with 95% bootstrap interval. "
        f"Target: the final {metric} of dense training less its margin of {comparison.margin:g}. "
        "Evaluations are not timed. Composer selects in one batch of five, the policy beside it "
        "in all."
    )
    return "\n".join(lines)


def _baseline_row_text(row: BaselineRow) -> str:
    reached = [value for value in row.seconds_to_target if value is not None]
    count = f"({len(reached)} of {len(row.seconds_to_target)})"
    cells = [
        row.name,
        row.side,
        f"{np.median(row.seconds):.2f}",
        f"{np.median(row.metric):.4f}",
        f"{np.median(reached):.2f} {count}" if reached else f"never {count}",
        f"{np.median(row.trained_share):.1%}",
        f"{row.reads_per_step:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def _ratio_text(ratios: Sequence[float | None], interval: MedianInterval | None) -> str:
    known = [ratio for ratio in ratios if ratio is not None]
    if not known:
        return "–"
    return f"{np.median(known):.3f} n={len(known)}" if interval is None else str(interval)
