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

from effcore.energy.baseline import WHOLE_IDLE_S
from effcore.energy.cpu_tenants import CORES_FRAC, family_cpu_s
from effcore.energy.meter import RunMeter
from effcore.events import Energy, Quality

#: Longest wait for a reading that is ended, s: it may have to time its last step.
_LEAVE_S: Final = 1.0
#: A reading is none of what came before a run that begins later than this after it, s.
FRESH_S: Final = 600.0
#: Works for whatever this process does, on whichever device.
PROCESSOR: Final = "cpu"


class Idling:
    """Reads boards between runs, in threads of its own; any thread may call.

    Args:
        whole_s: How long a reading lasts, s; one that is cut short is forgotten.
    """

    def __init__(self, whole_s: float = WHOLE_IDLE_S) -> None:
        self._whole_s = whole_s
        self._lock = threading.Lock()
        self._under_way: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []  # also of readings that were ended just now
        self._found: dict[str, tuple[float, Energy]] = {}  # and when each had ended

    def begin(self, device: str, tell: Callable[[Energy], None]) -> None:
        """Read the board that a run has just left; waits for nothing.

        Args:
            device: Torch's name of it.
            tell: Takes what it came to, in another thread; not called if something begins there.
        """
        cut = threading.Event()
        thread = threading.Thread(
            target=self._read, args=(device, cut, tell), name=f"idle-{device}", daemon=True
        )
        with self._lock:
            self._cut(device)
            self._under_way[device] = cut
            self._threads = [*(other for other in self._threads if other.is_alive()), thread]
            thread.start()

    def end(self, device: str) -> Energy | None:
        """Give way to what begins on a device; waits for nothing.

        A reading of the processor ends as well, which works for whatever begins anywhere.

        Returns:
            The last whole reading of the device, if it was just before: nothing has begun there
            since, and it is no older than ``FRESH_S``.
        """
        with self._lock:
            for each in {device, PROCESSOR}:
                self._cut(each)
            ended_s, found = self._found.pop(device, (0.0, None))
            return found if time.monotonic() - ended_s <= FRESH_S else None

    def _cut(self, device: str) -> None:
        if (cut := self._under_way.pop(device, None)) is not None:
            cut.set()

    def close(self) -> None:
        """End all readings, and wait for their instruments to be let go."""
        for device in tuple(self._under_way):
            self.end(device)
        for thread in tuple(self._threads):
            thread.join(_LEAVE_S)

    def _read(self, device: str, cut: threading.Event, tell: Callable[[Energy], None]) -> None:
        with suppress(Exception):  # whatever it is, no run is the worse for it
            since_s = family_cpu_s()
            with RunMeter.open(device) as meter:
                cut.wait(self._whole_s)
            found, busy_s = meter.energy(), family_cpu_s() - since_s
            if _good(found) and (device != PROCESSOR or _little(busy_s, found.seconds)):
                self._keep(device, found, cut, tell)

    def _keep(
        self, device: str, found: Energy, cut: threading.Event, tell: Callable[[Energy], None]
    ) -> None:
        with self._lock:
            if cut.is_set():  # something has begun there: some of it may be in the reading
                return
            self._found[device] = (time.monotonic(), found)
        tell(found)


def _good(found: Energy) -> bool:
    """Return whether a reading is of the board alone."""
    return found.quality is Quality.MEASURED and not found.contended


def _little(busy_s: float, seconds: float) -> bool:
    """Return whether this process left a processor as idle as others have to leave it.

    A page that is drawn meanwhile, say, is no part of what a processor takes at rest.
    """
    return busy_s <= CORES_FRAC * seconds * (psutil.cpu_count() or 1)
