"""Joules of a run's phases: attributed by regression, and never shown without saying so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

#: How these joules came to be known; no meter's quality, since no meter told them apart.
ATTRIBUTED: Final = "attributed"
#: The name of the time that is in no phase.
NO_PHASE: Final = "no phase"


@dataclass(frozen=True, slots=True)
class AttributedPhaseEnergy:
    """A phase's share of a measured energy: attributed by regression, not measured.

    Attributes:
        phase: Its name.
        joules: The attributed value; ``None`` where the phase cannot be told from others.
        lo: Lower end of its 95 % interval, J: of the attribution alone, to which the
            instrument's error comes.
        hi: Upper end.
        seconds: Time it had.
    """

    phase: str
    joules: float | None
    lo: float
    hi: float
    seconds: float

    @property
    def power_w(self) -> float | None:
        """Mean power during it, W."""
        return self.joules / self.seconds if self.joules is not None and self.seconds else None

    def __str__(self) -> str:
        """Say the value with its interval and that it is attributed; never without."""
        return f"{self.phase} {self.short_text()}"

    def short_text(self) -> str:
        """Say the value without the phase's name."""
        quality = ATTRIBUTED.upper()
        if self.joules is None:
            return f"not told from other phases: up to {self.hi:,.1f} J {quality}"
        return f"{self.joules:,.1f} J ({self.lo:,.1f} to {self.hi:,.1f}) {quality}"


@dataclass(frozen=True, slots=True)
class PhaseAttribution:
    """What the phases of one run took, or why that is not known.

    Attributes:
        phases: Each phase, and the time in none; empty where nothing is known.
        why: Why nothing is known; else empty.
        notes: What a reader must know before quoting it.
    """

    phases: tuple[AttributedPhaseEnergy, ...] = ()
    why: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it with everything needed to read it rightly, as JSON has it."""
        return {
            "quality": ATTRIBUTED,
            "why": self.why,
            "notes": list(self.notes),
            "phases": {
                found.phase: {
                    "joules": found.joules,
                    "lo": found.lo,
                    "hi": found.hi,
                    "seconds": found.seconds,
                }
                for found in self.phases
            },
        }


#: What there is to say of a run that is stored without.
ATTRIBUTION_NOT_RECORDED: Final = PhaseAttribution(
    why="no energy by phase was recorded with this run"
)
#: And of one that still trains.
ATTRIBUTION_PENDING: Final = PhaseAttribution(
    why="energy is attributed to phases when a run has ended"
)
