"""An energy claim written out as a reviewer would accept it; what is missing is said to be.

The items are those that MLPerf Training's power rules, ML.ENERGY and the SCI (ISO/IEC 21031)
ask for between them: boundary, instrument, quality, window, hardware, idle treatment, repeats,
accuracy reached, and what is left out.
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
    """What goes with joules to make a claim of them; everything left empty is said to be.

    What the record of the joules holds need not be stated; what is stated goes before it.

    Attributes:
        energy: The joules, of one run.
        trained: What was trained, in words.
        card: The processor or GPU that trained.
        driver: Its driver's version.
        power_limit: The limit in force, with its unit.
        sampling: How often the instrument was read.
        idle: What else there is to say of how idle power was treated.
        accuracy: What was reached, and on which split.
        excluded: Parts of the machine and the building that are left out.
        saving: A saving against dense training, where one was found, or the computation not
            spent, where no reference has finished.
        pairs: Pairs of runs, each with its dense twin, that a saving is made of; instead of
            ``saving``.
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
        """Return the claim, a name and a text for each part; none is ever left out.

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
            ("Clocks held down", _throttling_text(energy)),
            ("Card", ", ".join(filter(None, (known["card"], energy.device_uuid))) or NOT_STATED),
            ("Driver", known["driver"] or NOT_STATED),
            ("Power limit", known["power_limit"] or NOT_STATED),
            ("Idle power", _idle_treatment_text(energy, self.idle)),
            ("Repeats", _repeats_text(saving)),
            ("Accuracy reached", self.accuracy or NOT_STATED),
            ("Left out", _excluded_text(energy, known["excluded"])),
            ("Notes", "; ".join(energy.notes) or "none"),
        ]


def claim_text(claim: EnergyClaim) -> str:
    """Return the claim as lines of text.

    Raises:
        ImpactError: Its pairs cannot be compared.
    """
    return "\n".join(f"{name}: {text}." for name, text in claim.items())


def recorded_facts(energy: Energy) -> dict[str, str]:
    """Return the parts of a claim that the record of the joules holds; empty what it does not."""
    limit, gap = energy.power_limit_w, energy.max_gap_s
    meant = f"{energy.hz:g} readings a second, " if energy.hz else ""
    steps = f"; {energy.ticks:,} steps of its counter seen" if energy.ticks else ""
    return {
        "card": energy.card,
        "driver": energy.driver,
        "power_limit": f"{number_text(limit)} W" if limit else "",
        "sampling": f"{meant}at least one every {number_text(gap)} s{steps}" if gap else "",
        "excluded": energy.left_out,
    }


def _has_no_joules(energy: Energy) -> bool:
    return energy.quality is EnergyQuality.UNAVAILABLE


def _headline_text(energy: Energy) -> str:
    if _has_no_joules(energy):
        return "no joules are claimed"
    if energy.quality is EnergyQuality.ESTIMATED:
        return f"{energy}; an estimate, which restates processor time and shows no saving"
    return str(energy)


def _boundary_text(energy: Energy) -> str:
    return NOT_MEASURED if _has_no_joules(energy) else energy.scope


def _idle_treatment_text(energy: Energy, stated_text: str) -> str:
    known = idle_power_text(energy)
    if known is None:
        return stated_text or NOT_STATED
    above = above_idle_text(energy)
    parts = (f"in the joules: {known}", above and f"above it {above}", stated_text)
    return "; ".join(filter(None, parts))


def _crosscheck_text(energy: Energy) -> str:
    if energy.crosscheck is None:
        return NOT_MEASURED
    return f"the counter came to {energy.crosscheck:.3f} of the average power over the time"


def _shared_use_text(energy: Energy) -> str:
    if energy.contended:
        return "yes: the joules are everybody's, not the run's alone"
    for note in energy.notes:
        if note.startswith((SHARED_USE_UNKNOWN, SHARED_USE_UNKNOWN_BEFORE)):
            return note
    looked = energy.device_uuid or energy.driver  # a model sees nobody but this process
    return "none seen" if looked else NOT_MEASURED


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
    return "Saving against dense training"


def _repeats_text(saving: ProjectableShare | None) -> str:
    if saving is None:
        return "one run; how far it scatters is not measured"
    return "; ".join(saving.notes) or NOT_STATED


def _excluded_text(energy: Energy, excluded: str) -> str:
    if _has_no_joules(energy):
        return "everything"
    rest = f"whatever lies outside the boundary, {energy.scope}"
    return f"{rest}: {excluded}" if excluded else f"{rest}; which parts, is {NOT_STATED}"
