"""One run's meter: a thread that reads a source, and the joules that come of it.

Readings are taken at the edges (start, pause, resume, stop), from the calling thread, and
by the meter's own thread at the source's ``hz`` in between.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator

from effcore.energy.base import SOURCES, EnergySource, EnergyUnavailable, Reading
from effcore.energy.window import Window, fell
from effcore.events import POWER_COLUMNS, Energy, Quality
from effcore.series import Table

#: After so many failed readings in a row the meter gives up.
MAX_FAILURES = 3
#: An instrument that takes longer to answer is given up, so that it cannot hold up a run.
STALL_S = 5.0


class RunMeter:
    """Meters one run: ``start``, any number of ``pause`` and ``resume``, ``stop``.

    Every method may be called from any thread and none raises for what an instrument
    does: training goes on, and the joules say why they are missing.

    Args:
        source: The opened instrument, which the meter closes; ``None`` where there is none.
        clock: The run clock, s, pauses excluded; read from the meter's thread too.
        unavailable: Why there is no source.

    Attributes:
        table: Rows of ``POWER_COLUMNS``, one for each reading. Energies count from
            ``start`` without pauses; an estimate leaves the points NaN.
    """

    def __init__(
        self,
        source: EnergySource | None,
        clock: Callable[[], float],
        unavailable: str = "no meter was opened",
    ) -> None:
        self.table = Table(len(POWER_COLUMNS))
        self._source = source
        self._clock = clock
        self._problem = unavailable if source is None else ""
        self._lock = threading.RLock()  # held during a reading, so that readings keep order
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._window = Window()
        self._last: Reading | None = None
        self._counting = False
        self._stalled = False
        self._closed = False
        self._started_s: float | None = None
        self._ended_s: float | None = None

    @classmethod
    def open(cls, device: str, clock: Callable[[], float]) -> RunMeter:
        """Return a meter on the first source, by rank, that opens for ``device``."""
        reasons = []
        for kind in SOURCES:
            try:
                return cls(kind.open(device), clock)
            except EnergyUnavailable as refusal:
                reasons.append(f"{kind.title}: {refusal}")
            except Exception as error:  # a fault of one source must not cost the run
                reasons.append(f"{kind.title}: {type(error).__name__}: {error}")
        return cls(None, clock, " · ".join(reasons))

    def start(self) -> None:
        """Take the first reading and start the thread; once only.

        Raises:
            RuntimeError: The meter was started before.
        """
        if self._started_s is not None:
            raise RuntimeError("this meter was started before; open a new one for each run")
        self._started_s = self._clock()
        if self._source is None:
            return
        self.resume()
        self._thread = threading.Thread(
            target=self._loop, args=(1 / self._source.hz,), name=f"power-{self._source.id}"
        )
        self._thread.daemon = True
        self._thread.start()

    def pause(self) -> None:
        """Take an edge reading and count nothing until :meth:`resume`."""
        with self._held() as held:
            if held:
                self.sample()
                self._last, self._counting = None, False

    def resume(self) -> None:
        """Take an edge reading and count from it on."""
        with self._held() as held:
            if held and not self._counting:
                self._counting = True
                self.sample()

    def sample(self) -> None:
        """Take one reading now, unless paused or over; the thread does so at ``hz``."""
        with self._held() as held:
            if not held or self._source is None or not self._counting or self._ending.is_set():
                return
            try:
                reading = self._source.read()
            except Exception as error:  # whatever the instrument does, training goes on
                self._count_failure(error)
            else:
                self._count(reading, self._source)

    def stop(self) -> Energy:
        """Take a last edge reading, end the thread, close the source, return the joules.

        Further calls return the same again.
        """
        with self._held() as held:
            if held:
                self.sample()
                self._counting = False
            if self._ended_s is None:
                self._ended_s = self._clock()
            self._ending.set()
        if self._thread is not None:
            self._thread.join(0 if self._stalled else STALL_S)
        self._close()
        return self.energy()

    def energy(self) -> Energy:
        """Return the joules so far; takes no reading and waits for nothing."""
        window, source, problem = self._window, self._source, self._problem
        if source is None:
            return _without(self._elapsed_s(), "no meter", "nothing measured", (problem,))
        if problem:
            notes = (problem, *source.notes, *window.notes())
            return _without(self._elapsed_s(), source.source, source.scope, notes)
        return window.energy(source)

    def _loop(self, period_s: float) -> None:
        due = time.monotonic() + period_s
        while not self._ending.wait(max(0.0, due - time.monotonic())):
            self.sample()
            due = max(due + period_s, time.monotonic())  # what is late is not made up for

    @contextlib.contextmanager
    def _held(self) -> Iterator[bool]:
        """Hold the lock, or give the meter up if a reading keeps it for too long."""
        held = self._lock.acquire(timeout=0 if self._stalled else STALL_S)
        if not held:
            self._stalled = True
            self._give_up(f"the meter did not answer within {STALL_S:g} s")
        try:
            yield held
        finally:
            if held:
                self._lock.release()

    def _give_up(self, problem: str) -> None:
        self._problem = self._problem or problem
        self._ending.set()

    def _count_failure(self, error: Exception) -> None:
        self._window = self._window.failed()
        if self._window.failures_in_row >= MAX_FAILURES:
            self._give_up(f"{MAX_FAILURES} readings in a row failed: {error}")

    def _count(self, now: Reading, source: EnergySource) -> None:
        before, self._last = self._last, now
        if before is not None and fell(before, now):
            self._problem = self._problem or (
                f"the counter fell from {before.energy_hi_j:,.1f} to {now.energy_hi_j:,.1f} J "
                "(a driver was reloaded): what this run took is not known"
            )
        self._window = self._window.plus(before, now)
        row = self._window.row(now, source)
        if self._problem:  # the power is still known, the joules are not
            row = (*row[:3], math.nan, math.nan, math.nan)
        self.table.append(self._clock(), *row)

    def _close(self) -> None:
        # Not held: a call is stuck in the driver, and closing would pull that from under it.
        with self._held() as held, contextlib.suppress(Exception):
            if held and self._source is not None and not self._closed:
                self._closed = True
                self._source.close()

    def _elapsed_s(self) -> float:
        if self._started_s is None:
            return 0.0
        end_s = self._clock() if self._ended_s is None else self._ended_s
        return end_s - self._started_s


def _without(seconds: float, source: str, scope: str, notes: tuple[str, ...]) -> Energy:
    return Energy(None, None, None, seconds, Quality.UNAVAILABLE, source, scope, notes)
