"""A saving as a share of what dense training takes, and what it is a saving of.

Joules saved may be measured; FLOPs and seconds saved are not joules saved, and a label that
goes with every number says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np

from effcore.energy.arithmetic import EnergySumError
from effcore.energy.arithmetic import compare_energies as compare
from effcore.impact.ranges import ImpactError, Range
from effcore.records import Energy, EnergyQuality
from effcore.studies.statistics import paired_difference

#: Nothing saves more than all; what costs more than ten times as much is no saving either.
SAVING_LIMITS: Final = (-10.0, 1.0)


class SavingBasis(StrEnum):
    """What was compared."""

    JOULES = "joules"
    SECONDS = "seconds"
    FLOPS = "FLOPs"
    STATED = "stated"


@dataclass(frozen=True, slots=True)
class Saving:
    """A saving with its interval; negative where more was taken.

    Attributes:
        fraction: Share of what dense training takes, up to 1.
        basis: What was compared.
        where: What it was found on, in words that can end a sentence.
        quality: How joules came to be known, where joules were compared.
        notes: What a reader must know before quoting it.
        result: What it cost in quality, in words; stands beside the saving wherever it is said.
    """

    fraction: Range
    basis: SavingBasis
    where: str
    quality: EnergyQuality | None = None
    notes: tuple[str, ...] = ()
    result: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no share, and joules of which nothing is known."""
        self.fraction.require_within("saving", *SAVING_LIMITS, "give shares such as 0.1 and 0.3")
        known = self.quality not in (None, EnergyQuality.UNAVAILABLE)
        if not self.where.strip():
            raise ImpactError("where", self.where, "expected words", "say what it was found on")
        if known != (self.basis is SavingBasis.JOULES):
            raise ImpactError(
                "quality", self.quality, "expected it for joules, and for joules only",
                "give the quality of the joules compared",
            )  # fmt: skip

    @property
    def measured(self) -> bool:
        """Whether joules were compared and both sides measured."""
        return self.quality is EnergyQuality.MEASURED

    @property
    def claim(self) -> str:
        """What the saving may be called; goes beside every number made of it."""
        if self.measured:
            return "Saving of MEASURED joules"
        if self.basis is SavingBasis.JOULES and self.quality is not None:
            return f"Saving of {self.quality.value.upper()} joules: not measured"
        if self.basis is SavingBasis.STATED:
            return "Saving as stated by the reader: not measured here"
        return f"Assumes joules follow {self.basis}: not measured"

    @property
    def label(self) -> str:
        """The same, with what it was found on."""
        return f"{self.claim}. {self.where[0].upper()}{self.where[1:]}"

    def __str__(self) -> str:
        """Say the interval with its label and what it cost in quality."""
        result = f"; {self.result}" if self.result else ""
        return f"{percent_text(self.fraction)} · {self.label}{result}"


def percent_text(fraction: Range) -> str:
    """Return shares as per cent, one number where both ends read the same."""
    lo, hi = (f"{100 * end:.1f}".replace("-", "−") for end in (fraction.lo, fraction.hi))
    lo, hi = (text.replace("−0.0", "0.0") for text in (lo, hi))
    return f"{lo}%" if lo == hi else f"{lo}% to {hi}%"


def paired_saving(
    own: Sequence[float],
    dense: Sequence[float],
    basis: SavingBasis,
    where: str,
    quality: EnergyQuality | None = None,
) -> Saving:
    """Return the saving over pairs of runs, with the 95% t interval of its mean.

    Args:
        own: What each run took, in the basis's unit.
        dense: What its dense twin took.
        basis: What is compared.
        where: What it was found on.
        quality: How joules came to be known, for those.

    Raises:
        ImpactError: Nothing to compare, unequal numbers, or a dense run that took nothing.
    """
    if not own or len(own) != len(dense):
        raise ImpactError(
            "own", f"{len(own)} values for {len(dense)} dense", "expected equally many, at least 1",
            "compare runs with their dense twins, pair by pair",
        )  # fmt: skip
    if not (np.isfinite([*own, *dense]).all() and min(own) >= 0 and min(dense) > 0):
        raise ImpactError(
            "dense", min(dense), f"expected {basis} above 0, all of them numbers",
            "leave pairs without a reading out",
        )  # fmt: skip
    shares = np.divide(own, dense)
    if len(own) == 1:
        fraction = _clipped_range(*[float(1.0 - shares[0])] * 2)
        notes: tuple[str, ...] = ("one pair of runs: how far it scatters is not known",)
    else:
        result = paired_difference([1.0] * len(own), [float(share) for share in shares])
        fraction = _clipped_range(result.lo, result.hi)
        notes = (f"{len(own)} pairs, 95% t interval",)
    return Saving(fraction, basis, where, quality, notes)


def paired_energy_saving(pairs: Sequence[tuple[Energy, Energy]], where: str) -> Saving:
    """Return the saving of joules over pairs of runs: each run and its dense twin.

    Of several pairs the interval is that of their scatter. One pair has none, so that the
    intervals of both sides count in full.

    Raises:
        ImpactError: Joules are missing, without an interval, not metered alike, or estimated.
    """
    try:
        each = [compare(own, dense) for own, dense in pairs]
    except EnergySumError as error:
        raise ImpactError("pairs", len(pairs), f"{error}", "compare runs metered alike") from error
    qualities = {saving.quality for saving in each}
    if len(qualities) != 1 or any(saving.saved_frac is None for saving in each):
        raise ImpactError(
            "pairs", sorted(qualities), "expected joules of one quality, as values",
            "compare seconds or FLOPs instead: an estimate restates processor time",
        )  # fmt: skip
    own, dense = ([energy.joules or 0.0 for energy in side] for side in zip(*pairs, strict=True))
    saving = paired_saving(own, dense, SavingBasis.JOULES, where, qualities.pop())
    if len(pairs) > 1:
        return saving
    return replace(saving, fraction=_clipped_range(each[0].lo, each[0].hi))


def _clipped_range(lo: float, hi: float) -> Range:
    """Return an interval cut at the limits of what a saving can be."""
    least, most = SAVING_LIMITS
    return Range(min(max(lo, least), most), max(min(hi, most), least))
