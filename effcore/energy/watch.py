"""One instrument watched: the thread that reads it, and the lock that keeps readings in order.

An instrument may fail, hang or vanish, and the process may fork under it. All of that ends
here: nothing raises for it, and :attr:`Watch.problem` says what went wrong.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from effcore.energy.account import Account, Span
from effcore.energy.base import EnergySource, fault_words
from effcore.energy.sampler import Lane, Sampler
from effcore.energy.ticks import EDGE_S, POLL_S

#: After so many failed readings in a row the instrument is given up.
MAX_FAILURES = 3
#: An instrument that takes longer to answer is given up, so that it cannot hold up a run.
STALL_S = 5.0

MakeSampler: TypeAlias = Callable[[Callable[[], float | None], str], Sampler]


class Watch:
    """Reads one instrument, from a thread of its own and for whoever asks.

    Args:
        source: The opened instrument; closed by :meth:`close`.
        clock: The run clock, s; read from the thread too.
        make_sampler: Makes the thread that takes turns.
        follow: Whether to time all steps of the counter; see :class:`Account`.

    Attributes:
        source: The instrument.
        account: What its readings come to.
        problem: Why it was given up; empty where it was not.
        over: Whether it is read no more.
        recorded: The window whose joules go into the table; ``None`` while none do.
    """

    def __init__(
        self,
        source: EnergySource,
        clock: Callable[[], float],
        make_sampler: MakeSampler,
        follow: bool,
    ) -> None:
        self.source = source
        self.account = Account(source, clock, follow)
        self.problem = ""
        self.over = False
        self.recorded: Span | None = None
        self._sampler = make_sampler(self._turn, f"power-{source.id}")
        self._started = self._stalled = self._closed = False
        self._lanes: list[Lane] = []
        self._pid = os.getpid()
        self._lock = threading.RLock()  # held during a reading, so that readings keep order

    @property
    def forked(self) -> bool:
        """Whether this is another process: the thread and its locks are in the first one."""
        return os.getpid() != self._pid

    def start(self) -> None:
        """Start the thread."""
        self._lanes = list(self._make_lanes(time.monotonic()))
        self._started = True
        self._sampler.start()

    @contextlib.contextmanager
    def held(self) -> Iterator[Account | None]:
        """Hold the lock, or give the instrument up if a reading keeps it for too long."""
        if self.forked:
            yield None
            return
        held = self._lock.acquire(timeout=0 if self._stalled else STALL_S)
        if not held:
            self._stalled = True
            self._give_up(f"the meter did not answer within {STALL_S:g} s")
        try:
            yield self.account if held else None
        finally:
            if held:
                self._lock.release()

    def take(self, opening: Sequence[Span] = (), closing: Sequence[Span] = ()) -> None:
        """Take a reading, with the lock held; wake the thread if it has an edge to time."""
        if self.over:
            return
        try:
            self.account.take(opening, closing, self.recorded)
        except Exception as error:  # whatever the instrument does, training goes on
            if self.account.failures_in_row >= MAX_FAILURES:
                self._give_up(f"{MAX_FAILURES} readings in a row failed: {fault_words(error)}")
        if self._started and not self.account.ticks.settled:
            self._sampler.nudge()

    def sample(self) -> None:
        """Take a reading now, if anything is being metered."""
        with self.held() as account:
            if account and account.active:
                self.take()

    def wait(self, seconds: float) -> None:
        """Wait while the thread reads on, no longer than it does."""
        if self._started and not self.forked:
            self._sampler.wait_until(lambda: self.over, seconds)

    def settle(self) -> None:
        """Wait up to 150 ms for the steps beside the last edges."""
        if not self._started or self.over or self.forked:
            return
        self._sampler.wait_until(lambda: self.account.ticks.settled, EDGE_S)
        with self.held() as account:
            if account:
                account.ticks.give_up()

    def end(self) -> None:
        """Read no more, and wait for a reading in progress, but not for one that hangs."""
        self.over = True
        if self._started and not self.forked:
            self._sampler.end(0 if self._stalled else STALL_S)

    def close(self, whole: Span, stopped: Sequence[Span]) -> None:
        """See once more who is there, say the last edge's joules, let the source go.

        Args:
            whole: The window that is recorded.
            stopped: Windows that have just stopped.
        """
        # Not held: a call is stuck in the driver, and closing would pull that from under it.
        with self.held() as account, contextlib.suppress(Exception):
            if not account or self._closed:
                return
            self._closed = True
            if stopped and not self.problem:
                if self.source.tenancy_hz:
                    self._see_tenancy(stopped)
                account.end_row(whole)
            self.source.close()

    # What the thread does ------------------------------------------------------------

    def _make_lanes(self, now_s: float) -> Iterator[Lane]:
        yield Lane(self.source.hz, self.sample, now_s + 1 / self.source.hz)
        if self.source.state_hz:
            yield Lane(self.source.state_hz, self._see_state, now_s)
        if self.source.tenancy_hz:
            yield Lane(self.source.tenancy_hz, self._see_tenancy, now_s)

    def _turn(self) -> float | None:
        try:
            for lane in self._lanes:
                lane.turn(time.monotonic())
            due_s = self._look()
        except Exception as error:  # a fault of the meter's own must not pass in silence
            self._give_up(f"the meter broke down: {type(error).__name__}: {fault_words(error)}")
        return None if self.over else min(due_s, *(lane.due_s for lane in self._lanes))

    def _look(self) -> float:
        """Look at a counter that is about to step; return when to look again."""
        with self.held() as account:
            if not account or not self.source.ticks:
                return math.inf
            if not account.active and account.ticks.settled:
                return math.inf  # nothing is metered: a pause may be long
            now_s = time.monotonic()
            if now_s >= account.ticks.due():
                account.look()
            return max(account.ticks.due(), now_s + POLL_S)  # not at once where a look failed

    def _see_state(self) -> None:
        state = self.source.state()  # not under the lock: it may take milliseconds
        with self.held() as account:
            if account:
                account.note_state(state)

    def _see_tenancy(self, spans: Sequence[Span] = ()) -> None:
        tenancy = self.source.tenancy()
        with self.held() as account:
            if account:
                account.note_tenancy(tenancy, spans)

    def _give_up(self, problem: str) -> None:
        self.problem = self.problem or problem
        self.over = True
