"""A stretch of metering: differences between readings, and the joules they amount to.

Totals are differences of a cumulative source, never sums of sampled power. In simulated
bursty loads a counter that refreshes every 100 ms erred at the edges alone by 7.6 % (p95)
over 1 s and 1.6 % over 5 s: shorter windows say so, and the shortest get no joules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from effcore.energy.base import EnergySource, Reading
from effcore.events import Energy, Quality

#: Shorter windows get no joules.
MIN_WINDOW_S = 0.5
#: Shorter windows get a note.
SHORT_WINDOW_S = 5.0


@dataclass(frozen=True, slots=True)
class Window:
    """What was metered so far; replaced as a whole, so that readers need no lock.

    Attributes:
        seconds: Time covered by readings.
        energy_j: Point value, J; NaN where only an interval is known.
        lo_j: Lower end as read, J, before the instrument's error.
        hi_j: Upper end as read, J, before the instrument's error.
        readings: Readings taken.
        failures: Readings that failed.
        failures_in_row: Readings that failed since the last good one.
    """

    seconds: float = 0.0
    energy_j: float = 0.0
    lo_j: float = 0.0
    hi_j: float = 0.0
    readings: int = 0
    failures: int = 0
    failures_in_row: int = 0

    def failed(self) -> Window:
        """Return the window after a reading that failed."""
        return replace(self, failures=self.failures + 1, failures_in_row=self.failures_in_row + 1)

    def plus(self, before: Reading | None, now: Reading) -> Window:
        """Return the window after a reading; ``before`` is ``None`` at an opening edge."""
        counted = replace(self, readings=self.readings + 1, failures_in_row=0)
        if before is None:
            return counted
        return replace(  # differences first, so that small ones are not rounded away
            counted,
            seconds=self.seconds + (now.t_mono - before.t_mono),
            energy_j=self.energy_j + (now.energy_j - before.energy_j),
            lo_j=self.lo_j + (now.energy_lo_j - before.energy_lo_j),
            hi_j=self.hi_j + (now.energy_hi_j - before.energy_hi_j),
        )

    def energy(self, source: EnergySource) -> Energy:
        """Return the joules with the source's quality; an estimate is never a point."""
        told = self.seconds >= MIN_WINDOW_S
        point = told and source.quality is not Quality.ESTIMATED and math.isfinite(self.energy_j)
        return Energy(
            joules=self.energy_j if point else None,
            lo=self.lo_j * (1 - source.error_frac) if told else None,
            hi=self.hi_j * (1 + source.error_frac) if told else None,
            seconds=self.seconds,
            quality=source.quality,
            source=source.source,
            scope=source.scope,
            notes=source.notes + self.notes(),
        )

    def row(self, now: Reading, source: EnergySource) -> tuple[float, ...]:
        """Return ``POWER_COLUMNS`` without the seconds, after the reading ``now``."""
        less, more = 1 - source.error_frac, 1 + source.error_frac
        blank = source.quality is Quality.ESTIMATED
        return (
            math.nan if blank else now.power_w,
            now.power_lo_w * less,
            now.power_hi_w * more,
            math.nan if blank else self.energy_j,
            self.lo_j * less,
            self.hi_j * more,
        )

    def notes(self) -> tuple[str, ...]:
        """Return what a reader must know of this window in particular."""
        notes = []
        if self.seconds < MIN_WINDOW_S:
            notes.append(
                f"no joules: the window of {self.seconds:.2f} s is below {MIN_WINDOW_S:g} s"
            )
        elif self.seconds < SHORT_WINDOW_S:
            notes.append(
                f"short window: {self.seconds:.1f} s is below {SHORT_WINDOW_S:g} s, "
                "so that its edges weigh on it"
            )
        if self.failures:
            total = self.readings + self.failures
            notes.append(f"{self.failures} of {total} readings failed")
        return tuple(notes)


def fell(before: Reading, now: Reading) -> bool:
    """Return whether a counter went backwards, as it does when a driver is reloaded."""
    return now.energy_lo_j < before.energy_lo_j or now.energy_hi_j < before.energy_hi_j
