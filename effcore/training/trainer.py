"""The training loop: ``train(config, controls)`` yields events and touches nothing else.

    for epoch in epochs:
        decide which examples are drawn          <- selection policy, last losses
        for batch in full batches of the drawn examples:
            apply knob changes, decide the rest of the epoch again
            losses -> update                     <- update policy
            store the losses
            yield StepEvent
        yield EpochRecord
        at intervals: yield StepBlock, LossHistogram, EvalEvent, ViewEvent
    yield RunEnd

No thread is started, nothing is printed or written, and no step waits for the device:
losses stay on it and are copied once per block. The steps of this loop are methods of
:class:`effcore.training.training_loop.TrainingLoop`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from effcore.knobs import Controls
from effcore.records import Event, LossHistogram, RunConfig, RunStatus, StepBlock
from effcore.records.run_clock import RunClock
from effcore.training.checkpoint import Checkpoint
from effcore.training.reporter import NonFiniteLossError
from effcore.training.training_loop import TrainingLoop


class Training(Iterator[Event]):
    """A training in progress, as an iterator over its events; use it in one thread.

    Args:
        config: From :func:`effcore.config.resolve`.
        controls: Live knob changes and stop requests; read once per step.
        clock: Seconds since the run began; may stand still while paused.
        checkpoint: A checkpoint of a run of the same configuration, to resume from.
    """

    def __init__(
        self,
        config: RunConfig,
        controls: Controls,
        clock: Callable[[], float],
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._loop: TrainingLoop | None = None  # made at the first event, in the training thread
        self._events = self._train(config, controls, clock, checkpoint)

    def __next__(self) -> Event:
        """Train until the next event."""
        return next(self._events)

    def preview(self) -> LossHistogram | None:
        """Return the loss histogram with the threshold of the requested knob values.

        It changes nothing and its FLOPs are not counted. Call it between two events; ``None``
        before the first one.
        """
        return self._loop.preview_histogram() if self._loop is not None else None

    def checkpoint(self) -> Checkpoint | None:
        """Return a copy of the whole state, from which a training can resume.

        Call it after a :class:`StepEvent` with no pending steps; otherwise ``None``.
        """
        return self._loop.checkpoint() if self._loop is not None else None

    def _train(
        self,
        config: RunConfig,
        controls: Controls,
        clock: Callable[[], float],
        checkpoint: Checkpoint | None,
    ) -> Iterator[Event]:
        loop = self._loop = TrainingLoop(config, controls, clock, checkpoint)
        yield loop.run_start()
        try:
            yield from loop.run()
        except NonFiniteLossError as error:
            finite = error.block.rows[:, error.block.rows[0] < error.step]
            yield StepBlock(finite)
            yield loop.finish(RunStatus.FAILED, str(error))


def train(
    config: RunConfig,
    controls: Controls | None = None,
    clock: Callable[[], float] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Training:
    """Train as configured; yields a :class:`RunStart` first and a :class:`RunEnd` last.

    On a CPU the final parameters depend only on ``config`` and the knob changes, to the bit,
    however often the training was resumed from a checkpoint. The arguments are those of
    :class:`Training`; the first event raises ``CheckpointError`` if the checkpoint does not fit.
    """
    return Training(config, controls or Controls(), clock or RunClock(), checkpoint)
