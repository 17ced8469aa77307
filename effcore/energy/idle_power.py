"""The idle power of a board, read after a run for as long as nothing begins on it.

Ten seconds are meant before a run and after it, and nobody is to wait for them. So a board
is read on once a run has left it, with what training allocated by then in place: that is the
reading after the run, and the one before the next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psutil

from effcore.energy.idle_baseline import FULL_IDLE_S
from effcore.energy.meter import RunMeter
from effcore.energy.sources.cpu_other_processes import MAX_FOREIGN_CORES_FRAC, process_tree_cpu_s
from effcore.records import Energy, EnergyQuality

#: Longest wait for a reading that is ended, s: it may have to time its last step.
_MAX_JOIN_S: Final = 1.0
#: A reading is none of what came before a run that begins later than this after it, s.
MAX_READING_AGE_S: Final = 600.0
#: Works for whatever this process does, on whichever device.
CPU_DEVICE: Final = "cpu"


class IdlePowerReader:
    """Reads boards between runs, in threads of its own; any thread may call.

    Args:
        reading_s: How long a reading lasts, s; one that is cut short is forgotten.
    """

    def __init__(self, reading_s: float = FULL_IDLE_S) -> None:
        self._reading_s = reading_s
        self._lock = threading.Lock()
        self._cancel_events: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []  # also of readings that were ended just now
        self._readings: dict[str, tuple[float, Energy]] = {}  # and when each had ended

    def start_reading(self, device: str, on_reading: Callable[[Energy], None]) -> None:
        """Read the board that a run has just left; waits for nothing.

        Args:
            device: Torch's name of it.
            on_reading: Called with the reading, in another thread; not called where work begins
                on the device meanwhile.
        """
        cut = threading.Event()
        thread = threading.Thread(
            target=self._read_until_cancelled,
            args=(device, cut, on_reading),
            name=f"idle-{device}",
            daemon=True,
        )
        with self._lock:
            self._cancel(device)
            self._cancel_events[device] = cut
            self._threads = [*(other for other in self._threads if other.is_alive()), thread]
            thread.start()

    def cancel_reading(self, device: str) -> Energy | None:
        """Give way to what begins on a device; waits for nothing.

        A reading of the processor ends as well, which works for whatever begins anywhere.

        Returns:
            The last whole reading of the device, if it was just before: nothing has begun there
            since, and it is no older than ``FRESH_S``.
        """
        with self._lock:
            for each in {device, CPU_DEVICE}:
                self._cancel(each)
            ended_s, found = self._readings.pop(device, (0.0, None))
            return found if time.monotonic() - ended_s <= MAX_READING_AGE_S else None

    def _cancel(self, device: str) -> None:
        if (cut := self._cancel_events.pop(device, None)) is not None:
            cut.set()

    def close(self) -> None:
        """End all readings, and wait for their instruments to be let go."""
        for device in tuple(self._cancel_events):
            self.cancel_reading(device)
        for thread in tuple(self._threads):
            thread.join(_MAX_JOIN_S)

    def _read_until_cancelled(
        self, device: str, cancelled: threading.Event, on_reading: Callable[[Energy], None]
    ) -> None:
        with suppress(Exception):  # whatever it is, no run is the worse for it
            since_s = process_tree_cpu_s()
            with RunMeter.open(device) as meter:
                cancelled.wait(self._reading_s)
            found, busy_s = meter.energy(), process_tree_cpu_s() - since_s
            if _is_usable_reading(found) and (
                device != CPU_DEVICE or _is_process_idle(busy_s, found.seconds)
            ):
                self._store_reading(device, found, cancelled, on_reading)

    def _store_reading(
        self,
        device: str,
        energy: Energy,
        cancelled: threading.Event,
        on_reading: Callable[[Energy], None],
    ) -> None:
        with self._lock:
            if cancelled.is_set():  # something has begun there: some of it may be in the reading
                return
            self._readings[device] = (time.monotonic(), energy)
        on_reading(energy)


def _is_usable_reading(energy: Energy) -> bool:
    """Return whether a reading is of the board alone."""
    return energy.quality is EnergyQuality.MEASURED and not energy.contended


def _is_process_idle(busy_s: float, seconds: float) -> bool:
    """Return whether this process left a processor as idle as others have to leave it.

    A page that is drawn meanwhile, say, is no part of what a processor takes at rest.
    """
    return busy_s <= MAX_FOREIGN_CORES_FRAC * seconds * (psutil.cpu_count() or 1)
