"""How much longer a step takes with the trainer, a policy, an energy meter or checkpoints.

Blocks of wall time with and without alternate, and so does which of the two comes first. A
machine that slows down slows both alike.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from effcore.bench.eta import ProgressSink, with_eta
from effcore.bench.reference_loop import reference_loop
from effcore.config import resolve
from effcore.energy.meter import RunMeter
from effcore.energy.sources.base import EnergySource
from effcore.knobs import Controls
from effcore.policies.selection.base import SELECTIONS
from effcore.records import Event, RunConfig, StepEvent
from effcore.records.run_clock import RunClock
from effcore.runs.resume import CHECKPOINT_INTERVAL_S, CheckpointSchedule
from effcore.store import RunWriter, Store
from effcore.store.checkpoint_file import CHECKPOINT_FILE
from effcore.studies.statistics import MedianInterval, median_interval
from effcore.training.reporter import EVALUATIONS
from effcore.training.trainer import Training, train
from effcore.training.training_loop import TrainingLoop

#: More epochs than any measurement lasts, so that no loop ends within a block.
_ENDLESS_EPOCHS = 1000


class TrainerSpeed(NamedTuple):
    """Speed of Effcore's trainer beside a hand-written loop.

    Attributes:
        ratio: Its steps per second ÷ the loop's, without evaluations.
        ratios: The ratio of each pair of blocks.
        steps_per_s: Its steps per second in the last block.
    """

    ratio: MedianInterval
    ratios: list[float]
    steps_per_s: float


class MeterSpeed(NamedTuple):
    """Speed of training beside an energy meter; the aim is a ratio of at least 0.995.

    Attributes:
        ratio: Steps per second with the meter ÷ without.
        ratios: The ratio of each pair of blocks.
        meter: Name of the energy source.
    """

    ratio: MedianInterval
    ratios: list[float]
    meter: str


class CheckpointCost(NamedTuple):
    """Cost of checkpoints.

    Attributes:
        slower: Time per step with checkpoints ÷ without, less 1.
        waits_ms: How long training waits for a checkpoint.
        size_bytes: Size of a checkpoint on disk.
    """

    slower: MedianInterval
    waits_ms: MedianInterval
    size_bytes: int


def steps_per_second(steps: Iterator[Any], seconds: float) -> float:
    """Advance ``steps`` for about ``seconds`` and return the rate."""
    start = time.perf_counter()
    count = 0
    while (elapsed := time.perf_counter() - start) < seconds:
        next(steps)
        count += 1
    return count / elapsed


def alternating_rates(
    own: Callable[[], float], other: Callable[[], float], blocks: int
) -> Iterator[tuple[float, float]]:
    """Yield the rates of two sides, block by block; which side comes first alternates."""
    for block in range(blocks):
        if block % 2 == 0:
            rate = own()
            yield rate, other()
        else:
            other_rate = other()
            yield own(), other_rate


def relative_slowdowns(
    own: Iterator[Any], other: Iterator[Any], blocks: int, seconds: float
) -> Iterator[float]:
    """Yield, block by block, how much longer a step of ``own`` takes, as a fraction."""
    measure_own = partial(steps_per_second, own, seconds)
    measure_other = partial(steps_per_second, other, seconds)
    measure_own(), measure_other()  # warm-up
    for rate, other_rate in alternating_rates(measure_own, measure_other, blocks):
        yield other_rate / rate - 1.0


def _endless_config(task: str, selection: str = "dense", device: str = "cpu") -> RunConfig:
    return resolve(
        {"task": task, "selection": selection, "epochs": _ENDLESS_EPOCHS, "device": device}
    )


class _PlaceholderLossLoop(TrainingLoop):
    """A run that begins with its first step; models of the policy's own are not trained."""

    def prepare_policy(self) -> Iterator[Event]:
        """Set all irreducible losses to 0, which costs a step as much as any other value."""
        if self.sampler.policy.needs_irreducible:
            self.sampler.memory["irreducible_N"] = torch.zeros_like(self.sampler.trained_N)
        yield from ()


def _trainer_steps(task: str, selection: str = "dense") -> Iterator[StepEvent]:
    loop = _PlaceholderLossLoop(_endless_config(task, selection), Controls(), RunClock())
    return (event for event in loop.run() if isinstance(event, StepEvent))


# The trainer and its policies ------------------------------------------------------------------


def trainer_speed_ratio(task: str, blocks: int, seconds: float, say: ProgressSink) -> TrainerSpeed:
    """Compare dense training with a hand-written loop, at the task's default size.

    Evaluations take next to no time in such long runs; see :func:`evaluation_time_share`.
    """
    measure_ours = partial(steps_per_second, _trainer_steps(task), seconds)
    measure_loop = partial(steps_per_second, reference_loop(_endless_config(task)), seconds)
    measure_ours(), measure_loop()  # warm-up
    ratios, say = [], with_eta(say, blocks)
    for ours, hand_written in alternating_rates(measure_ours, measure_loop, blocks):
        ratios.append(ours / hand_written)
        say(f"{task}: block {len(ratios)}/{blocks} ratio {ratios[-1]:.3f}")
    return TrainerSpeed(median_interval(ratios), ratios, ours)


def evaluation_time_share(task: str, steps_per_s: float) -> float:
    """Return what the evaluations of a default run add to its time, as a fraction.

    :func:`trainer_speed_ratio` leaves them out, since a hand-written loop would evaluate as well.
    """
    config = resolve({"task": task, "selection": "dense", "device": "cpu"})
    loop = TrainingLoop(config, Controls(), RunClock())
    loop.reporter.validation_event()  # warm-up
    start = time.perf_counter()
    for _ in range(EVALUATIONS):
        loop.reporter.validation_event()
    elapsed = time.perf_counter() - start
    steps = config.epochs * loop.n / config.batch_size
    return elapsed / (steps / steps_per_s)


def policy_step_costs(
    task: str, blocks: int, seconds: float, say: ProgressSink
) -> dict[str, MedianInterval]:
    """Return, by selection policy, how much longer a step takes than a dense one, as a fraction.

    The cost includes deciding, keeping losses and scoring candidates. It excludes models that a
    policy trains before the first step. Every step trains on a full batch.
    """
    names = [name for name in SELECTIONS.ids() if name != "dense"]
    costs: dict[str, MedianInterval] = {}
    say = with_eta(say, len(names))
    for name in names:
        own, dense = _trainer_steps(task, name), _trainer_steps(task)
        costs[name] = median_interval(list(relative_slowdowns(own, dense, blocks, seconds)))
        say(f"{task}: {name} {costs[name].median:+.1%}")
    return costs


def policy_step_costs_text(costs: Mapping[str, MedianInterval]) -> str:
    """Return the policies' own costs as Markdown."""
    lines = ["| policy | a step takes longer by |", "|-|-|"]
    lines += [
        f"| `{name}` | {cost.median:+.1%} ({cost.lo:+.1%} to {cost.hi:+.1%}) |"
        for name, cost in costs.items()
    ]
    return "\n".join(lines)


# The energy meter ------------------------------------------------------------------------------


def meter_speed_ratio(
    task: str,
    blocks: int,
    seconds: float,
    say: ProgressSink,
    device: str = "cpu",
    open_source: Callable[[], EnergySource] | None = None,
) -> MeterSpeed:
    """Compare dense training with and without a meter beside it, at the task's default size.

    One loop trains through all blocks. The meter starts and stops between them, outside the
    clock. By default it is the best one of the device.

    Raises:
        RuntimeError: Nothing meters the device.
    """
    measure_plain = partial(
        steps_per_second, reference_loop(_endless_config(task, device=device)), seconds
    )
    ratios: list[float] = []
    source = ""

    def measure_metered() -> float:
        nonlocal source
        meter = _open_meter(device, open_source)
        meter.start()
        try:
            return measure_plain()
        finally:
            meter.stop()
            source = meter.energy().source

    measure_plain()  # warm-up
    for metered, plain in alternating_rates(measure_metered, measure_plain, blocks):
        ratios.append(metered / plain)
        say(f"{task}: block {len(ratios)}/{blocks} ratio {ratios[-1]:.4f}")
    return MeterSpeed(median_interval(ratios), ratios, source)


def _open_meter(device: str, open_source: Callable[[], EnergySource] | None) -> RunMeter:
    if open_source is not None:
        return RunMeter(open_source(), RunClock())
    meter = RunMeter.open(device, RunClock())
    if not meter.has_source:
        raise RuntimeError(f"nothing meters {device!r}: {'; '.join(meter.energy().notes)}")
    return meter


# Checkpoints -----------------------------------------------------------------------------------


def measure_checkpoint_cost(
    task: str, selection: str, blocks: int, seconds: float, say: ProgressSink
) -> CheckpointCost:
    """Compare two recorded runs, of which one saves checkpoints, at the task's default size.

    A block must last several times the interval between checkpoints.
    """
    config = _endless_config(task, selection)
    with tempfile.TemporaryDirectory() as home, closing(Store(Path(home))) as store:
        writers = [store.create_run(config) for _ in range(2)]
        trainings = [train(config) for _ in writers]
        waits_s: list[float] = []
        saved = _recorded_steps(trainings[0], writers[0], CheckpointSchedule(config), waits_s)
        plain = _recorded_steps(trainings[1], writers[1], None, waits_s)
        slowdowns = []
        for slowdown in relative_slowdowns(saved, plain, blocks, seconds):
            slowdowns.append(slowdown)
            say(f"{task}: block {len(slowdowns)}/{blocks} {slowdown:+.2%}")
        for writer in writers:
            writer.close()
        size = (store.home / "runs" / writers[0].run_id / CHECKPOINT_FILE).stat().st_size
    waits_ms = median_interval([1000 * wait for wait in waits_s])
    return CheckpointCost(median_interval(slowdowns), waits_ms, size)


def _recorded_steps(
    training: Training,
    writer: RunWriter,
    schedule: CheckpointSchedule | None,
    waits_s: list[float],
) -> Iterator[StepEvent]:
    """Yield the steps of a recorded run; each wait for a checkpoint is appended to ``waits_s``."""
    for event in training:
        writer.write_event(event)
        if not isinstance(event, StepEvent):
            continue
        if schedule is not None and event.pending == 0:
            start = time.perf_counter()
            checkpoint = schedule.checkpoint_if_due(training)
            if checkpoint is not None:
                writer.queue_checkpoint(checkpoint)
                waits_s.append(time.perf_counter() - start)
        yield event


def checkpoint_cost_text(task: str, cost: CheckpointCost) -> str:
    """Describe the cost of checkpoints in one sentence."""
    return (
        f"{task}: with a checkpoint every {CHECKPOINT_INTERVAL_S:g} s a step takes "
        f"{cost.slower.median:+.2%} "
        f"({cost.slower.lo:+.2%} to {cost.slower.hi:+.2%}) longer; training waits "
        f"{cost.waits_ms.median:.1f} ms ({cost.waits_ms.lo:.1f} to {cost.waits_ms.hi:.1f}) for one "
        f"of {cost.size_bytes / 2**20:.2f} MiB"
    )
