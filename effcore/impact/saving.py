"""A saving as a share of what dense training takes, and what it is a saving of.

Joules saved may be measured; FLOPs and seconds saved are not joules saved, and a label that
goes with every number says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from effcore.events import Energy, Quality
from effcore.impact.costs import joules_of
from effcore.impact.ranges import ImpactError, Range, number_text
from effcore.stats import paired

#: Nothing saves more than all; what costs more than ten times as much is no saving either.
SAVING_LIMITS: Final = (-10.0, 1.0)


class Basis(StrEnum):
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
        where: What it was found on, as the end of a sentence.
        quality: How joules came to be known, where joules were compared.
        notes: What a reader must know before quoting it.
    """

    fraction: Range
    basis: Basis
    where: str
    quality: Quality | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no share, and joules of which nothing is known."""
        self.fraction.within("saving", *SAVING_LIMITS, "give shares such as 0.1 and 0.3")
        known = self.quality not in (None, Quality.UNAVAILABLE)
        if known != (self.basis is Basis.JOULES):
            raise ImpactError(
                "quality", self.quality, "expected it for joules, and for joules only",
                "give the quality of the joules compared",
            )  # fmt: skip

    @property
    def measured(self) -> bool:
        """Whether joules were compared and both sides measured."""
        return self.quality is Quality.MEASURED

    @property
    def label(self) -> str:
        """What the saving may be called; goes beside every number made of it."""
        if self.measured:
            return f"Saving of MEASURED joules: {self.where}"
        if self.basis is Basis.JOULES and self.quality is not None:
            return f"Saving of {self.quality.value.upper()} joules, not measured: {self.where}"
        if self.basis is Basis.STATED:
            return f"Saving as stated by the reader, not measured here: {self.where}"
        return f"Assumes joules follow {self.basis}: not measured. {self.where}"

    def __str__(self) -> str:
        """Say the interval with its label."""
        return f"{percent_text(self.fraction)} · {self.label}"


def percent_text(fraction: Range) -> str:
    """Return shares as per cent, one number where both ends read the same."""
    lo, hi = (f"{100 * end:.1f}".replace("-", "−") for end in (fraction.lo, fraction.hi))
    lo, hi = (text.replace("−0.0", "0.0") for text in (lo, hi))
    return f"{lo}%" if lo == hi else f"{lo}% to {hi}%"


def saving_of(
    own: Sequence[float],
    dense: Sequence[float],
    basis: Basis,
    where: str,
    quality: Quality | None = None,
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
        fraction = _within(*[float(1.0 - shares[0])] * 2)
        notes: tuple[str, ...] = ("one pair of runs: how far it scatters is not known",)
    else:
        result = paired([1.0] * len(own), [float(share) for share in shares])
        fraction = _within(result.lo, result.hi)
        notes = (f"{len(own)} pairs, 95% t interval",)
    return Saving(fraction, basis, where, quality, notes)


def saving_of_energies(pairs: Sequence[tuple[Energy, Energy]], where: str) -> Saving:
    """Return the saving of joules over pairs of runs: each run and its dense twin.

    On one instrument its error is much the same on both sides and cancels in the quotient.
    With a single pair that is not relied on: the intervals of both sides count in full.

    Raises:
        ImpactError: Joules are missing, of more than one quality or scope, or estimated.
    """
    everything = [energy for pair in pairs for energy in pair]
    kinds = {(energy.quality, energy.scope, energy.source) for energy in everything}
    if len(kinds) != 1:
        found = sorted({f"{quality.value} {scope}" for quality, scope, _ in kinds})
        raise ImpactError(
            "pairs", found, "expected joules of one quality, scope and instrument",
            "compare runs metered alike",
        )  # fmt: skip
    quality = everything[0].quality
    if quality is Quality.ESTIMATED or any(energy.joules is None for energy in everything):
        raise ImpactError(
            "pairs", quality.value, "expected joules as values, not estimates",
            "compare seconds or FLOPs instead: an estimate restates processor time",
        )  # fmt: skip
    values = [[energy.joules or 0.0 for energy in side] for side in zip(*pairs, strict=True)]
    saving = saving_of(values[0], values[1], Basis.JOULES, where, quality)
    if len(pairs) > 1:
        return saving
    fraction = _widest(*(joules_of(energy) for energy in pairs[0]))
    return Saving(fraction, Basis.JOULES, where, quality, saving.notes)


def _widest(own: Range | None, dense: Range | None) -> Range:
    """Return the interval of 1 − own ÷ dense over the intervals of both."""
    assert own is not None, "joules that are values have a range"
    assert dense is not None, "joules that are values have a range"
    if dense.lo <= 0:
        raise ImpactError(
            "dense", number_text(dense.lo), "expected joules above 0", "meter a longer run"
        )
    return _within(1.0 - own.hi / dense.lo, 1.0 - own.lo / dense.hi)


def _within(lo: float, hi: float) -> Range:
    """Return an interval cut at the limits of what a saving can be."""
    least, most = SAVING_LIMITS
    return Range(min(max(lo, least), most), max(min(hi, most), least))
