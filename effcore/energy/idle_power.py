"""Background reading of a device's idle power between runs.

A full idle reading lasts ten seconds, before a run and after it, and no run should wait for it.
So a device is metered after a run has ended on it, with the run's memory still allocated, for as
long as no other run starts there. The result serves as the reading after that run and as the
reading before the next one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psutil

from effcore.energy.arithmetic import FULL_IDLE_S
from effcore.energy.meter import RunMeter
from effcore.energy.sources.rapl import MAX_FOREIGN_CORES_FRAC, process_tree_cpu_s
from effcore.records import Energy, EnergyQuality

#: Longest wait for a cancelled reading, s: it may have to time its last counter update.
_MAX_JOIN_S: Final = 1.0
#: Oldest reading that counts as the idle reading before a run, s.
MAX_READING_AGE_S: Final = 600.0
#: Any work of this process uses the CPU, so it ends an idle reading of it.
CPU_DEVICE: Final = "cpu"


class IdlePowerReader:
    """Reads the idle power of devices between runs, in its own threads; thread-safe.

    Args:
        reading_s: Length of a reading, s; a reading that is cancelled earlier is dropped.
    """

    def __init__(self, reading_s: float = FULL_IDLE_S) -> None:
        self._reading_s = reading_s
        self._lock = threading.Lock()
        self._cancel_events: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []  # including just cancelled readings
        self._readings: dict[str, tuple[float, Energy]] = {}  # with the monotonic end time, s

    def start_reading(self, device: str, on_reading: Callable[[Energy], None]) -> None:
        """Start an idle reading of a device whose run has just ended, without blocking.

        Args:
            device: The device, as torch names it.
            on_reading: Called with the reading, in another thread; not called if the reading is
                cancelled or unusable.
        """
        cancelled = threading.Event()
        thread = threading.Thread(
            target=self._read_until_cancelled,
            args=(device, cancelled, on_reading),
            name=f"idle-{device}",
            daemon=True,
        )
        with self._lock:
            self._cancel(device)
            self._cancel_events[device] = cancelled
            self._threads = [*(known for known in self._threads if known.is_alive()), thread]
            thread.start()

    def cancel_reading(self, device: str) -> Energy | None:
        """Cancel the idle reading of a device without blocking, as work is about to start there.

        A reading of the CPU is cancelled too, because work on any device uses the CPU.

        Returns:
            The last complete reading of the device, if no work has started there since and it
            is no older than ``MAX_READING_AGE_S``; else ``None``.
        """
        with self._lock:
            for cancelled_device in {device, CPU_DEVICE}:
                self._cancel(cancelled_device)
            ended_s, energy = self._readings.pop(device, (0.0, None))
            return energy if time.monotonic() - ended_s <= MAX_READING_AGE_S else None

    def _cancel(self, device: str) -> None:
        if (cancelled := self._cancel_events.pop(device, None)) is not None:
            cancelled.set()

    def close(self) -> None:
        """Cancel all readings, and wait until their sources are closed."""
        for device in tuple(self._cancel_events):
            self.cancel_reading(device)
        for thread in tuple(self._threads):
            thread.join(_MAX_JOIN_S)

    def _read_until_cancelled(
        self, device: str, cancelled: threading.Event, on_reading: Callable[[Energy], None]
    ) -> None:
        with suppress(Exception):  # a failed idle reading must not affect any run
            cpu_start_s = process_tree_cpu_s()
            with RunMeter.open(device) as meter:
                cancelled.wait(self._reading_s)
            energy, busy_s = meter.energy(), process_tree_cpu_s() - cpu_start_s
            if energy.quality is not EnergyQuality.MEASURED or energy.contended:
                return
            # This process may use no more CPU time than other processes may: rendering a page
            # during the reading, for example, would raise the power above idle.
            max_busy_s = MAX_FOREIGN_CORES_FRAC * energy.seconds * (psutil.cpu_count() or 1)
            if device == CPU_DEVICE and busy_s > max_busy_s:
                return
            with self._lock:
                if cancelled.is_set():  # work has started: the reading may include some of it
                    return
                self._readings[device] = (time.monotonic(), energy)
            on_reading(energy)
