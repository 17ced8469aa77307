"""Thread that reads one energy source, and the lock that keeps its readings in order.

A source may fail, hang or disappear, and the process may fork. None of this raises an
exception in the training: :attr:`MeterThread.problem` holds the reason.
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

#: After this many consecutive failed readings the source is abandoned.
MAX_FAILURES = 3
#: A source that takes longer to answer, s, is abandoned, so that it cannot block a run.
MAX_STALL_S = 5.0

SchedulerFactory: TypeAlias = Callable[[Callable[[], float | None], str], SchedulerThread]


class MeterThread:
    """Reads one source periodically from its own thread, and on request from any thread.

    Args:
        source: The opened source; closed by :meth:`close`.
        clock: The run clock, s; also read from this thread.
        make_scheduler: Makes the thread that runs periodic tasks.
        time_all_updates: Whether to time every counter update; see :class:`EnergyAccumulator`.

    Attributes:
        source: The source.
        accumulator: Accumulates its readings.
        problem: Why the source was abandoned; empty otherwise.
        stopped: Whether reading has stopped.
        recorded_window: The window whose energy the table contains; ``None`` while paused.
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
        """Whether this process was forked: the thread and its lock exist only in the parent."""
        return os.getpid() != self._pid

    def start(self) -> None:
        """Start the thread."""
        self._tasks = list(self._make_tasks(time.monotonic()))
        self._started = True
        self._scheduler.start()

    @contextlib.contextmanager
    def hold_lock(self) -> Iterator[EnergyAccumulator | None]:
        """Hold the lock; abandon the source and yield ``None`` if a reading blocks it too long."""
        if self.forked:
            yield None
            return
        is_held = self._lock.acquire(timeout=0 if self._stalled else MAX_STALL_S)
        if not is_held:
            self._stalled = True
            self._abandon_source(f"the meter did not answer within {MAX_STALL_S:g} s")
        try:
            yield self.accumulator if is_held else None
        finally:
            if is_held:
                self._lock.release()

    def take_reading(
        self, opening: Sequence[MeterWindow] = (), closing: Sequence[MeterWindow] = ()
    ) -> None:
        """Take a reading with the lock held; wake the thread if an edge has to be timed."""
        if self.stopped:
            return
        try:
            self.accumulator.take_reading(opening, closing, self.recorded_window)
        except Exception as error:  # a fault of the source must not stop training
            if self.accumulator.consecutive_failures >= MAX_FAILURES:
                self._abandon_source(
                    f"{MAX_FAILURES} readings in a row failed: {error_text_without_paths(error)}"
                )
        if self._started and not self.accumulator.update_timer.edges_settled:
            self._scheduler.wake()

    def sample(self) -> None:
        """Take a reading now, if anything is being metered."""
        with self.hold_lock() as accumulator:
            if accumulator and accumulator.is_metering:
                self.take_reading()

    def wait_while_reading(self, seconds: float) -> None:
        """Wait for ``seconds`` while the thread keeps reading, or until it stops."""
        if self._started and not self.forked:
            self._scheduler.wait_until(lambda: self.stopped, seconds)

    def settle_edges(self) -> None:
        """Wait up to 150 ms for the counter updates next to the last edges."""
        if not self._started or self.stopped or self.forked:
            return
        self._scheduler.wait_until(
            lambda: self.accumulator.update_timer.edges_settled, MAX_EDGE_WAIT_S
        )
        with self.hold_lock() as accumulator:
            if accumulator:
                accumulator.update_timer.abandon_edges()

    def stop(self) -> None:
        """Stop reading; wait for a reading in progress, but not for one that hangs."""
        self.stopped = True
        if self._started and not self.forked:
            self._scheduler.stop(0 if self._stalled else MAX_STALL_S)

    def close(self, run_window: MeterWindow, stopped_windows: Sequence[MeterWindow]) -> None:
        """Check for other processes, append the last row, and close the source.

        Args:
            run_window: The window that the table records.
            stopped_windows: Windows that have just ended.
        """
        # Without the lock a call hangs in the driver, and closing could crash it.
        with self.hold_lock() as accumulator, contextlib.suppress(Exception):
            if not accumulator or self._closed:
                return
            self._closed = True
            if stopped_windows and not self.problem:
                if self.source.shared_use_hz:
                    self._record_shared_use(stopped_windows)
                accumulator.append_final_row(run_window)
            self.source.close()

    # Tasks of the thread -------------------------------------------------------------

    def _make_tasks(self, now_s: float) -> Iterator[PeriodicTask]:
        yield PeriodicTask(self.source.hz, self.sample, now_s + 1 / self.source.hz)
        if self.source.state_hz:
            yield PeriodicTask(self.source.state_hz, self._record_board_state, now_s)
        if self.source.shared_use_hz:
            yield PeriodicTask(self.source.shared_use_hz, self._record_shared_use, now_s)

    def _run_due_tasks(self) -> float | None:
        try:
            for task in self._tasks:
                task.run_if_due(time.monotonic())
            due_s = self._poll_counter()
        except Exception as error:  # report a fault of the meter itself as the reason
            self._abandon_source(
                f"the meter failed: {type(error).__name__}: {error_text_without_paths(error)}"
            )
        return None if self.stopped else min(due_s, *(task.due_s for task in self._tasks))

    def _poll_counter(self) -> float:
        """Poll the counter if an update is due; return the time of the next poll, s."""
        with self.hold_lock() as accumulator:
            if not accumulator or not self.source.times_counter_updates:
                return math.inf
            if not accumulator.is_metering and accumulator.update_timer.edges_settled:
                return math.inf  # no window is open, possibly for a long pause
            now_s = time.monotonic()
            if now_s >= accumulator.update_timer.next_poll_s():
                accumulator.poll_counter()
            # A failed poll must not be repeated at once.
            return max(accumulator.update_timer.next_poll_s(), now_s + POLL_INTERVAL_S)

    def _record_board_state(self) -> None:
        state = self.source.state()  # not under the lock: it may take milliseconds
        with self.hold_lock() as accumulator:
            if accumulator:
                accumulator.record_board_state(state)

    def _record_shared_use(self, windows: Sequence[MeterWindow] = ()) -> None:
        shared_use = self.source.shared_use()
        with self.hold_lock() as accumulator:
            if accumulator:
                accumulator.record_shared_use(shared_use, windows)

    def _abandon_source(self, problem: str) -> None:
        self.problem = self.problem or problem
        self.stopped = True
