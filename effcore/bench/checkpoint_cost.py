"""What checkpoints cost a run: alternating blocks with and without, and each one's size."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from effcore.bench.trainer_overhead import relative_slowdowns
from effcore.config import resolve
from effcore.records import RunConfig, StepEvent
from effcore.runs.resume import CHECKPOINT_INTERVAL_S, CheckpointSchedule
from effcore.store import RunWriter, Store
from effcore.store.checkpoint_file import CHECKPOINT_FILE
from effcore.studies.statistics import MedianInterval, median_interval
from effcore.training.trainer import Training, train

_ENDLESS_EPOCHS = 1000


class CheckpointCost(NamedTuple):
    """What was measured.

    Attributes:
        slower: Time per step with checkpoints over that without, less 1.
        waits_ms: How long training waits for one.
        size_bytes: What one takes on the disk.
    """

    slower: MedianInterval
    waits_ms: MedianInterval
    size_bytes: int


def measure_checkpoint_cost(
    task: str, selection: str, blocks: int, seconds: float, say: Callable[[str], None]
) -> CheckpointCost:
    """Measure two recorded runs in turn, of which only one is saved.

    Args:
        task: Id of the task, at its default size.
        selection: Id of the selection policy.
        blocks: Pairs of blocks, three at least; which of the two goes first alternates.
        seconds: Length of a block: of several times the time between two checkpoints.
        say: Takes progress messages.
    """
    config = resolve(
        {"task": task, "selection": selection, "epochs": _ENDLESS_EPOCHS, "device": "cpu"}
    )
    with tempfile.TemporaryDirectory() as name, closing(Store(Path(name))) as store:
        writers = [store.create_run(config) for _ in range(2)]
        waits: list[float] = []
        training = [train(config) for _ in writers]
        saved = _recorded_steps(
            training[0], writers[0], _timed_save(training[0], writers[0], config, waits)
        )
        plain = _recorded_steps(training[1], writers[1], lambda: None)
        values = []
        for block, value in enumerate(relative_slowdowns(saved, plain, blocks, seconds), 1):
            values.append(value)
            say(f"{task}: block {block}/{blocks} {value:+.2%}")
        for writer in writers:
            writer.close()
        size = (store.home / "runs" / writers[0].run_id / CHECKPOINT_FILE).stat().st_size
    return CheckpointCost(median_interval(values), median_interval([1000 * s for s in waits]), size)


def _recorded_steps(
    training: Training, writer: RunWriter, after_report: Callable[[], None]
) -> Iterator[StepEvent]:
    for event in training:
        writer.write_event(event)
        if isinstance(event, StepEvent):
            if event.pending == 0:
                after_report()
            yield event


def _timed_save(
    training: Training, writer: RunWriter, config: RunConfig, waits: list[float]
) -> Callable[[], None]:
    saving = CheckpointSchedule(config)

    def save() -> None:
        start = time.perf_counter()
        checkpoint = saving.checkpoint_if_due(training)
        if checkpoint is not None:
            writer.queue_checkpoint(checkpoint)
            waits.append(time.perf_counter() - start)

    return save


def checkpoint_cost_text(task: str, cost: CheckpointCost) -> str:
    """Say what was measured."""
    return (
        f"{task}: with a checkpoint every {CHECKPOINT_INTERVAL_S:g} s a step takes "
        f"{cost.slower.median:+.2%} "
        f"({cost.slower.lo:+.2%} to {cost.slower.hi:+.2%}) longer; training waits "
        f"{cost.waits_ms.median:.1f} ms ({cost.waits_ms.lo:.1f} to {cost.waits_ms.hi:.1f}) for one "
        f"of {cost.size_bytes / 2**20:.2f} MiB"
    )
