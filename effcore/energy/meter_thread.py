"""One instrument watched: the thread that reads it, and the lock that keeps readings in order.

An instrument may fail, hang or vanish, and the process may fork under it. All of that ends
here: nothing raises for it, and :attr:`MeterThread.problem` says what went wrong.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from effcore.energy.accumulator import EnergyAccumulator, MeterWindow
from effcore.energy.counter_updates import MAX_EDGE_WAIT_S, POLL_INTERVAL_S
from effcore.energy.scheduler import PeriodicTask, SchedulerThread
from effcore.energy.sources.base import EnergySource, error_text_without_paths

#: After so many failed readings in a row the instrument is given up.
MAX_FAILURES = 3
#: An instrument that takes longer to answer is given up, so that it cannot hold up a run.
MAX_STALL_S = 5.0

SchedulerFactory: TypeAlias = Callable[[Callable[[], float | None], str], SchedulerThread]


class MeterThread:
    """Reads one instrument, from a thread of its own and for whoever asks.

    Args:
        source: The opened instrument; closed by :meth:`close`.
        clock: The run clock, s; read from the thread too.
        make_scheduler: Makes the thread that takes turns.
        time_all_updates: Whether to time all steps of the counter; see :class:`EnergyAccumulator`.

    Attributes:
        source: The instrument.
        accumulator: What its readings come to.
        problem: Why it was given up; empty where it was not.
        stopped: Whether it is read no more.
        recorded_window: The window whose joules go into the table; ``None`` while none do.
    """

    def __init__(
        self,
        source: EnergySource,
        clock: Callable[[], float],
        make_scheduler: SchedulerFactory,
        time_all_updates: bool,
    ) -> None:
        self.source = source
        self.accumulator = EnergyAccumulator(source, clock, time_all_updates)
        self.problem = ""
        self.stopped = False
        self.recorded_window: MeterWindow | None = None
        self._scheduler = make_scheduler(self._run_due_tasks, f"power-{source.id}")
        self._started = self._stalled = self._closed = False
        self._tasks: list[PeriodicTask] = []
        self._pid = os.getpid()
        self._lock = threading.RLock()  # held during a reading, so that readings keep order

    @property
    def forked(self) -> bool:
        """Whether this is another process: the thread and its locks are in the first one."""
        return os.getpid() != self._pid

    def start(self) -> None:
        """Start the thread."""
        self._tasks = list(self._make_tasks(time.monotonic()))
        self._started = True
        self._scheduler.start()

    @contextlib.contextmanager
    def hold_lock(self) -> Iterator[EnergyAccumulator | None]:
        """Hold the lock, or give the instrument up if a reading keeps it for too long."""
        if self.forked:
            yield None
            return
        held = self._lock.acquire(timeout=0 if self._stalled else MAX_STALL_S)
        if not held:
            self._stalled = True
            self._abandon_source(f"the meter did not answer within {MAX_STALL_S:g} s")
        try:
            yield self.accumulator if held else None
        finally:
            if held:
                self._lock.release()

    def take_reading(
        self, opening: Sequence[MeterWindow] = (), closing: Sequence[MeterWindow] = ()
    ) -> None:
        """Take a reading, with the lock held; wake the thread if it has an edge to time."""
        if self.stopped:
            return
        try:
            self.accumulator.take_reading(opening, closing, self.recorded_window)
        except Exception as error:  # whatever the instrument does, training goes on
            if self.accumulator.consecutive_failures >= MAX_FAILURES:
                self._abandon_source(
                    f"{MAX_FAILURES} readings in a row failed: {error_text_without_paths(error)}"
                )
        if self._started and not self.accumulator.update_timer.edges_settled:
            self._scheduler.wake()

    def sample(self) -> None:
        """Take a reading now, if anything is being metered."""
        with self.hold_lock() as account:
            if account and account.is_metering:
                self.take_reading()

    def wait_while_reading(self, seconds: float) -> None:
        """Wait while the thread reads on, no longer than it does."""
        if self._started and not self.forked:
            self._scheduler.wait_until(lambda: self.stopped, seconds)

    def settle_edges(self) -> None:
        """Wait up to 150 ms for the steps beside the last edges."""
        if not self._started or self.stopped or self.forked:
            return
        self._scheduler.wait_until(
            lambda: self.accumulator.update_timer.edges_settled, MAX_EDGE_WAIT_S
        )
        with self.hold_lock() as account:
            if account:
                account.update_timer.abandon_edges()

    def stop(self) -> None:
        """Read no more, and wait for a reading in progress, but not for one that hangs."""
        self.stopped = True
        if self._started and not self.forked:
            self._scheduler.stop(0 if self._stalled else MAX_STALL_S)

    def close(self, run_window: MeterWindow, stopped_windows: Sequence[MeterWindow]) -> None:
        """See once more who is there, say the last edge's joules, let the source go.

        Args:
            run_window: The window that is recorded.
            stopped_windows: Windows that have just stopped.
        """
        # Not held: a call is stuck in the driver, and closing would pull that from under it.
        with self.hold_lock() as account, contextlib.suppress(Exception):
            if not account or self._closed:
                return
            self._closed = True
            if stopped_windows and not self.problem:
                if self.source.shared_use_hz:
                    self._record_shared_use(stopped_windows)
                account.append_final_row(run_window)
            self.source.close()

    # What the thread does ------------------------------------------------------------

    def _make_tasks(self, now_s: float) -> Iterator[PeriodicTask]:
        yield PeriodicTask(self.source.hz, self.sample, now_s + 1 / self.source.hz)
        if self.source.state_hz:
            yield PeriodicTask(self.source.state_hz, self._record_board_state, now_s)
        if self.source.shared_use_hz:
            yield PeriodicTask(self.source.shared_use_hz, self._record_shared_use, now_s)

    def _run_due_tasks(self) -> float | None:
        try:
            for lane in self._tasks:
                lane.run_if_due(time.monotonic())
            due_s = self._poll_counter()
        except Exception as error:  # a fault of the meter's own must not pass in silence
            self._abandon_source(
                f"the meter broke down: {type(error).__name__}: {error_text_without_paths(error)}"
            )
        return None if self.stopped else min(due_s, *(lane.due_s for lane in self._tasks))

    def _poll_counter(self) -> float:
        """Look at a counter that is about to step; return when to look again."""
        with self.hold_lock() as account:
            if not account or not self.source.times_counter_updates:
                return math.inf
            if not account.is_metering and account.update_timer.edges_settled:
                return math.inf  # nothing is metered: a pause may be long
            now_s = time.monotonic()
            if now_s >= account.update_timer.next_poll_s():
                account.poll_counter()
            return max(
                account.update_timer.next_poll_s(), now_s + POLL_INTERVAL_S
            )  # not at once where a look failed

    def _record_board_state(self) -> None:
        state = self.source.state()  # not under the lock: it may take milliseconds
        with self.hold_lock() as account:
            if account:
                account.record_board_state(state)

    def _record_shared_use(self, windows: Sequence[MeterWindow] = ()) -> None:
        tenancy = self.source.shared_use()
        with self.hold_lock() as account:
            if account:
                account.record_shared_use(tenancy, windows)

    def _abandon_source(self, problem: str) -> None:
        self.problem = self.problem or problem
        self.stopped = True
