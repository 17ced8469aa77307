"""Scheduler thread and periodic tasks of the meter."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class SchedulerThread:
    """Daemon thread that calls a function repeatedly, each time when the last call asked for.

    Args:
        run_due_tasks: Runs the tasks that are due; returns the monotonic time of the next call,
            s, or ``None`` to end the thread. Must not raise.
        name: The thread's name.
    """

    def __init__(self, run_due_tasks: Callable[[], float | None], name: str) -> None:
        self._run_due_tasks = run_due_tasks
        self._ready = threading.Condition()
        self._wake_requested = self._stopping = False
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread, which makes the first call."""
        self._thread.start()

    def wake(self) -> None:
        """Make the next call now, without blocking."""
        with self._ready:
            self._wake_requested = True
            self._ready.notify_all()

    def wait_until(self, done: Callable[[], bool], timeout_s: float) -> None:
        """Wait until ``done`` returns true after a call, or for ``timeout_s``."""
        with self._ready:
            self._ready.wait_for(done, timeout_s)

    def stop(self, timeout_s: float) -> None:
        """Make no further call; wait up to ``timeout_s`` for one in progress."""
        with self._ready:
            self._stopping = True
            self._ready.notify_all()
        self._thread.join(timeout_s)

    def _loop(self) -> None:
        due_s: float | None = 0.0
        while due_s is not None and not self._stopping:
            due_s = self._run_due_tasks()
            with self._ready:
                self._ready.notify_all()  # waiting threads check their condition again
                if due_s is not None:
                    self._ready.wait_for(
                        lambda: self._wake_requested or self._stopping,
                        max(due_s - time.monotonic(), 0.0),
                    )
                self._wake_requested = False


class PeriodicTask:
    """A task that is due at a fixed rate.

    Args:
        hz: Runs per second.
        job: The function to call.
        first_due_s: Monotonic time of the first run, s.
    """

    def __init__(self, hz: float, job: Callable[[], None], first_due_s: float) -> None:
        self._period_s = 1 / hz
        self._job = job
        self.due_s = first_due_s

    def run_if_due(self, now_s: float) -> None:
        """Run the task if it is due; missed runs are not repeated."""
        if now_s >= self.due_s:
            self.due_s = max(self.due_s + self._period_s, now_s)
            self._job()
