"""Texts on what a run saved or did not spend; every page, report and command uses these.

An energy claim also names every missing fact. Its items are those required by MLPerf Training's
power rules, ML.ENERGY and the SCI (ISO/IEC 21031) together: boundary, instrument, quality, window,
hardware, idle treatment, repeats, accuracy reached, and what is not covered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from effcore.energy.arithmetic import (
    MIN_IDLE_READINGS,
    dynamic_energy,
    has_short_idle_readings,
    idle_duration_text,
)
from effcore.energy.sources.base import SHARED_USE_UNKNOWN, SHARED_USE_UNKNOWN_BEFORE
from effcore.impact.ranges import Range, number_text, range_text
from effcore.impact.reference_comparison import (
    ComparableRun,
    ComputationNotSpent,
    ProjectableShare,
    QualityDifference,
    RunSaving,
    compare_with_reference,
    computation_not_spent,
)
from effcore.impact.saving import SavingBasis, paired_energy_saving
from effcore.records import Energy, EnergyQuality, RunStatus

#: How a reader gets the reference that a run lacks.
REFERENCE_HINT = (
    "To compare it, train the reference: the same settings and seed with policy dense and no budget"
)


def saving_and_quality_text(saving: RunSaving) -> str:
    """Return a saving with its cost in quality, as in "−40% computation, −0.36 dB, one seed"."""
    quality = "one of the two results is unknown"
    if saving.quality is not None:
        quality = quality_change_text(saving.quality)
    return f"{computation_change_text(saving)}, {quality}, {seeds_text(saving)}"


def short_saving_text(saving: RunSaving) -> str:
    """Return a saving for a tile: the change of computation and of quality."""
    if saving.quality is None:
        return change_text(saving.saved_compute_frac)
    return f"{change_text(saving.saved_compute_frac)}, {quality_change_text(saving.quality)}"


def computation_change_text(saving: RunSaving) -> str:
    """Return the change of computation, as in "−40% computation"."""
    return f"{change_text(saving.saved_compute_frac)} computation"


def time_change_text(saving: RunSaving) -> str:
    """Return the change of seconds with both durations; empty if a duration is unknown."""
    if not (change := short_time_change_text(saving)):
        return ""
    own, reference = saving.seconds
    return f"{change}, {own:,.1f} s against {reference:,.1f} s"


def short_time_change_text(saving: RunSaving) -> str:
    """Return the change of seconds, as in "−38% time"; empty if a duration is unknown."""
    if SavingBasis.SECONDS not in saving.savings:
        return ""
    own, reference = saving.seconds
    return f"{change_text(1.0 - own / reference)} time"


def quality_change_text(quality: QualityDifference) -> str:
    """Return the change of the metric in its own unit, as in "−0.36 dB"."""
    if quality.metric is None:
        text = f"{quality.name} {number_text(quality.own)} against "
        return text + number_text(quality.reference)
    metric, change = quality.metric, quality.own - quality.reference
    number = f"{metric.factor * change:+.{metric.digits}f}".replace("-", "−")
    if float(number.replace("−", "-")) == 0:
        number = f"±{number[1:]}"
    return f"{number} {metric.difference_unit}".rstrip()


def seeds_text(saving: RunSaving) -> str:
    """Return how many seeds were compared."""
    return "one seed" if len(saving.seeds) == 1 else f"{len(saving.seeds)} seeds"


def change_text(share_saved: float) -> str:
    """Return a saved share as a signed change in percent; a saving is negative."""
    percent = round(-100 * share_saved)
    return f"{percent:+d}%".replace("-", "−") if percent else "±0%"


def not_spent_sentence(share: ComputationNotSpent) -> str:
    """Return the share not spent, and why it does not count as a saving."""
    return f"{not_spent_text(share)} not spent; no reference of seed {share.seed} has finished"


def not_spent_text(share: ComputationNotSpent) -> str:
    """Return the share not spent, as in "40% of full training's computation"."""
    return f"{not_spent_percent(share)} of full training's computation"


def not_spent_percent(share: ComputationNotSpent) -> str:
    """Return the share not spent, as in "40%"."""
    percent = f"{100 * share.share:.0f}%".replace("-", "−")
    return "0%" if percent == "−0%" else percent


def saving_label_and_sentence(
    run: ComparableRun, reference: ComparableRun | None
) -> tuple[str, str]:
    """Return a label and a text for the computation that a run saved or did not spend."""
    saving = None if reference is None else compare_with_reference([(run, reference)])
    if saving is not None:
        return "Saved", saving_and_quality_text(saving)
    if (share := computation_not_spent(run)) is not None:
        return "Computation not spent", f"{not_spent_sentence(share)}. {REFERENCE_HINT}."
    if run.status is RunStatus.FINISHED:
        return "Full training", "other runs of its seed are compared with it"
    return "Computation not spent", "not known: the run has not finished"


# Idle power -------------------------------------------------------------------------------


def idle_power_text(energy: Energy) -> str | None:
    """Return the power of the idle board before or after a run; ``None`` if it was not read."""
    if not energy.idle_w or energy.quality is EnergyQuality.UNAVAILABLE:
        return None
    powers = [f"{number_text(value)} W" for _, value, _ in energy.idle_w]
    quality = energy.quality.value.upper()
    if len(powers) < MIN_IDLE_READINGS:
        return f"{powers[0]} {quality}, from one reading, {idle_duration_text(energy)}"
    both = f"{powers[0]} before and {powers[-1]} after training, {quality}"
    return f"{both}, {idle_duration_text(energy)}"


def above_idle_text(energy: Energy) -> str | None:
    """Return the joules above idle and their share; ``None`` if they are not known."""
    net = dynamic_energy(energy)
    if net.joules is None or net.lo is None or net.hi is None or not energy.joules:
        return None
    quality = net.quality.value.upper()
    ends = f"{number_text(net.lo)} to {number_text(net.hi)} J {quality}"
    above = f"{net.short_text()}, {net.joules / energy.joules:.0%} of the total; {ends}"
    return (
        f"{above}; imprecise, since the idle readings are short"
        if has_short_idle_readings(energy)
        else above
    )


# Energy claim -----------------------------------------------------------------------------


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
            ("Boundary", NOT_MEASURED if _has_no_joules(energy) else energy.scope),
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
