"""What is seen of a training under a watch: its seconds, its evaluations, its reads of the host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    """Whether a call waits for the device on a GPU, since its result, or its shape, is read."""
    if func in _INDEXING:
        places = args[1] if isinstance(args[1], tuple) else (args[1],)
        return any(isinstance(p, torch.Tensor) and p.dtype is torch.bool for p in places)
    return func in _HOST_READS or (func is torch.where and len(args) == 1)


class HostSyncCounter(TorchFunctionMode):
    """Seconds of training and, where it is entered, reads of the host, evaluations left out.

    A read is a call that waits for the device on a GPU: ``item``, ``cpu``, ``nonzero``, a mask as
    an index and their like. Counting slows every call, so that a watch that counts tells no time.

    Args:
        counts: Whether it is to be entered, and count.
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
        """Let it run for the duration of a block, or stand still where not ``on``."""
        before, self._running = self._running, on
        self._update_clock()
        try:
            yield
        finally:
            self._running = before
            self._update_clock()

    def _update_clock(self) -> None:
        # Or work that still waits would be timed, or not timed, with what comes after it.
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        if self._running and not self._counts:
            self.clock.resume()
        else:
            self.clock.pause()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count what reads, while it runs."""
        self.reads += self._running and reads_host(func, args)
        return func(*args, **(kwargs or {}))


class UntimedReporter(Reporter):
    """A reporter that evaluates while the watch stands still."""

    counter: HostSyncCounter

    def validation_event(self) -> EvalEvent:
        """Evaluate; takes none of the time."""
        with self.counter.running(False):
            return super().validation_event()


R = TypeVar("R", bound=UntimedReporter)


def loop_with_counter(config: RunConfig, counter: HostSyncCounter, kind: type[R]) -> TrainingLoop:
    """Return a training whose time is the watch's, and that reports in its own way."""
    controls = Controls()
    loop = TrainingLoop(config, controls, counter.clock)
    reporter = kind(loop.sampler, loop.train_step, controls, loop.phase_clock, config.learning_rate)
    reporter.counter = counter
    loop.reporter = reporter
    return loop


@dataclass(frozen=True)
class EvaluationPoint:
    """An evaluation of the validation split, after so many seconds of training."""

    seconds: float
    loss: float
    metric: float


@dataclass(frozen=True)
class TrainingCurve:
    """A training from its first evaluation to its last.

    Attributes:
        points: The evaluations.
        seconds: Of training, to its end.
        steps: Updates taken.
        trained_share: Examples trained on, of those considered.
    """

    points: tuple[EvaluationPoint, ...]
    seconds: float
    steps: int
    trained_share: float

    def seconds_to_target(self, target: float, metric: Metric) -> float | None:
        """Return the seconds at which a target was first seen reached, if ever."""
        sign = 1.0 if metric.higher_is_better else -1.0
        reached = (p.seconds for p in self.points if sign * (p.metric - target) >= 0)
        return next(reached, None)
