"""Time, evaluations and host synchronisations of a training run, for comparisons of speed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from effcore.knobs import Controls
from effcore.records import EvalEvent, RunConfig
from effcore.records.run_clock import RunClock
from effcore.tasks.base import Metric
from effcore.training.reporter import Reporter
from effcore.training.training_loop import TrainingLoop

_HOST_READS = frozenset(
    getattr(torch.Tensor, name)
    for name in (
        *("item", "tolist", "cpu", "nonzero", "masked_select", "unique"),
        *("__bool__", "__int__", "__float__", "__index__"),
    )
) | {torch.nonzero, torch.masked_select, torch.unique, torch.equal}

_INDEXING = (torch.Tensor.__getitem__, torch.Tensor.__setitem__)


def reads_host(func: Any, args: Sequence[Any]) -> bool:
    """Return whether a call makes the host wait for the GPU, to read a result or its shape."""
    if func in _INDEXING:
        indices = args[1] if isinstance(args[1], tuple) else (args[1],)
        return any(isinstance(i, torch.Tensor) and i.dtype is torch.bool for i in indices)
    return func in _HOST_READS or (func is torch.where and len(args) == 1)


class HostSyncCounter(TorchFunctionMode):
    """Training time, or the number of host reads, within :meth:`running`.

    A host read is a call that waits for a GPU, such as ``item``, ``cpu``, ``nonzero`` or a mask as
    an index. Reads are counted while the counter is entered with ``with``. Counting slows every
    call, so the clock of a counter that counts stays at zero.

    Args:
        counts: Whether to count reads instead of time.
    """

    def __init__(self, counts: bool = False) -> None:
        super().__init__()
        self._counts = counts
        self.clock = RunClock()
        self.clock.pause()
        self.reads = 0
        self._running = False

    @contextmanager
    def running(self, on: bool = True) -> Iterator[None]:
        """Run for the duration of a block, or pause if not ``on``."""
        was_running, self._running = self._running, on
        self._update_clock()
        try:
            yield
        finally:
            self._running = was_running
            self._update_clock()

    def _update_clock(self) -> None:
        # So that queued work is timed with the block that it belongs to.
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        if self._running and not self._counts:
            self.clock.resume()
        else:
            self.clock.pause()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count a call that reads from the device."""
        self.reads += self._running and reads_host(func, args)
        return func(*args, **(kwargs or {}))


class UntimedReporter(Reporter):
    """A reporter that pauses the counter during evaluations."""

    counter: HostSyncCounter

    def validation_event(self) -> EvalEvent:
        """Evaluate, untimed."""
        with self.counter.running(False):
            return super().validation_event()


R = TypeVar("R", bound=UntimedReporter)


def loop_with_counter(config: RunConfig, counter: HostSyncCounter, kind: type[R]) -> TrainingLoop:
    """Return a training loop with the counter's clock and a reporter of the given class."""
    controls = Controls()
    loop = TrainingLoop(config, controls, counter.clock)
    reporter = kind(loop.sampler, loop.train_step, controls, loop.phase_clock, config.learning_rate)
    reporter.counter = counter
    loop.reporter = reporter
    return loop


@dataclass(frozen=True)
class EvaluationPoint:
    """An evaluation on the validation split after some seconds of training."""

    seconds: float
    loss: float
    metric: float


@dataclass(frozen=True)
class TrainingCurve:
    """Evaluations, training time and amount of training of a run.

    ``trained_share`` is the number of examples trained on ÷ the number considered.
    """

    points: tuple[EvaluationPoint, ...]
    seconds: float
    steps: int
    trained_share: float

    def seconds_to_target(self, target: float, metric: Metric) -> float | None:
        """Return the seconds to the first evaluation that reached a target."""
        sign = metric.sign
        reached = (p.seconds for p in self.points if sign * (p.metric - target) >= 0)
        return next(reached, None)
