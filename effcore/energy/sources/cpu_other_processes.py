"""CPU use by other processes, whose energy the CPU's counters include."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Protocol

import psutil

from effcore.energy.sources.base import SharedUse

#: Other processes count as shared use if they take more than this share of the busy CPU time,
MAX_FOREIGN_BUSY_FRAC = 0.10
#: and also more than this share of the time of all cores: below is the system's own housekeeping.
MAX_FOREIGN_CORES_FRAC = 0.02
#: Shortest time between two checks, s: the system counts CPU time in steps of 10 ms.
MIN_CHECK_INTERVAL_S = 1.0


class SystemCpuTimes(Protocol):
    """CPU seconds of the whole system since it started."""

    @property
    def user(self) -> float:
        """Seconds in programs."""

    @property
    def system(self) -> float:
        """Seconds in the kernel."""


def process_tree_cpu_s() -> float:
    """Return the CPU seconds of this process and its child processes, such as data loaders."""
    own_process = psutil.Process()
    total_s = 0.0
    for process in (own_process, *own_process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has just ended
            times = process.cpu_times()
            total_s += times.user + times.system
            total_s += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total_s


class CpuProcessMonitor:
    """Checks how busy other processes kept the CPU since the last check.

    Args:
        system_times: CPU seconds of the whole system.
        own_cpu_s: CPU seconds of this process and its child processes.
        wall: Monotonic clock, s.
        cores: Logical cores of the system.
    """

    def __init__(
        self,
        system_times: Callable[[], SystemCpuTimes] = psutil.cpu_times,
        own_cpu_s: Callable[[], float] = process_tree_cpu_s,
        wall: Callable[[], float] = time.monotonic,
        cores: int = psutil.cpu_count() or 1,
    ) -> None:
        self._system_times, self._own_cpu_s, self._wall, self._cores = (
            system_times,
            own_cpu_s,
            wall,
            cores,
        )
        self._last_counts = self._read_cpu_counts()
        self._last_shared_use = SharedUse(False, "")

    def check_shared_use(self) -> SharedUse:
        """Return the use by others since the last check; if that was just now, the last result."""
        counts = self._read_cpu_counts()
        passed_s, busy_s, own_s = (a - b for a, b in zip(counts, self._last_counts, strict=True))
        if passed_s >= MIN_CHECK_INTERVAL_S:
            self._last_counts = counts
            self._last_shared_use = shared_use_from_cpu_time(busy_s, own_s, passed_s * self._cores)
        return self._last_shared_use

    def _read_cpu_counts(self) -> tuple[float, float, float]:
        times = self._system_times()
        # User time includes virtual machines that run here; stolen time belongs to the host.
        return (
            self._wall(),
            times.user + times.system + getattr(times, "nice", 0.0),
            self._own_cpu_s(),
        )


def shared_use_from_cpu_time(busy_s: float, own_s: float, cores_s: float) -> SharedUse:
    """Return the use by other processes that follows from CPU seconds.

    Args:
        busy_s: CPU seconds of all processes.
        own_s: CPU seconds of this process and its child processes.
        cores_s: Elapsed seconds times the number of cores.
    """
    others_s = max(busy_s - own_s, 0.0)
    if others_s <= MAX_FOREIGN_BUSY_FRAC * busy_s or others_s <= MAX_FOREIGN_CORES_FRAC * cores_s:
        return SharedUse(False, "")
    return SharedUse(
        True,
        f"other processes took {others_s / busy_s:.0%} of the processor's busy time: this figure "
        "includes their energy, which cannot be separated from the run's",
    )
