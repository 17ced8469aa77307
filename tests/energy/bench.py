"""A board, its meter, and a time that tests pass."""

from __future__ import annotations

import time
from collections.abc import Callable

from effcore.energy.meter import RunMeter
from tests.energy.scripted import Board, Turns


class Time:
    t = 100.003


class Now:
    """The real time."""

    @property
    def t(self) -> float:
        return time.monotonic()

    @t.setter
    def t(self, value: float) -> None:
        raise AttributeError("time passes by itself")


class Quick(Board):
    """A board whose counter moves at every look."""

    step_s = 1e-6


class Bench:
    """A board, its meter, and the time that both live in."""

    def __init__(self) -> None:
        self.time = Time()
        self.board = Board(self.time)
        self.meter = RunMeter(
            self.board, lambda: self.time.t, make_scheduler=self._sampler, phases=True
        )

    def _sampler(self, turn: Callable[[], float | None], name: str) -> Turns:
        self.turns = Turns(turn, name, self.time)
        return self.turns

    def run_for(self, seconds: float) -> None:
        self.turns.pass_time(self.time.t + seconds)
