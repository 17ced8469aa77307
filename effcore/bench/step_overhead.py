"""Overhead per step of the trainer, policies, meter, checkpoints and viewers.

Blocks of wall time with and without alternate, and so does which of the two comes first. A
machine that slows down slows both alike.

As in the app, the run, the live routes and their server share a process. The viewers are
WebSocket clients in another process, so that only the server's part of their cost is measured.
Run as a script, this module is that process.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch
import uvicorn
from starlette.applications import Starlette
from websockets.asyncio.client import connect

from effcore.bench.app_server import free_port
from effcore.bench.command_line import (
    ProgressSink,
    bench,
    echo_progress,
    given_or_default,
    parse_whole_numbers,
    print_result,
    seconds_option,
    with_eta,
)
from effcore.cli.knob_options import json_option
from effcore.config import resolve
from effcore.energy.meter import RunMeter
from effcore.energy.sources.base import EnergySource
from effcore.knobs import Controls
from effcore.live.routes import live_routes
from effcore.policies.selection.base import SELECTIONS
from effcore.records import Event, RunConfig, StepEvent
from effcore.records.run_clock import RunClock
from effcore.runs.manager import RunManager
from effcore.runs.resume import CHECKPOINT_INTERVAL_S, CheckpointSchedule
from effcore.runs.run import Run
from effcore.store import RunWriter, Store
from effcore.store.checkpoint_file import CHECKPOINT_FILE
from effcore.studies.statistics import MedianInterval, median_interval
from effcore.tasks.base import make_model, make_task
from effcore.training.epoch_sampler import SEED_STRIDE
from effcore.training.optimizer import learning_rate_factor, make_optimizer
from effcore.training.reporter import EVALUATIONS
from effcore.training.trainer import Training, train
from effcore.training.training_loop import TrainingLoop

# A hand-written loop ----------------------------------------------------------------------


def reference_loop(config: RunConfig, until: int | None = None) -> Iterator[torch.nn.Module]:
    """Train for all epochs, or ``until`` a step; yields the model after each step."""
    torch.set_num_threads(config.threads)
    device = torch.device(config.device)
    task = make_task(config)
    model = make_model(task, config)
    optimizer = make_optimizer(config, model)
    augment = torch.Generator(device=device).manual_seed(config.seed)
    last_loss = torch.full((task.n_train,), torch.inf, device=device)
    total = config.epochs * task.n_train
    left = torch.empty(0, dtype=torch.int64, device=device)
    done = 0
    for index in range(config.epochs):
        order = torch.Generator(device=device).manual_seed(config.seed * SEED_STRIDE + index)
        queue = torch.cat([left, torch.randperm(task.n_train, generator=order, device=device)])
        whole = len(queue) // config.batch_size * config.batch_size
        left = queue[whole:]
        for batch in torch.split(queue[:whole], config.batch_size):
            middle = (done + 0.5) * config.batch_size / total
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * learning_rate_factor(middle)
            inputs, targets = task.batch(batch, augment)
            losses = task.losses(model(inputs), targets)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(losses.mean())
            optimizer.step()
            last_loss[batch] = losses.detach()
            done += 1
            yield model
            if done == until:
                return


# Alternating blocks -----------------------------------------------------------------------


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


# Viewers ----------------------------------------------------------------------------------


def viewer_speed_ratios(
    task: str, counts: tuple[int, ...], blocks: int, seconds: float, say: ProgressSink
) -> dict[int, MedianInterval]:
    """Return, for each number of viewers, the ratio of steps per second to that with none.

    Each round of blocks measures every number of viewers and none, in random order.
    """
    order = random.Random(0)
    ratios: dict[int, list[float]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as home:
        runs = RunManager(Store(Path(home)))
        run = runs.start(resolve({"task": task, "epochs": _ENDLESS_EPOCHS, "device": "cpu"}))[-1]
        gc.collect()
        gc.freeze()  # as the app does after its imports
        with _serve_live_routes(runs) as address:
            viewers = _ViewerProcess(address, run.run_id)
            run.join(seconds)  # warm-up
            for block in range(blocks):
                rates: dict[int, float] = {}
                for count in order.sample([0, *counts], len(counts) + 1):
                    viewers.set_count(count)
                    rates[count] = _step_rate(run, seconds)
                for count in counts:
                    ratios[count].append(rates[count] / rates[0])
                say(f"block {block + 1}/{blocks}: " + str({k: round(v) for k, v in rates.items()}))
            viewers.close()
        runs.stop_all()
        runs.store.close()
    return {count: median_interval(values) for count, values in ratios.items()}


def _step_rate(run: Run, seconds: float) -> float:
    """Return the run's steps per second over the next ``seconds``, by its own clock."""
    before = run.snapshot().steps[:, -1]
    if run.join(seconds):
        raise RuntimeError(f"the run ended during the measurement: {run.snapshot().reason}")
    after = run.snapshot().steps[:, -1]
    return float((after[0] - before[0]) / (after[3] - before[3]))


@contextlib.contextmanager
def _serve_live_routes(runs: RunManager) -> Iterator[str]:
    """Serve the live routes on a free port; yields ``host:port``."""
    port = free_port()
    app = Starlette(routes=live_routes(runs))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", ws="websockets"))
    thread = threading.Thread(target=server.run, name="bench-server", daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(5)


class _ViewerProcess:
    """A process with a variable number of viewers of a run."""

    def __init__(self, address: str, run_id: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "effcore.bench.step_overhead", address, run_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def set_count(self, count: int) -> None:
        """Wait until this many viewers are connected."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if answer != str(count):
            raise RuntimeError(f"asked for {count} viewers and got {answer or 'no answer'!r}")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


async def _view_run(address: str, run_id: str, first_frame: asyncio.Event) -> None:
    """Receive the frames of a run until cancelled."""
    url = f"ws://{address}/api/live?run={run_id}"
    async with connect(url, max_size=None, compression=None) as socket:
        async for _ in socket:
            first_frame.set()


async def _keep_viewers(address: str, run_id: str) -> None:
    """Keep as many viewers as the last line of standard input says; answer each line."""
    viewers: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        count = int(line)
        for viewer in viewers[count:]:
            viewer.cancel()
        await asyncio.gather(*viewers[count:], return_exceptions=True)
        viewers = viewers[:count]
        first_frames = [asyncio.Event() for _ in range(count - len(viewers))]
        viewers += [asyncio.create_task(_view_run(address, run_id, e)) for e in first_frames]
        await asyncio.gather(*(event.wait() for event in first_frames))
        sys.stdout.write(f"{count}\n")
        sys.stdout.flush()
    for viewer in viewers:
        viewer.cancel()
    await asyncio.gather(*viewers, return_exceptions=True)


# Commands ---------------------------------------------------------------------------------


@bench.command()
@click.option("--task", default="digits", help="Task, at its default size.")
@click.option("--blocks", type=click.IntRange(3), help="Pairs of blocks; 20 by default.")
@seconds_option(None)
@click.option("--policies", is_flag=True, help="Measure what each policy adds to a step instead.")
@click.option("--quick", is_flag=True, help="Three pairs of blocks of half a second.")
@json_option
def overhead(
    task: str,
    blocks: int | None,
    seconds: float | None,
    policies: bool,
    quick: bool,
    as_json: bool,
) -> None:
    """Measure what the trainer or each policy adds to a step.

    The trainer is compared with a hand-written loop, and policies with dense training.

    Not resumable: only blocks that follow each other directly are comparable.
    """
    blocks = given_or_default(blocks, quick, 3, 20)
    seconds = given_or_default(seconds, quick, 0.5, 5.0)
    if policies:
        costs = policy_step_costs(task, blocks, seconds, echo_progress)
        record = {"task": task, "costs": costs, "seconds": seconds}
        print_result(record, as_json, policy_step_costs_text(costs))
        return
    speed = trainer_speed_ratio(task, blocks, seconds, echo_progress)
    share = evaluation_time_share(task, speed.steps_per_s)
    text = f"{task}: trainer ÷ hand-written loop = {speed.ratio}"
    text += f"\nevaluations, left out of both, add {share:.1%} to a default run"
    record = {"task": task, "ratio": speed.ratio, "ratios": speed.ratios, "seconds": seconds}
    print_result({**record, "evaluation_share": share}, as_json, text)


@bench.command()
@click.option("--task", default="digits", help="Task, at its default size.")
@click.option("--policy", "selection", default="stale-pps", help="Selection policy.")
@click.option("--blocks", default=10, type=click.IntRange(3), help="Pairs of alternating blocks.")
@click.option("--seconds", default=15.0, help="Length of a block.")
@json_option
def checkpoints(task: str, as_json: bool, **options: Any) -> None:
    """Measure the cost and the size of checkpoints.

    Not resumable: only blocks that follow each other directly are comparable.
    """
    cost = measure_checkpoint_cost(task, say=echo_progress, **options)
    print_result({"task": task, **cost._asdict()}, as_json, checkpoint_cost_text(task, cost))


@bench.command()
@click.option("--task", default="digits", help="Task, trained densely at its default size.")
@click.option("--blocks", default=20, type=click.IntRange(3), help="Pairs of alternating blocks.")
@seconds_option(5.0)
@click.option("--device", default="cpu", help="cpu, cuda or cuda:N.")
@json_option
def sampler(task: str, blocks: int, seconds: float, device: str, as_json: bool) -> None:
    """Measure what the energy meter costs the trainer.

    The ratio of steps per second with and without it should be at least 0.995. Not resumable.
    """
    speed = meter_speed_ratio(task, blocks, seconds, with_eta(echo_progress, blocks), device)
    text = f"{task}, {speed.meter}: metered ÷ not = {speed.ratio}"
    print_result({"task": task, **speed._asdict()}, as_json, text)


@bench.command()
@click.option("--task", default="photo", help="Task, at its default size.")
@click.option(
    "--counts", default="1,5,20", callback=parse_whole_numbers, help="Viewers, with commas."
)
@click.option("--blocks", default=20, type=click.IntRange(3), help="Rounds of alternating blocks.")
@seconds_option(5.0)
@json_option
def viewers(task: str, counts: tuple[int, ...], blocks: int, seconds: float, as_json: bool) -> None:
    """Measure what viewers cost the trainer.

    Viewers are WebSocket clients at 10 Hz. Steps per second are relative to those with no viewer.
    Not resumable.
    """
    ratios = viewer_speed_ratios(task, counts, blocks, seconds, with_eta(echo_progress, blocks))
    text = "\n".join(f"{count} viewers: {interval}" for count, interval in ratios.items())
    print_result({"task": task, "ratios": ratios, "seconds": seconds}, as_json, text)


if __name__ == "__main__":
    asyncio.run(_keep_viewers(sys.argv[1], sys.argv[2]))
