"""Playback of a recorded energy trace, for tests and recorded runs only.

The source is not registered, so that no run's meter opens it by itself. Its energies have the
quality *recorded*, never *measured*.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

import numpy as np

from effcore.energy.sources.base import EnergySource, EnergyUnavailable, Reading
from effcore.records import EnergyQuality, FloatArray


class ReplaySource(EnergySource):
    """A trace of time, power and cumulative energy, played back in real time.

    A reading is the last row that is due. It has that row's time, so that energy and seconds
    match.

    Args:
        trace: Rows ``t_s, power_w, energy_j``, shape (3, rows), float64, at least one column;
            times rise strictly. Power may be NaN. Energy may fall, as a real counter's does when
            it is reset.
        recorded_scope: What was recorded, in words: the instrument and what it covered.
        wall: Monotonic clock, s; playback starts when the source is built.

    Raises:
        ValueError: The trace has another shape, its times do not rise, or an energy is not
            finite. An estimate has no point values, so it cannot be recorded.
    """

    id = "replay"
    title = "Recording"
    summary = "Plays a recorded trace back."
    quality = EnergyQuality.RECORDED
    hz = 10.0

    def __init__(
        self, trace: FloatArray, recorded_scope: str, wall: Callable[[], float] = time.monotonic
    ) -> None:
        if trace.ndim != 2 or trace.shape[0] != 3 or not trace.shape[1]:
            raise ValueError(
                f"trace has shape {trace.shape}: expected (3, rows) with t_s, power_w, energy_j"
            )
        times, _, energies = trace
        if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise ValueError("the times of trace do not rise: expected strictly increasing seconds")
        if not np.isfinite(energies).all():
            raise ValueError(
                "the energies of trace are not all finite: expected joules in every column; an "
                "estimate has no values to record"
            )
        self._trace, self._wall = trace.copy(), wall
        self._start_s = wall()
        self.source = "recorded trace"
        self.scope = recorded_scope
        self.notes = ("played back from a recording: nothing was measured here",)

    @classmethod
    def open(cls, device: str) -> Self:
        """Raise, because a recording covers no device."""
        raise EnergyUnavailable(
            f"a recording does not show the present energy of {device!r}",
            "create the source from a trace, for tests and recorded runs only",
        )

    def read(self) -> Reading:
        """Return the last row that is due."""
        played_s = self._wall() - self._start_s
        times = self._trace[0]
        row = int(np.searchsorted(times, played_s, side="right")) - 1
        if row < 0 or played_s > times[-1]:
            raise EnergyUnavailable(
                f"the recording covers {times[0]:g} to {times[-1]:g} s, and playback is at "
                f"{played_s:g} s",
                "record a longer trace",
            )
        t_s, power_w, energy_j = self._trace[:, row]
        return Reading.point(self._start_s + float(t_s), float(power_w), float(energy_j))
