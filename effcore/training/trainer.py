"""The training loop: ``train(config, controls)`` yields events and touches nothing else.

    for pass in passes:
        decide who is drawn                      <- selection policy, last losses
        for batch in full batches of the drawn:
            take knob changes, re-decide the rest of the pass
            losses -> update                     <- update policy
            remember the losses
            yield StepEvent
        yield PassLosses
        now and then: yield StepBlock, LossHistogram, EvalEvent, ViewEvent
    yield RunEnd

No thread is started, nothing is printed or written, and no step waits for the device:
losses stay on it and are copied once a block. The lines of the loop are the methods of
:class:`effcore.training.training_loop.TrainingLoop`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from effcore.knobs import Controls
from effcore.records import Event, LossHistogram, RunConfig, RunStatus, StepBlock
from effcore.records.run_clock import RunClock
from effcore.training.checkpoint import Checkpoint
from effcore.training.step_buffer import NonFiniteLossError
from effcore.training.training_loop import TrainingLoop


class Training(Iterator[Event]):
    """A training under way; iterate over it for its events, all in one thread.

    Args:
        config: From :func:`effcore.config.resolve`.
        controls: Live knob changes and the wish to stop; read once per step.
        clock: Seconds since the run began; may stand still while paused.
        checkpoint: Of a run of the same configuration, to go on from.
    """

    def __init__(
        self,
        config: RunConfig,
        controls: Controls,
        clock: Callable[[], float],
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._loop: TrainingLoop | None = None  # made by the thread that trains, when it begins
        self._events = self._train(config, controls, clock, checkpoint)

    def __next__(self) -> Event:
        """Train on until there is something to say."""
        return next(self._events)

    def preview(self) -> LossHistogram | None:
        """Return where the knobs asked for would cut; changes nothing, and is not billed.

        For whoever holds the training between two events; ``None`` before it began.
        """
        return self._loop.preview_histogram() if self._loop is not None else None

    def checkpoint(self) -> Checkpoint | None:
        """Return the whole state of the training, copied, from which another can go on.

        For whoever holds it after a :class:`StepEvent` with nothing pending; else ``None``.
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

    On CPU the parameters depend on ``config`` and the knob changes alone, to the bit, however
    often the training was left and taken up from a checkpoint. The arguments are those of
    :class:`Training`; the first event raises ``CheckpointError`` where a checkpoint does not fit.
    """
    return Training(config, controls or Controls(), clock or RunClock(), checkpoint)
