"""Who else uses the processor, whose counters cover everybody."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Protocol

import psutil

from effcore.energy.sources.base import SharedUse

#: Others matter if they take more than this share of the time that the processor was busy,
MAX_FOREIGN_BUSY_FRAC = 0.10
#: and keep more than this share of all its cores busy: less is any system's own housekeeping.
MAX_FOREIGN_CORES_FRAC = 0.02
#: Over less time than this, s, the system's counts of 10 ms say too little.
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
    """Return the CPU seconds of this process and those it started, such as data loaders."""
    me = psutil.Process()
    total_s = 0.0
    for each in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has just ended
            times = each.cpu_times()
            total_s += times.user + times.system
            total_s += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total_s


class CpuProcessMonitor:
    """Looks at how busy others kept the processor since the last look.

    Args:
        system_times: CPU seconds of the whole system.
        own_cpu_s: CPU seconds of this process and those it started.
        wall: Monotonic seconds.
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
        """Return how busy others were; of a look that comes too soon, what was found before."""
        now = self._read_cpu_counts()
        passed_s, busy_s, own_s = (a - b for a, b in zip(now, self._last_counts, strict=True))
        if passed_s >= MIN_CHECK_INTERVAL_S:
            self._last_counts = now
            self._last_shared_use = shared_use_from_cpu_time(busy_s, own_s, passed_s * self._cores)
        return self._last_shared_use

    def _read_cpu_counts(self) -> tuple[float, float, float]:
        times = self._system_times()
        # A virtual machine's guests are in the user time, and stolen time is not ours to see.
        return (
            self._wall(),
            times.user + times.system + getattr(times, "nice", 0.0),
            self._own_cpu_s(),
        )


def shared_use_from_cpu_time(busy_s: float, own_s: float, cores_s: float) -> SharedUse:
    """Return what CPU seconds say of others.

    Args:
        busy_s: Of everybody.
        own_s: Of this process.
        cores_s: That there were on all cores.
    """
    others_s = max(busy_s - own_s, 0.0)
    if others_s <= MAX_FOREIGN_BUSY_FRAC * busy_s or others_s <= MAX_FOREIGN_CORES_FRAC * cores_s:
        return SharedUse(False, "")
    return SharedUse(
        True,
        f"other processes took {others_s / busy_s:.0%} of the processor's busy time: their joules "
        "are in this figure and cannot be told from the run's",
    )
