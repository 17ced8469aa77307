"""A complete energy claim as text, which also names every missing fact.

The items are those required by MLPerf Training's power rules, ML.ENERGY and the SCI (ISO/IEC
21031) together: boundary, instrument, quality, window, hardware, idle treatment, repeats,
accuracy reached, and what is not covered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from effcore.energy.sources.base import SHARED_USE_UNKNOWN, SHARED_USE_UNKNOWN_BEFORE
from effcore.impact.idle_descriptions import above_idle_text, idle_power_text
from effcore.impact.ranges import Range, number_text, range_text
from effcore.impact.reference_comparison import ComputationNotSpent, ProjectableShare
from effcore.impact.saving import paired_energy_saving
from effcore.records import Energy, EnergyQuality

NOT_STATED: Final = "not stated"
NOT_MEASURED: Final = "not measured"


@dataclass(frozen=True, slots=True)
class EnergyClaim:
    """An energy with the facts that make a claim complete; empty facts are named as not stated.

    A stated fact replaces a recorded one.

    Attributes:
        energy: Energy of one run.
        trained: Description of the training.
        card: The processor or GPU that trained.
        driver: Version of its driver.
        power_limit: The applied power limit, with its unit.
        sampling: How often the meter was read.
        idle: Additional facts on the treatment of idle power.
        accuracy: The result, with its split.
        excluded: Parts of the machine and the building that are not covered.
        saving: Saving against full training, or the computation not spent if no reference has
            finished.
        pairs: Energies of runs and their references, from which the saving is computed in place
            of ``saving``.
    """

    energy: Energy
    trained: str = ""
    card: str = ""
    driver: str = ""
    power_limit: str = ""
    sampling: str = ""
    idle: str = ""
    accuracy: str = ""
    excluded: str = ""
    saving: ProjectableShare | None = None
    pairs: Sequence[tuple[Energy, Energy]] = ()

    def items(self) -> list[tuple[str, str]]:
        """Return the claim as names and texts; no item is ever left out.

        Raises:
            ImpactError: The pairs cannot be compared.
        """
        energy, saving = self.energy, self.saving
        known = {name: getattr(self, name) or text for name, text in recorded_facts(energy).items()}
        if self.pairs:
            saving = paired_energy_saving(self.pairs, self.trained or "training that is not stated")
        return [
            ("Claim", _headline_text(energy)),
            ("Trained", self.trained or NOT_STATED),
            (_saving_name(saving), NOT_MEASURED if saving is None else str(saving)),
            ("Boundary", _boundary_text(energy)),
            ("Instrument", NOT_MEASURED if _has_no_joules(energy) else energy.source),
            ("Quality", energy.quality.value.upper()),
            ("Interval", _interval_text(energy)),
            ("Window", f"{number_text(energy.seconds)} s"),
            ("Sampling", known["sampling"] or NOT_STATED),
            ("Cross-check", _crosscheck_text(energy)),
            ("Other users", _shared_use_text(energy)),
            ("Clock throttling", _throttling_text(energy)),
            ("Card", ", ".join(filter(None, (known["card"], energy.device_uuid))) or NOT_STATED),
            ("Driver", known["driver"] or NOT_STATED),
            ("Power limit", known["power_limit"] or NOT_STATED),
            ("Idle power", _idle_treatment_text(energy, self.idle)),
            ("Repeats", _repeats_text(saving)),
            ("Accuracy reached", self.accuracy or NOT_STATED),
            ("Not covered", _excluded_text(energy, known["excluded"])),
            ("Notes", "; ".join(energy.notes) or "none"),
        ]


def claim_text(claim: EnergyClaim) -> str:
    """Return the claim as lines of text.

    Raises:
        ImpactError: Its pairs cannot be compared.
    """
    return "\n".join(f"{name}: {text}." for name, text in claim.items())


def recorded_facts(energy: Energy) -> dict[str, str]:
    """Return the facts of a claim that the energy has recorded; others are empty."""
    limit, gap = energy.power_limit_w, energy.max_gap_s
    planned_hz = f"{energy.hz:g} readings a second, " if energy.hz else ""
    updates = f"; {energy.ticks:,} counter updates seen" if energy.ticks else ""
    return {
        "card": energy.card,
        "driver": energy.driver,
        "power_limit": f"{number_text(limit)} W" if limit else "",
        "sampling": (
            f"{planned_hz}at least one every {number_text(gap)} s{updates}" if gap else ""
        ),
        "excluded": energy.left_out,
    }


def _has_no_joules(energy: Energy) -> bool:
    return energy.quality is EnergyQuality.UNAVAILABLE


def _headline_text(energy: Energy) -> str:
    if _has_no_joules(energy):
        return "no joules are claimed"
    if energy.quality is EnergyQuality.ESTIMATED:
        return f"{energy}; an estimate follows processor time and cannot prove a saving"
    return str(energy)


def _boundary_text(energy: Energy) -> str:
    return NOT_MEASURED if _has_no_joules(energy) else energy.scope


def _idle_treatment_text(energy: Energy, stated_text: str) -> str:
    known = idle_power_text(energy)
    if known is None:
        return stated_text or NOT_STATED
    above = above_idle_text(energy)
    parts = (f"included in the joules: {known}", above and f"above idle {above}", stated_text)
    return "; ".join(filter(None, parts))


def _crosscheck_text(energy: Energy) -> str:
    if energy.crosscheck is None:
        return NOT_MEASURED
    return f"counter energy ÷ (average power x time) = {energy.crosscheck:.3f}"


def _shared_use_text(energy: Energy) -> str:
    if energy.contended:
        return "yes: the joules include other programs"
    for note in energy.notes:
        if note.startswith((SHARED_USE_UNKNOWN, SHARED_USE_UNKNOWN_BEFORE)):
            return note
    # A CPU estimate has no device; it covers this process only.
    return "none seen" if energy.device_uuid or energy.driver else NOT_MEASURED


def _throttling_text(energy: Energy) -> str:
    if not energy.device_uuid or energy.throttled_s is None:
        return NOT_MEASURED
    return f"for {number_text(energy.throttled_s)} s" if energy.throttled_s else "never seen"


def _interval_text(energy: Energy) -> str:
    if energy.lo is None or energy.hi is None:
        return NOT_MEASURED if _has_no_joules(energy) else NOT_STATED
    ends = range_text(Range(energy.lo, energy.hi))
    return f"{ends} J {energy.quality.value.upper()}"


def _saving_name(saving: ProjectableShare | None) -> str:
    if isinstance(saving, ComputationNotSpent):
        return "Computation not spent"
    return "Saving against full training"


def _repeats_text(saving: ProjectableShare | None) -> str:
    if saving is None:
        return "one run; its variation was not measured"
    return "; ".join(saving.notes) or NOT_STATED


def _excluded_text(energy: Energy, excluded: str) -> str:
    if _has_no_joules(energy):
        return "everything"
    rest = f"everything outside the boundary, {energy.scope}"
    return f"{rest}: {excluded}" if excluded else f"{rest}; the parts are {NOT_STATED}"
