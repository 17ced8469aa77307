"""Training time that policies save, beside the computation they skip and their own cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import click
import torch

from effcore.bench.command_line import (
    ProgressSink,
    bench,
    echo_progress,
    given_or_default,
    print_result,
    with_eta,
)
from effcore.bench.host_sync_counter import HostSyncCounter, UntimedReporter, loop_with_counter
from effcore.cli.knob_options import json_option
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
from effcore.records.settings import Settings
from effcore.studies.statistics import MedianInterval, median_interval

#: Approximate time of dense training until another run takes its turn, s.
STRETCH_S = 0.25


class _UntimedViewReporter(UntimedReporter):
    """A reporter that pauses the clock for views, too, which cost every policy the same."""

    def view_event(self) -> ViewEvent:
        """Draw a view, untimed."""
        with self.counter.running(False):
            return super().view_event()

    def loss_histogram_at(self, threshold: torch.Tensor | None) -> LossHistogram:
        """Count the losses, untimed."""
        with self.counter.running(False):
            return super().loss_histogram_at(threshold)


class TimedRun(NamedTuple):
    """Training time of a run, s, without evaluations and views, and the run's end."""

    seconds: float
    end: RunEnd


class _StretchedTraining:
    """A run that trains in stretches; its clock is paused in between."""

    def __init__(self, config: RunConfig) -> None:
        self._config, self._counter = config, HostSyncCounter()
        self._events = loop_with_counter(config, self._counter, _UntimedViewReporter).run()
        self._seconds = 0.0
        self._last_event: Event | None = None

    def train_until(self, progress: float) -> None:
        """Train up to a progress between 0 and 1."""
        with self._counter.running():
            for event in self._events:
                self._last_event = event
                if isinstance(event, EvalEvent):  # the last one follows the last step
                    self._seconds = self._counter.clock()
                elif isinstance(event, StepEvent) and event.progress >= progress:
                    return

    def train_to_end(self) -> TimedRun:
        """Train the rest of the run.

        Raises:
            ArithmeticError: The run broke down.
        """
        self.train_until(math.inf)
        end, config = self._last_event, self._config
        if not isinstance(end, RunEnd) or end.metric is None:
            raise ArithmeticError(f"{config.selection}, seed {config.seed}: the run broke down")
        return TimedRun(self._seconds, end)


def time_run(config: RunConfig) -> TimedRun:
    """Train to the end, timed.

    Raises:
        ArithmeticError: The run broke down.
    """
    return _StretchedTraining(config).train_to_end()


def time_side_by_side(configs: Mapping[str, RunConfig], stretches: int) -> dict[str, TimedRun]:
    """Train several runs in turn, each in as many stretches of equal progress.

    A machine that slows down for a second or more slows all of them alike. The order is reversed
    for every other stretch, so that no run always follows the same one.

    Raises:
        ArithmeticError: A run broke down.
    """
    runs = {name: _StretchedTraining(config) for name, config in configs.items()}
    for stretch in range(1, stretches):
        for run in list(runs.values())[:: 1 if stretch % 2 else -1]:
            run.train_until(stretch / stretches)
    return {name: run.train_to_end() for name, run in runs.items()}


class PolicyTimeSaved(NamedTuple):
    """Computation that a policy skips, and time that it saves.

    Attributes:
        policy: Id of the policy.
        skipped: Skipped share of the FLOPs of dense training.
        saved: Saved share of the time of dense training.
        ratio: ``saved`` ÷ ``skipped``.
        own_cost: How much longer an example takes than in dense training, as a fraction.
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
    settings: Settings,
    repeats: int,
    say: ProgressSink,
) -> list[PolicyTimeSaved]:
    """Train each selection policy and dense training side by side, and compare their times.

    ``settings`` are those of all runs that differ from the task's defaults; knobs have their
    default values. There must be at least three repeats.
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
    policy: str, runs: Sequence[TimedRun], dense_runs: Sequence[TimedRun]
) -> PolicyTimeSaved:
    pairs = list(zip(runs, dense_runs, strict=True))
    saved = [1.0 - run.seconds / dense.seconds for run, dense in pairs]
    skipped = runs[0].end.skipped_compute_frac
    costs = [_seconds_per_example(run) / _seconds_per_example(dense) - 1.0 for run, dense in pairs]
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


# Command ----------------------------------------------------------------------------------


@bench.command()
@click.option("--task", default="digits", help="Task, at its default size.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option(
    "--policies",
    default="random,confident-skip,auto,infobatch,stale-pps,el2n-pps",
    help="Selection policies, with commas.",
)
@click.option("--epochs", type=click.IntRange(1), help="Epochs of each run; 5 by default.")
@click.option("--repeats", type=click.IntRange(3), help="Runs of each policy; 5 by default.")
@click.option("--quick", is_flag=True, help="Two epochs, three repeats.")
@json_option
def realised(
    task: str,
    model: str | None,
    policies: str,
    epochs: int | None,
    repeats: int | None,
    quick: bool,
    as_json: bool,
) -> None:
    """Compare the time each policy saves with what it skips.

    Not resumable: only runs that take turns on one machine are comparable.
    """
    settings = {"epochs": given_or_default(epochs, quick, 2, 5)}
    repeats = given_or_default(repeats, quick, 3, 5)
    rows = measure_time_saved(
        task, model, policies.split(","), settings, repeats, with_eta(echo_progress, repeats)
    )
    record = {"task": task, "rows": [row._asdict() for row in rows]}
    print_result(record, as_json, time_saved_text(rows))
