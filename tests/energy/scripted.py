"""A source that answers from a script, and a clock that a test moves by hand."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from typing import Protocol, Self

from effcore.energy.scheduler import SchedulerThread
from effcore.energy.sources.base import (
    BoardState,
    EnergySource,
    EnergyUnavailable,
    Reading,
    SharedUse,
)
from effcore.records import EnergyQuality

Answer = Reading | Exception


class Passing(Protocol):
    """Anything with a time that can be moved."""

    t: float


class Clock:
    """A run clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Scripted(EnergySource):
    """Returns or raises the script's answers in turn; its thread practically never wakes."""

    id = "scripted"
    title = "Scripted"
    summary = "For tests."
    quality = EnergyQuality.MEASURED
    hz = 1e-6
    error_frac = 0.05

    def __init__(self, answers: Iterable[Answer] = ()) -> None:
        self.answers = list(answers)
        self.source, self.scope, self.notes = "script", "a bench", ("as told",)
        self.closed = 0

    @classmethod
    def open(cls, device: str) -> Self:
        return cls()

    def read(self) -> Reading:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed += 1


class Estimating(Scripted):
    """A source whose joules are an estimate, whatever its readings hold."""

    quality = EnergyQuality.ESTIMATED
    error_frac = 0.0


class Stepping(Scripted):
    """A source whose counter moves in steps."""

    times_counter_updates = True


class Steady(Scripted):
    """Answers 50 W for ever, 1 ms of its own time apart, and says when it has done so often."""

    hz = 1000.0

    def __init__(self, enough: int) -> None:
        super().__init__()
        self.reads, self.enough = 0, enough
        self.reached = threading.Event()

    def read(self) -> Reading:
        self.reads += 1
        if self.reads >= self.enough:
            self.reached.set()
        return measured(self.reads / 1000, 0.05 * self.reads, power_w=50.0)


class Stuck(Scripted):
    """Answers once; its second reading does not return before ``release`` is set."""

    hz = 1000.0

    def __init__(self) -> None:
        super().__init__([measured(0, 0)])
        self.entered, self.release = threading.Event(), threading.Event()

    def read(self) -> Reading:
        if self.answers:
            return super().read()
        self.entered.set()
        self.release.wait()
        return measured(60, 60)


def measured(t_mono: float, energy_j: float, power_w: float = math.nan) -> Reading:
    """Return a point reading."""
    return Reading.point(t_mono, power_w, energy_j)


def failure() -> EnergyUnavailable:
    """Return what a source raises when its instrument does not answer."""
    return EnergyUnavailable("the wire is cut", "mend it")


class Turns(SchedulerThread):
    """A sampler without a thread: takes a meter's turns in a time that a test passes.

    Args:
        turn: See :class:`SchedulerThread`.
        name: See :class:`SchedulerThread`.
        clock: The time, which it moves.
        late_s: Draws how late a turn is taken.
    """

    def __init__(
        self,
        turn: Callable[[], float | None],
        name: str,
        clock: Passing,
        late_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        super().__init__(turn, name)
        self._clock, self._late_s = clock, late_s
        self._due_s: float | None = 0.0

    def start(self) -> None:
        self._due_s = self._run_due_tasks()

    def wake(self) -> None:
        if self._due_s is not None:
            self._due_s = self._clock.t

    def pass_time(self, until_s: float) -> None:
        """Take all turns that are due by ``until_s``, and let it be that time."""
        self.wait_until(lambda: False, until_s - self._clock.t)

    def wait_until(self, done: Callable[[], bool], timeout_s: float) -> None:
        end_s = self._clock.t + timeout_s
        while not done() and self._due_s is not None and self._due_s <= end_s:
            self._clock.t = min(max(self._due_s, self._clock.t) + self._late_s(), end_s)
            self._due_s = self._run_due_tasks()
        if not done():
            self._clock.t = end_s

    def stop(self, timeout_s: float) -> None:
        self._due_s = None


class Board(Stepping):
    """A board in a test's time: draws ``watts``, counted in steps of 100 ms.

    Args:
        time: The time, which the test moves.
    """

    hz = 10.0
    state_hz = 1.0
    shared_use_hz = 0.2
    step_s = 0.1

    def __init__(self, time: Passing) -> None:
        super().__init__()
        self.time = time
        self.watts = 200.0
        self.offset_j = 5e5
        self.failing: Exception | None = None
        self.reasons: tuple[str, ...] = ()
        self.others = SharedUse(False, "")
        self.reads = 0
        self._drawn = [(0.0, 200.0)]

    def draw(self, watts: float) -> None:
        """Draw another power from now on."""
        self._drawn.append((self.time.t, watts))
        self.watts = watts

    def true_j(self, t: float) -> float:
        """Return what was drawn from 0 to ``t``."""
        ends = [*(since_s for since_s, _ in self._drawn[1:]), math.inf]
        return sum(
            watts * max(min(t, end_s) - since_s, 0.0)
            for (since_s, watts), end_s in zip(self._drawn, ends, strict=True)
        )

    def read(self) -> Reading:
        self.reads += 1
        if self.failing:
            raise self.failing
        stepped_s = math.floor(self.time.t / self.step_s + 1e-9) * self.step_s
        joules = self.offset_j + self.true_j(stepped_s)
        return Reading.point(self.time.t, self.watts, joules, self.watts, self.watts + 1)

    def state(self) -> BoardState:
        return BoardState(60.0, 1700.0, 700.0, self.reasons, 0.9, self.time.t)

    def shared_use(self) -> SharedUse:
        return self.others
