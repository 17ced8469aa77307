"""A thread that does a meter's work whenever some is due."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class SchedulerThread:
    """Takes turns on a daemon thread, each at the time that the one before asked for.

    Args:
        run_due_tasks: Does what is due; returns the monotonic time of the next turn, s, or
            ``None`` where there is nothing left to do. Must not raise.
        name: The thread's name.
    """

    def __init__(self, run_due_tasks: Callable[[], float | None], name: str) -> None:
        self._run_due_tasks = run_due_tasks
        self._ready = threading.Condition()
        self._wake_requested = self._stopping = False
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        """Take the first turn."""
        self._thread.start()

    def wake(self) -> None:
        """Take the next turn now; waits for nothing."""
        with self._ready:
            self._wake_requested = True
            self._ready.notify_all()

    def wait_until(self, done: Callable[[], bool], timeout_s: float) -> None:
        """Wait for turns to bring about what ``done`` says, or for ``timeout_s``."""
        with self._ready:
            self._ready.wait_for(done, timeout_s)

    def stop(self, timeout_s: float) -> None:
        """Take no further turn; wait up to ``timeout_s`` for one in progress."""
        with self._ready:
            self._stopping = True
            self._ready.notify_all()
        self._thread.join(timeout_s)

    def _loop(self) -> None:
        due_s: float | None = 0.0
        while due_s is not None and not self._stopping:
            due_s = self._run_due_tasks()
            with self._ready:
                self._ready.notify_all()  # who waits for something looks whether it is there
                if due_s is not None:
                    self._ready.wait_for(self._should_wake, max(due_s - time.monotonic(), 0.0))
                self._wake_requested = False

    def _should_wake(self) -> bool:
        return self._wake_requested or self._stopping


class PeriodicTask:
    """A job of the sampler's that is due at a rate.

    Args:
        hz: Times per second.
        job: What to do.
        first_due_s: Monotonic time of the first, s.
    """

    def __init__(self, hz: float, job: Callable[[], None], first_due_s: float) -> None:
        self._period_s = 1 / hz
        self._job = job
        self.due_s = first_due_s

    def run_if_due(self, now_s: float) -> None:
        """Do the job if it is due; what is late is not made up for."""
        if now_s >= self.due_s:
            self.due_s = max(self.due_s + self._period_s, now_s)
            self._job()
