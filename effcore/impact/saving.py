"""A saving as a share of full training, with the quantity that was compared.

A saving of FLOPs or seconds is not a saving of joules; the label of every number says so.
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

#: Limits of a saving: at most everything; at worst ten times more is spent.
SAVING_LIMITS: Final = (-10.0, 1.0)


class SavingBasis(StrEnum):
    """The quantity that was compared."""

    JOULES = "joules"
    SECONDS = "seconds"
    FLOPS = "FLOPs"
    STATED = "stated"


@dataclass(frozen=True, slots=True)
class Saving:
    """A saving with its interval; negative if more was used.

    Attributes:
        fraction: Share of full training's amount, at most 1.
        basis: The quantity that was compared.
        where: The runs that were compared, as the end of a sentence.
        quality: Quality of the joules, if joules were compared.
        notes: Caveats to read before quoting it.
        result: Cost in quality as text, shown wherever the saving is shown.
    """

    fraction: Range
    basis: SavingBasis
    where: str
    quality: EnergyQuality | None = None
    notes: tuple[str, ...] = ()
    result: str = ""

    def __post_init__(self) -> None:
        """Validate the share, and that joules have a quality."""
        self.fraction.require_within("saving", *SAVING_LIMITS, "give shares such as 0.1 and 0.3")
        known = self.quality not in (None, EnergyQuality.UNAVAILABLE)
        if not self.where.strip():
            raise ImpactError("where", self.where, "expected a text", "name the compared runs")
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
        """Label of the saving, shown beside every number computed from it."""
        if self.measured:
            return "Saving of MEASURED joules"
        if self.basis is SavingBasis.JOULES and self.quality is not None:
            return f"Saving of {self.quality.value.upper()} joules: not measured"
        if self.basis is SavingBasis.STATED:
            return "Saving stated by the reader: not measured here"
        return f"Assumes that joules follow {self.basis}: not measured"

    @property
    def label(self) -> str:
        """The claim, with the runs that were compared."""
        return f"{self.claim}. {self.where[0].upper()}{self.where[1:]}"

    def __str__(self) -> str:
        """Return the interval with its label and the cost in quality."""
        result = f"; {self.result}" if self.result else ""
        return f"{percent_text(self.fraction)} · {self.label}{result}"


def percent_text(fraction: Range) -> str:
    """Return a range of shares in percent; a single number if both ends have the same text.

    An end at the lower limit was cut there, and is followed by "or less".
    """
    lo, hi = (
        f"{100 * end:.1f}".replace("-", "−").replace("−0.0", "0.0")
        + ("% or less" if end <= SAVING_LIMITS[0] else "%")
        for end in (fraction.lo, fraction.hi)
    )
    return lo if lo == hi else f"{lo} to {hi}"


def paired_saving(
    own: Sequence[float],
    dense: Sequence[float],
    basis: SavingBasis,
    where: str,
    quality: EnergyQuality | None = None,
) -> Saving:
    """Return the saving over pairs of runs, with the 95% t interval of its mean.

    Args:
        own: Amount used by each run, in the basis's unit.
        dense: Amount used by each run's reference.
        basis: The quantity that is compared.
        where: The runs that are compared.
        quality: Quality of joules; only for joules.

    Raises:
        ImpactError: There is nothing to compare, the numbers of values differ, or a reference
            used nothing.
    """
    if not own or len(own) != len(dense):
        raise ImpactError(
            "own", f"{len(own)} values for {len(dense)} dense", "expected equally many, at least 1",
            "compare each run with full training of the same seed",
        )  # fmt: skip
    if not (np.isfinite([*own, *dense]).all() and min(own) >= 0 and min(dense) > 0):
        raise ImpactError(
            "dense", min(dense), f"expected finite {basis} above 0",
            "leave out pairs without a reading",
        )  # fmt: skip
    shares = np.divide(own, dense)
    if len(own) == 1:
        fraction = _clipped_range(*[float(1.0 - shares[0])] * 2)
        notes: tuple[str, ...] = ("one pair of runs: the variation over seeds is unknown",)
    else:
        result = paired_difference([1.0] * len(own), [float(share) for share in shares])
        fraction = _clipped_range(result.lo, result.hi)
        notes = (f"{len(own)} pairs, 95% t interval",)
    return Saving(fraction, basis, where, quality, notes)


def paired_energy_saving(pairs: Sequence[tuple[Energy, Energy]], where: str) -> Saving:
    """Return the saving of joules over pairs of runs: each run and its reference.

    The interval of several pairs comes from their variation. The interval of one pair combines
    the intervals of both energies.

    Raises:
        ImpactError: Joules are missing, have no interval, come from different meters, or are
            estimated.
    """
    try:
        savings = [compare(own, dense) for own, dense in pairs]
    except EnergySumError as error:
        raise ImpactError("pairs", len(pairs), f"{error}", "compare runs metered alike") from error
    qualities = {saving.quality for saving in savings}
    if len(qualities) != 1 or any(saving.saved_frac is None for saving in savings):
        raise ImpactError(
            "pairs", sorted(qualities), "expected joules of one quality, as values",
            "compare seconds or FLOPs instead: an estimate only follows processor time",
        )  # fmt: skip
    own, dense = ([energy.joules or 0.0 for energy in side] for side in zip(*pairs, strict=True))
    saving = paired_saving(own, dense, SavingBasis.JOULES, where, qualities.pop())
    if len(pairs) > 1:
        return saving
    return replace(saving, fraction=_clipped_range(savings[0].lo, savings[0].hi))


def _clipped_range(lo: float, hi: float) -> Range:
    """Return an interval clipped to the limits of a saving."""
    least, most = SAVING_LIMITS
    return Range(min(max(lo, least), most), max(min(hi, most), least))
