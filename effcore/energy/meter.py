"""A meter for one run, or for any training: joules of all of it, and of windows of it.

Readings are taken at the edges (start, pause, resume, stop, and those of windows) from
the calling thread, and by the meter's own thread at the source's ``hz`` in between. Where
a counter moves in steps, the thread times those beside the edges, so that nobody waits
for one but ``stop``, up to 150 ms.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Self, TypeAlias

import numpy as np

from effcore.energy.account import TRACE_COLUMNS, Span, joined
from effcore.energy.base import BoardState, EnergySource
from effcore.energy.baseline import same_instrument, with_idle
from effcore.energy.opening import open_first
from effcore.energy.sampler import Sampler
from effcore.energy.totals import energy_of, without
from effcore.energy.watch import MakeSampler, Watch
from effcore.events import POWER_COLUMNS, Energy, FloatArray, Quality
from effcore.series import Table

#: Longest time for which an idle board may be metered, s.
LONGEST_IDLE_S = 3600.0
#: Windows that have ended: by their names, and those of late, of whom more may be found out.
Ended: TypeAlias = tuple[Mapping[str, Span], tuple[Span, ...]]
FORKED = "this process was forked from the one that meters: meter in the process that trains"


class RunMeter:
    """Meters one run: ``start``, any number of ``pause`` and ``resume``, ``stop``.

    Or ``with`` it: started at the beginning of the block, stopped at its end.

    Every method may be called from any thread and none raises for what an instrument
    does: training goes on, and the joules say why they are missing.

    Args:
        source: The opened instrument, which the meter closes; ``None`` where there is none.
        clock: The run clock, s, pauses excluded; read from the meter's thread too.
        unavailable: Why there is no source, the first of it being said where there is no room.
        sampler: Makes the thread that takes the meter's turns.
        phases: Whether joules are to be attributed to phases, for which all steps of the
            counter are timed; else only those beside edges are.

    Attributes:
        table: Rows of ``POWER_COLUMNS``, one for each reading; of more than an hour, fewer
            of the older ones. Energies count from ``start`` without pauses; an estimate
            leaves the points NaN.
        trace: Rows of ``account.TRACE_COLUMNS``, one for each row of ``table``.
    """

    def __init__(
        self,
        source: EnergySource | None,
        clock: Callable[[], float],
        *unavailable: str,
        sampler: MakeSampler = Sampler,
        phases: bool = False,
    ) -> None:
        self._clock = clock
        self._unavailable = unavailable or ("no meter was opened",)
        self._watch = None if source is None else Watch(source, clock, sampler, phases)
        account = self._watch.account if self._watch else None
        self.table = account.table if account else Table(len(POWER_COLUMNS), 1)
        self.trace = account.trace if account else Table(len(TRACE_COLUMNS), 1)
        self._run = Span("run", self._tell)
        self._begun: list[Span] = []  # by their names, and not ended
        self._ended: Ended = ({}, ())
        self._idle: list[Energy | Span] = []
        self._started_s: float | None = None
        self._ended_s: float | None = None

    @classmethod
    def open(
        cls, device: str, clock: Callable[[], float] = time.monotonic, *, phases: bool = False
    ) -> Self:
        """Return a meter on the first source, by rank, that opens for ``device``."""
        source, reasons = open_first(device)
        return cls(source, clock, *reasons, phases=phases)

    @property
    def opened(self) -> bool:
        """Whether there is an instrument at all."""
        return self._watch is not None

    @property
    def stepwise(self) -> bool:
        """Whether it reads a counter that moves in steps of many ms."""
        return self._watch is not None and self._watch.source.ticks

    @property
    def measures(self) -> bool:
        """Whether its joules are measured, so that an idle reading of a second says much."""
        return self._watch is not None and self._watch.source.quality is Quality.MEASURED

    # A run ---------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, whatever went wrong."""
        self.stop()

    def start(self) -> None:
        """Take the first reading and start the thread; once only.

        Raises:
            RuntimeError: The meter was started before.
        """
        if self._started_s is not None:
            raise RuntimeError("this meter was started before; open a new one for each run")
        self._started_s = self._clock()
        if self._watch is not None:
            self._watch.account.spans.append(self._run)
            self.resume()
            self._watch.start()

    def pause(self) -> None:
        """Take an edge reading and count nothing until :meth:`resume`."""
        with self._held() as watch:
            if watch and watch.recorded:
                watch.take(closing=_held_with_the_run(watch))
                watch.recorded = None

    def resume(self) -> None:
        """Take an edge reading and count from it on."""
        with self._held() as watch:
            if watch and not watch.recorded and self._ended_s is None:
                watch.recorded = self._run
                watch.take(opening=_held_with_the_run(watch))

    def sample(self) -> None:
        """Take one reading now, unless paused or over; the thread does so at ``hz``."""
        if self._watch is not None:
            self._watch.sample()

    def stop(self) -> Energy:
        """Take a last edge reading, end the thread, close the source, return the joules.

        Waits up to 150 ms for a counter's next step. Further calls return the same again.
        """
        stopped: list[Span] = []
        with self._held() as watch:
            if watch and self._ended_s is None:
                stopped = list(watch.account.spans)
                if watch.account.active:
                    watch.take(closing=stopped)
                watch.recorded = None
                for span in stopped:
                    self._drop(watch, span)
            for span in tuple(self._begun):
                self._note_end(span)
            self._ended_s = self._clock() if self._ended_s is None else self._ended_s
        if self._watch is not None:
            self._watch.settle()
            self._watch.end()
            self._watch.close(self._run, stopped)
        return self.energy()

    def energy(self) -> Energy:
        """Return the joules so far; takes no reading and waits for nothing."""
        return self._tell(self._run)

    def state(self) -> BoardState | None:
        """Return what the board was doing about a second ago at most, while the meter runs.

        Its ``t`` says when; ``None`` where the source does not know.
        """
        return self._watch.account.state if self._watch else None

    def age_s(self) -> float:
        """Return how long ago the last reading was, s; NaN before the first."""
        return time.monotonic() - self._watch.account.read_s if self._watch else math.nan

    def ticks(self) -> FloatArray:
        """Return well-timed steps of the counter, shape (2, n): monotonic s, J.

        What phases are attributed from; empty where the counter does not move in steps. Of
        more than an hour, fewer of the older ones.
        """
        return self.ticks_since(0)[0]

    def ticks_since(self, step: int) -> tuple[FloatArray, int]:
        """Return the same from a step on, and how many there ever were; see ``Table.since``."""
        if self._watch is None:
            return np.empty((2, 0)), 0
        return self._watch.account.ticks.table.since(step)

    # Windows of it -------------------------------------------------------------------

    def begin(self, name: str, *, through_pauses: bool = False) -> Span:
        """Begin a window; any number may be open at a time. It ends with the run at last.

        Args:
            name: What it covers.
            through_pauses: Whether it goes on while the run is held.

        Raises:
            ValueError: A window of that name is open.
        """
        if any(other.name == name for other in self._begun):
            raise ValueError(f"name={name!r} is taken by an open window: end it, or choose another")
        self._fold()
        span = Span(name, self._tell, through_pauses)
        self._begun.append(span)
        self._open(span)
        return span

    def end(self, span: Span) -> Energy:
        """End a window and return its joules so far; ``span.energy()`` has them for good.

        A window that was ended before stays as it is.
        """
        self._close(span)
        self._note_end(span)
        return span.energy()

    @contextlib.contextmanager
    def window(self, name: str) -> Iterator[Span]:
        """Meter what is inside, as :meth:`begin` does; windows nest.

        At both ends the device is waited for, so that work that was only launched counts
        where it was launched.
        """
        self._finish_work()
        span = self.begin(name)
        try:
            yield span
        finally:
            self._finish_work()
            self.end(span)

    def windows(self) -> Mapping[str, Energy]:
        """Return the joules of the ended windows, those of one name taken together.

        Each is there, also where nothing could be metered; it then says why.
        """
        return {name: total.energy() for name, total in joined(*self._ended, self._tell).items()}

    def idle_baseline(self, seconds: float) -> Energy:
        """Meter an idle board for some seconds, which the caller waits; not part of the run.

        For the time before and after training, with what training allocates in place. The
        run's energy then says the idle power, which :func:`effcore.energy.baseline.dynamic`
        takes off.

        Raises:
            RuntimeError: The meter is not running.
            ValueError: That is no time to wait.
        """
        if not 0 <= seconds <= LONGEST_IDLE_S:
            raise ValueError(
                f"seconds={seconds!r} is not allowed: expected 0 to {LONGEST_IDLE_S:g}; 10 will do"
            )
        if self._started_s is None or self._ended_s is not None:
            raise RuntimeError("an idle baseline needs a meter that was started and not stopped")
        counting = self._watch is not None and self._watch.recorded is not None
        self._finish_work()
        self.pause()
        span = Span("idle", self._tell, through_pauses=True)
        try:
            self._open(span)
            if self._watch is not None:
                self._watch.wait(seconds)
            self._close(span)
            if self._watch is not None:
                self._watch.settle()
        finally:  # who interrupts the wait has the run go on
            self._close(span)
            if counting:
                self.resume()
        self._idle.append(span)
        return span.energy()

    def note_idle(self, idle: Energy) -> bool:
        """Take a reading by another meter, before the run or instead of the one after it.

        Returns whether it was by the same instrument; else it is left out.
        """
        fits = self._watch is not None and same_instrument(idle, self._watch.source)
        if fits:
            self._idle[1:] = [idle]
        return fits

    # What all of them need -----------------------------------------------------------

    @contextlib.contextmanager
    def _held(self) -> Iterator[Watch | None]:
        """Hold the instrument's lock; ``None`` where there is none, or it does not answer."""
        if self._watch is None:
            yield None
            return
        with self._watch.held() as account:
            yield self._watch if account else None

    def _open(self, span: Span) -> None:
        span.begun_s = self._clock()
        with self._held() as watch:
            if watch:
                watch.account.spans.append(span)
                if watch.recorded or span.through_pauses:
                    watch.take(opening=[span])

    def _close(self, span: Span) -> None:
        """End a window; one that was ended before stays as it is."""
        with self._held() as watch:
            if watch and span in watch.account.spans:
                if span.open:
                    watch.take(closing=[span])
                self._drop(watch, span)

    def _drop(self, watch: Watch, span: Span) -> None:
        watch.account.spans.remove(span)
        span.sealed = not watch.problem

    def _note_end(self, span: Span) -> None:
        """Count a window among the ended ones, whether it was metered or not."""
        if span in self._begun:
            self._begun.remove(span)
            span.lasted_s = self._clock() - span.begun_s
            if not span.sealed:  # its end was not read
                span.window = replace(span.window, void=span.window.void or self._problem())
            with self._held():
                totals, late = self._ended
                self._ended = (totals, (*late, span))

    def _fold(self) -> None:
        """Keep of windows that have ended what they come to, so that there may be many."""
        with self._held() as watch:
            if watch or self._watch is None:
                self._ended = (joined(*self._ended, self._tell), ())

    def _finish_work(self) -> None:
        if self._watch is not None and not self._watch.forked:
            self._watch.source.finish_work()

    def _tell(self, span: Span) -> Energy:
        """Return a window's joules, or why there are none, with the idle power beside them."""
        told = self._told(span)
        if span in self._idle or not self._idle:
            return told
        return with_idle(told, (i if isinstance(i, Energy) else self._told(i) for i in self._idle))

    def _told(self, span: Span) -> Energy:
        watch = self._watch
        if watch is None:
            return without(self._lasted_s(span), self._unavailable)
        problem = self._problem()
        energy = energy_of(span.window, watch.source)
        if not problem or span.sealed:
            return energy
        seconds = self._elapsed_s() if span is self._run else energy.seconds
        notes = tuple(note for note in energy.notes if note != problem)
        return without(seconds, (problem, *notes), watch.source)

    def _problem(self) -> str:
        """Return why nothing is read any more; empty where it is, or never was."""
        if self._watch is None:
            return ""
        return FORKED if self._watch.forked else self._watch.problem

    def _lasted_s(self, span: Span) -> float:
        """Return how long a window has been, by the clock alone."""
        if span is self._run:
            return self._elapsed_s()
        return self._clock() - span.begun_s if math.isnan(span.lasted_s) else span.lasted_s

    def _elapsed_s(self) -> float:
        if self._started_s is None:
            return 0.0
        end_s = self._clock() if self._ended_s is None else self._ended_s
        return end_s - self._started_s


def _held_with_the_run(watch: Watch) -> list[Span]:
    return [span for span in watch.account.spans if not span.through_pauses]
