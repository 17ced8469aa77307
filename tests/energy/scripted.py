"""A source that answers from a script, and a clock that a test moves by hand."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from typing import Self

from effcore.energy.base import EnergySource, EnergyUnavailable, Reading
from effcore.events import Quality

Answer = Reading | Exception


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
    quality = Quality.MEASURED
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

    quality = Quality.ESTIMATED
    error_frac = 0.0


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
