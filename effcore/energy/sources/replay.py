"""A recorded trace, played back in its own time: for tests and recorded runs only.

Not registered, so that no run's meter finds it: whoever wants a recording builds it and
hands it to the meter. What comes of it is *recorded*, never *measured*.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

import numpy as np

from effcore.energy.sources.base import EnergySource, EnergyUnavailable, Reading
from effcore.records import EnergyQuality, FloatArray


class ReplaySource(EnergySource):
    """A trace of time, power and cumulative energy, as far as it has been played.

    As of a counter, a reading is the last row that is due; it has that row's time, so that
    energy and seconds belong together.

    Args:
        trace: Rows ``t_s, power_w, energy_j``, shape (3, rows), float64, at least one; times
            rise. Power may be NaN. Energy may fall, as a real counter does when it is reset.
        recorded_scope: What was recorded, in words: the instrument and what it covered.
        wall: Monotonic seconds; the trace starts when the source is built.

    Raises:
        ValueError: The trace has another shape, its times do not rise, or its energy is not
            known, as of an estimate, which a recording must not turn into a value.
    """

    id = "replay"
    title = "Recording"
    summary = "Plays a recorded trace back."
    quality = EnergyQuality.RECORDED
    hz = 10.0

    def __init__(
        self, trace: FloatArray, recorded_scope: str, wall: Callable[[], float] = time.monotonic
    ) -> None:
        _check_trace(trace)
        self._trace, self._wall = trace.copy(), wall
        self._start_s = wall()
        self.source = "recorded trace"
        self.scope = recorded_scope
        self.notes = ("played back from a recording: nothing was measured here",)

    @classmethod
    def open(cls, device: str) -> Self:
        """Refuse: a recording covers no device.

        Raises:
            EnergyUnavailable: Always.
        """
        raise EnergyUnavailable(
            f"a recording says nothing of what {device!r} takes now",
            "build it from a trace, for tests and recorded runs only",
        )

    def read(self) -> Reading:
        """Return the last row that is due.

        Raises:
            EnergyUnavailable: The trace has not begun, or is over.
        """
        played_s = self._wall() - self._start_s
        times = self._trace[0]
        row = int(np.searchsorted(times, played_s, side="right")) - 1
        if row < 0 or played_s > times[-1]:
            raise EnergyUnavailable(
                f"the recording covers {times[0]:g} to {times[-1]:g} s, and {played_s:g} s have "
                "been played",
                "record a longer trace",
            )
        t_s, power_w, energy_j = self._trace[:, row]
        return Reading.point(self._start_s + float(t_s), float(power_w), float(energy_j))

    def close(self) -> None:
        """There is nothing to let go."""


def _check_trace(trace: FloatArray) -> None:
    if trace.ndim != 2 or trace.shape[0] != 3 or not trace.shape[1]:
        raise ValueError(
            f"trace has shape {trace.shape}: expected (3, rows) with t_s, power_w, energy_j"
        )
    times, _, energies = trace
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise ValueError("the times of trace do not rise: expected seconds in order, none twice")
    if not np.isfinite(energies).all():
        raise ValueError(
            "the energies of trace are not all known: expected joules in every row; of an "
            "estimate there are none to record"
        )
