"""One run's meter: a thread that reads a source, and the joules that come of it.

Readings are taken at the edges (start, pause, resume, stop, and those of windows) from
the calling thread, and by the meter's own thread at the source's ``hz`` in between. Where
a counter moves in steps, the thread times those beside the edges, so that nobody waits
for one but ``stop``, up to 150 ms.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from effcore.energy.account import TRACE_COLUMNS, Account, Span, joined
from effcore.energy.base import (
    SOURCES,
    BoardState,
    EnergySource,
    EnergyUnavailable,
    fault_words,
)
from effcore.energy.sampler import Lane, Sampler
from effcore.energy.ticks import EDGE_S, POLL_S
from effcore.energy.totals import energy_of, without
from effcore.events import POWER_COLUMNS, Energy, FloatArray
from effcore.series import Table

#: After so many failed readings in a row the meter gives up.
MAX_FAILURES = 3
#: An instrument that takes longer to answer is given up, so that it cannot hold up a run.
STALL_S = 5.0
FORKED = "this process was forked from the one that meters: meter in the process that trains"


class RunMeter:
    """Meters one run: ``start``, any number of ``pause`` and ``resume``, ``stop``.

    Every method may be called from any thread and none raises for what an instrument
    does: training goes on, and the joules say why they are missing.

    Args:
        source: The opened instrument, which the meter closes; ``None`` where there is none.
        clock: The run clock, s, pauses excluded; read from the meter's thread too.
        unavailable: Why there is no source.
        sampler: Makes the thread that takes the meter's turns.
        phases: Whether joules are to be attributed to phases, for which all steps of the
            counter are timed; else only those beside edges are.

    Attributes:
        table: Rows of ``POWER_COLUMNS``, one for each reading. Energies count from
            ``start`` without pauses; an estimate leaves the points NaN.
        trace: Rows of ``account.TRACE_COLUMNS``, one for each row of ``table``.
    """

    def __init__(
        self,
        source: EnergySource | None,
        clock: Callable[[], float],
        unavailable: str = "no meter was opened",
        sampler: Callable[[Callable[[], float | None], str], Sampler] = Sampler,
        phases: bool = False,
    ) -> None:
        self._source = source
        self._clock = clock
        self._problem = unavailable if source is None else ""
        self._account = Account(source, clock, phases) if source is not None else None
        self.table = self._account.table if self._account else Table(len(POWER_COLUMNS), 1)
        self.trace = self._account.trace if self._account else Table(len(TRACE_COLUMNS), 1)
        self._make_sampler = sampler
        self._sampler: Sampler | None = None
        self._lanes: list[Lane] = []
        self._pid = os.getpid()
        self._lock = threading.RLock()  # held during a reading, so that readings keep order
        self._run = Span("run", self._tell)
        self._ended: list[Span] = []
        self._counting = self._over = self._stalled = self._closed = False
        self._started_s: float | None = None
        self._ended_s: float | None = None

    @classmethod
    def open(cls, device: str, clock: Callable[[], float], *, phases: bool = False) -> RunMeter:
        """Return a meter on the first source, by rank, that opens for ``device``."""
        reasons = []
        for kind in SOURCES:
            try:
                return cls(kind.open(device), clock, phases=phases)
            except EnergyUnavailable as refusal:
                reasons.append(f"{kind.title}: {refusal}")
            except Exception as error:  # a fault of one source must not cost the run
                reasons.append(f"{kind.title}: {type(error).__name__}: {fault_words(error)}")
        return cls(None, clock, " · ".join(reasons))

    @property
    def opened(self) -> bool:
        """Whether there is an instrument at all."""
        return self._source is not None

    @property
    def stepwise(self) -> bool:
        """Whether it reads a counter that moves in steps of many ms."""
        return self._source is not None and self._source.ticks

    # A run ---------------------------------------------------------------------------

    def start(self) -> None:
        """Take the first reading and start the thread; once only.

        Raises:
            RuntimeError: The meter was started before.
        """
        if self._started_s is not None:
            raise RuntimeError("this meter was started before; open a new one for each run")
        self._started_s = self._clock()
        if self._source is None or self._account is None:
            return
        self._account.spans.append(self._run)
        self.resume()
        self._lanes = list(self._make_lanes(self._source, time.monotonic()))
        self._sampler = self._make_sampler(self._turn, f"power-{self._source.id}")
        self._sampler.start()

    def pause(self) -> None:
        """Take an edge reading and count nothing until :meth:`resume`."""
        with self._held() as account:
            if account and self._counting:
                self._take(closing=[s for s in account.spans if not s.through_pauses])
                self._counting = False

    def resume(self) -> None:
        """Take an edge reading and count from it on."""
        with self._held() as account:
            if account and not self._counting and self._ended_s is None:
                self._counting = True
                self._take(opening=[s for s in account.spans if not s.through_pauses])

    def sample(self) -> None:
        """Take one reading now, unless paused or over; the thread does so at ``hz``."""
        with self._held() as account:
            if account and account.active:
                self._take()

    def stop(self) -> Energy:
        """Take a last edge reading, end the thread, close the source, return the joules.

        Waits up to 150 ms for a counter's next step. Further calls return the same again.
        """
        stopped: list[Span] = []
        with self._held() as account:
            if account and self._ended_s is None:
                stopped = list(account.spans)
                if account.active:
                    self._take(closing=stopped)
                self._counting = False
                for span in stopped:
                    self._drop(span)
            self._ended_s = self._clock() if self._ended_s is None else self._ended_s
        self._settle()
        self._over = True
        if self._sampler is not None and not self._forked:
            self._sampler.end(0 if self._stalled else STALL_S)
        self._finish(stopped)
        return self.energy()

    def energy(self) -> Energy:
        """Return the joules so far; takes no reading and waits for nothing."""
        return self._tell(self._run)

    def state(self) -> BoardState | None:
        """Return what the board was doing about a second ago at most, while the meter runs.

        Its ``t`` says when; ``None`` where the source does not know.
        """
        return self._account.state if self._account else None

    def ticks(self) -> FloatArray:
        """Return well-timed steps of the counter, shape (2, n): monotonic s, J.

        What phases are attributed from; empty where the counter does not move in steps.
        """
        return self._account.ticks.table.view() if self._account else np.empty((2, 0))

    # Windows of it -------------------------------------------------------------------

    def begin(self, name: str, *, through_pauses: bool = False) -> Span:
        """Begin a window; any number may be open at a time. It ends with the run at last.

        Args:
            name: What it covers.
            through_pauses: Whether it goes on while the run is held.

        Raises:
            ValueError: A window of that name is open.
        """
        span = Span(name, self._tell, through_pauses)
        with self._held() as account:
            if account:
                if any(other.name == name for other in account.spans):
                    raise ValueError(
                        f"name={name!r} is taken by an open window: end it, or choose another"
                    )
                account.spans.append(span)
                if self._counting or through_pauses:
                    self._take(opening=[span])
        return span

    def end(self, span: Span) -> Energy:
        """End a window and return its joules so far; ``span.energy()`` has them for good.

        A window that was ended before stays as it is.
        """
        with self._held() as account:
            if account and span in account.spans:
                if span.open:
                    self._take(closing=[span])
                self._drop(span)
        return span.energy()

    @contextlib.contextmanager
    def window(self, name: str) -> Iterator[Span]:
        """Meter what is inside; see :meth:`begin`."""
        span = self.begin(name)
        try:
            yield span
        finally:
            self.end(span)

    def windows(self) -> Mapping[str, Energy]:
        """Return the joules of the ended windows, those of one name taken together."""
        return joined(tuple(self._ended), self._tell)

    def idle_baseline(self, seconds: float) -> Energy:
        """Meter an idle board for some seconds, which the caller waits; not part of the run.

        For the time before and after training, with what training allocates in place.

        Raises:
            RuntimeError: The meter is not running.
        """
        if self._started_s is None or self._ended_s is not None:
            raise RuntimeError("an idle baseline needs a meter that was started and not stopped")
        counting = self._counting
        self.pause()
        span = self.begin("idle", through_pauses=True)
        if self._sampler is not None:
            self._sampler.wait_until(lambda: self._over, seconds)
        self.end(span)
        self._settle()
        if counting:
            self.resume()
        return span.energy()

    # What the thread does ------------------------------------------------------------

    def _make_lanes(self, source: EnergySource, now_s: float) -> Iterator[Lane]:
        yield Lane(source.hz, self.sample, now_s + 1 / source.hz)
        if source.state_hz:
            yield Lane(source.state_hz, self._see_state, now_s)
        if source.tenancy_hz:
            yield Lane(source.tenancy_hz, self._see_tenancy, now_s)

    def _turn(self) -> float | None:
        try:
            for lane in self._lanes:
                lane.turn(time.monotonic())
            due_s = self._look()
        except Exception as error:  # a fault of the meter's own must not pass in silence
            self._give_up(f"the meter broke down: {type(error).__name__}: {fault_words(error)}")
        return None if self._over else min(due_s, *(lane.due_s for lane in self._lanes))

    def _look(self) -> float:
        """Look at a counter that is about to step; return when to look again."""
        with self._held() as account:
            if not account or self._source is None or not self._source.ticks:
                return math.inf
            if not account.active and account.ticks.settled:
                return math.inf  # nothing is metered: a pause may be long
            now_s = time.monotonic()
            if now_s >= account.ticks.due():
                account.look()
            return max(account.ticks.due(), now_s + POLL_S)  # not at once where a look failed

    def _see_state(self) -> None:
        assert self._source is not None, "lanes are made for a source"
        state = self._source.state()  # not under the lock: it may take milliseconds
        with self._held() as account:
            if account:
                account.note_state(state)

    def _see_tenancy(self, spans: Sequence[Span] = ()) -> None:
        assert self._source is not None, "lanes are made for a source"
        tenancy = self._source.tenancy()
        with self._held() as account:
            if account:
                account.note_tenancy(tenancy, spans)

    # What all of them need -----------------------------------------------------------

    @property
    def _forked(self) -> bool:
        return os.getpid() != self._pid  # the thread and its locks are in the other process

    @contextlib.contextmanager
    def _held(self) -> Iterator[Account | None]:
        """Hold the lock, or give the meter up if a reading keeps it for too long."""
        if self._account is None or self._forked:
            yield None
            return
        held = self._lock.acquire(timeout=0 if self._stalled else STALL_S)
        if not held:
            self._stalled = True
            self._give_up(f"the meter did not answer within {STALL_S:g} s")
        try:
            yield self._account if held else None
        finally:
            if held:
                self._lock.release()

    def _take(self, opening: Sequence[Span] = (), closing: Sequence[Span] = ()) -> None:
        """Take a reading, with the lock held; wake the thread if it has an edge to time."""
        if self._account is None or self._over:
            return
        try:
            self._account.take(opening, closing, self._run if self._counting else None)
        except Exception as error:  # whatever the instrument does, training goes on
            if self._account.failures_in_row >= MAX_FAILURES:
                self._give_up(f"{MAX_FAILURES} readings in a row failed: {fault_words(error)}")
        if self._sampler is not None and not self._account.ticks.settled:
            self._sampler.nudge()

    def _drop(self, span: Span) -> None:
        assert self._account is not None, "a window is dropped from an account"
        self._account.spans.remove(span)
        span.sealed = not self._problem
        span.window = replace(span.window, void=span.window.void or self._problem)
        if span is not self._run:
            self._ended.append(span)

    def _give_up(self, problem: str) -> None:
        self._problem = self._problem or problem
        self._over = True

    def _settle(self) -> None:
        """Wait for the steps beside the last edges."""
        account = self._account
        if account is None or self._sampler is None or self._over or self._forked:
            return
        self._sampler.wait_until(lambda: account.ticks.settled, EDGE_S)
        with self._held() as held:
            if held:
                held.ticks.give_up()

    def _finish(self, stopped: Sequence[Span]) -> None:
        """See once more who is there, say the last edge's joules, let the source go."""
        # Not held: a call is stuck in the driver, and closing would pull that from under it.
        with self._held() as account, contextlib.suppress(Exception):
            if not account or self._source is None or self._closed:
                return
            self._closed = True
            if stopped and not self._problem:
                if self._source.tenancy_hz:
                    self._see_tenancy(stopped)
                account.end_row(self._run)
            self._source.close()

    def _tell(self, span: Span) -> Energy:
        """Return a window's joules, or why there are none."""
        source, problem = self._source, FORKED if self._forked else self._problem
        if source is None:
            return without(self._elapsed_s(), (problem,))
        energy = energy_of(span.window, source)
        if not problem or span.sealed:
            return energy
        seconds = self._elapsed_s() if span is self._run else energy.seconds
        notes = tuple(note for note in energy.notes if note != problem)
        return without(seconds, (problem, *notes), source)

    def _elapsed_s(self) -> float:
        if self._started_s is None:
            return 0.0
        end_s = self._clock() if self._ended_s is None else self._ended_s
        return end_s - self._started_s
