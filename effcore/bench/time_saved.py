"""How much of the skipped computation is saved as time, and what a policy costs of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from effcore.bench.host_sync_counter import HostSyncCounter, UntimedReporter, loop_with_counter
from effcore.config import resolve
from effcore.records import (
    EvalEvent,
    Event,
    LossHistogram,
    RunConfig,
    RunEnd,
    StepEvent,
    ViewEvent,
)
from effcore.studies.statistics import MedianInterval, median_interval

#: About so many seconds of dense training, before another run has its turn.
STRETCH_S = 0.25


class _UntimedViewReporter(UntimedReporter):
    """A reporter that draws, too, while the watch stands still: every arm does so alike."""

    def view_event(self) -> ViewEvent:
        """Draw; takes none of the time."""
        with self.counter.running(False):
            return super().view_event()

    def loss_histogram_at(self, threshold: torch.Tensor | None) -> LossHistogram:
        """Count the losses; takes none of the time."""
        with self.counter.running(False):
            return super().loss_histogram_at(threshold)


class TimedRun(NamedTuple):
    """A run's training time, s, without its evaluations and pictures, and how it ended."""

    seconds: float
    end: RunEnd


class _StretchedTraining:
    """A run that trains a stretch at a time, against a clock that stands still in between."""

    def __init__(self, config: RunConfig) -> None:
        self._config, self._counter = config, HostSyncCounter()
        self._events = loop_with_counter(config, self._counter, _UntimedViewReporter).run()
        self._seconds = 0.0
        self._last_event: Event | None = None

    def train_until(self, progress: float) -> None:
        """Train until so much of the run is behind."""
        with self._counter.running():
            for event in self._events:
                self._last_event = event
                if isinstance(event, EvalEvent):  # after the last one nothing is trained any more
                    self._seconds = self._counter.clock()
                elif isinstance(event, StepEvent) and event.progress >= progress:
                    return

    def train_to_end(self) -> TimedRun:
        """Train what is left.

        Raises:
            ArithmeticError: The run broke down.
        """
        self.train_until(math.inf)
        end, config = self._last_event, self._config
        if not isinstance(end, RunEnd) or end.metric is None:
            raise ArithmeticError(f"{config.selection}, seed {config.seed}: the run broke down")
        return TimedRun(self._seconds, end)


def time_run(config: RunConfig) -> TimedRun:
    """Train to the end against the clock.

    Raises:
        ArithmeticError: The run broke down.
    """
    return _StretchedTraining(config).train_to_end()


def time_side_by_side(configs: Mapping[str, RunConfig], stretches: int) -> dict[str, TimedRun]:
    """Train several runs at once, each so many stretches of equal progress, in turn.

    What slows the machine down for a second or more so slows all of them. Forwards and
    backwards in turn, so that none always follows the same one.

    Raises:
        ArithmeticError: A run broke down.
    """
    runs = {name: _StretchedTraining(config) for name, config in configs.items()}
    for stretch in range(1, stretches):
        for run in list(runs.values())[:: 1 if stretch % 2 else -1]:
            run.train_until(stretch / stretches)
    return {name: run.train_to_end() for name, run in runs.items()}


class PolicyTimeSaved(NamedTuple):
    """What a policy saves, in FLOPs and in time.

    Attributes:
        policy: Its id.
        skipped: Share of the dense FLOPs that it skipped.
        saved: Share of the dense time that it saved.
        ratio: The second over the first.
        own_cost: What a step takes longer than a dense one, as a share of that.
    """

    policy: str
    skipped: float
    saved: MedianInterval
    ratio: MedianInterval
    own_cost: MedianInterval


def measure_time_saved(
    task: str,
    model: str | None,
    policies: Sequence[str],
    settings: Mapping[str, Any],
    repeats: int,
    say: Callable[[str], None],
) -> list[PolicyTimeSaved]:
    """Train with each policy and densely, side by side, and compare the times.

    Args:
        task: Id of the task.
        model: Id of its model; the first where not given.
        policies: Ids of selection policies, at the task's default knobs.
        settings: What differs from the task's defaults, for all runs.
        repeats: Times that each is run, three at least.
        say: Takes progress messages.
    """
    base = {"device": "cpu", **settings, "task": task, "model": model}
    configs = {name: resolve({**base, "selection": name}) for name in ("dense", *policies)}
    runs: dict[str, list[TimedRun]] = {name: [] for name in configs}
    stretches = math.ceil(time_run(configs["dense"]).seconds / STRETCH_S)  # warm-up, too
    for repeat in range(repeats):
        for name, run in time_side_by_side(configs, stretches).items():
            runs[name].append(run)
        say(f"{task}: repeat {repeat + 1}/{repeats}")
    return [_policy_time_saved(name, runs[name], runs["dense"]) for name in policies]


def _policy_time_saved(
    policy: str, own: Sequence[TimedRun], dense: Sequence[TimedRun]
) -> PolicyTimeSaved:
    saved = [1.0 - a.seconds / b.seconds for a, b in zip(own, dense, strict=True)]
    skipped = own[0].end.skipped_compute_frac
    costs = [
        _seconds_per_example(a) / _seconds_per_example(b) - 1.0
        for a, b in zip(own, dense, strict=True)
    ]
    ratios = [share / skipped if skipped > 0 else 0.0 for share in saved]
    intervals = (median_interval(values) for values in (saved, ratios, costs))
    return PolicyTimeSaved(policy, skipped, *intervals)


def _seconds_per_example(run: TimedRun) -> float:
    return run.seconds / run.end.examples_trained


def time_saved_text(rows: Sequence[PolicyTimeSaved]) -> str:
    """Return the comparison as Markdown."""
    lines = [
        "| policy | compute skipped | time saved | time ÷ compute | a step takes longer by |",
        "|-|-|-|-|-|",
    ]
    for row in rows:
        lines.append(
            f"| {row.policy} | {row.skipped:.1%} | {_percent_interval(row.saved)} | "
            f"{row.ratio.median:.2f} ({row.ratio.lo:.2f} to {row.ratio.hi:.2f}) | "
            f"{_percent_interval(row.own_cost)} |"
        )
    return "\n".join(lines)


def _percent_interval(interval: MedianInterval) -> str:
    return f"{interval.median:.1%} ({interval.lo:.1%} to {interval.hi:.1%})"
