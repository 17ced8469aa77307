"""Joules as kWh, CO2e and money, with how they came to be known and what was assumed.

Nothing is assumed unasked: without a country there is no CO2e, without a price no money, and
neither the building's overhead (PUE) nor the making of the hardware is in it until stated.
The joules' quality goes wherever they go: no number is written without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from effcore.impact.assumptions import (
    Assumptions,
    grid_sentences,
    hardware_sentence,
    price_sentence,
)
from effcore.impact.grid_factors import carbon_intensity
from effcore.impact.ranges import Range, exact_range, range_text
from effcore.records import Energy, EnergyQuality

J_PER_KWH: Final = 3.6e6
_NO_ASSUMPTIONS: Final = Assumptions()


@dataclass(frozen=True, slots=True)
class EnergyQuantity:
    """An amount that came of joules, inseparable from how these came to be known.

    Attributes:
        values: The amount.
        unit: Its unit.
        quality: How the joules came to be known.
        is_unit_conversion: Whether it is the joules in another unit; else more was assumed.
    """

    values: Range
    unit: str
    quality: EnergyQuality
    is_unit_conversion: bool = False

    def __str__(self) -> str:
        """Say the amount with the quality of the joules."""
        quality = self.quality.value.upper()
        words = quality if self.is_unit_conversion else f"from {quality} joules"
        separator = " " if self.is_unit_conversion else ", "
        return f"{range_text(self.values)} {self.unit}{separator}{words}"


@dataclass(frozen=True, slots=True)
class EnergyImpact:
    """What joules amount to, and on what terms.

    Attributes:
        energy: The joules.
        kwh: At the meter of the instrument, or ``None`` where there are no joules.
        building_kwh: With the building's overhead; ``None`` where that is not applied.
        co2e: Grams of CO2e of using it, or ``None`` where no grid is stated.
        money: Its cost, or ``None`` where no price is stated.
        sci: Grams of CO2e per functional unit, after ISO/IEC 21031: (E x I + M) ÷ R.
        sci_name: What ``sci`` may be called: the whole only with the hardware's making in it.
        assumption_sentences: What was assumed, a sentence each.
    """

    energy: Energy
    kwh: EnergyQuantity | None
    building_kwh: EnergyQuantity | None
    co2e: EnergyQuantity | None
    money: EnergyQuantity | None
    sci: EnergyQuantity | None
    sci_name: str
    assumption_sentences: tuple[str, ...]

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield the name and the text of each amount that there is."""
        for name, amount in (
            ("Energy", self.kwh),
            ("Energy with the building's overhead", self.building_kwh),
            ("CO2e of using it", self.co2e),
            ("Cost", self.money),
            (self.sci_name, self.sci),
        ):
            if amount is not None:
                yield name, str(amount)


def joules_range(energy: Energy) -> Range | None:
    """Return the interval of joules, the value alone where no interval is stated, or ``None``.

    Raises:
        ImpactError: The record contradicts itself.
    """
    if energy.quality is EnergyQuality.UNAVAILABLE:
        return None
    lo, hi = energy.lo, energy.hi
    if lo is None or hi is None:
        lo = hi = energy.joules
    if lo is None or hi is None:
        return None
    return Range(lo, hi).require_within(
        "energy", 0, math.inf, "measure again: a meter counts upwards"
    )


def energy_impact(energy: Energy, assumptions: Assumptions = _NO_ASSUMPTIONS) -> EnergyImpact:
    """Return what joules amount to on the terms given.

    Raises:
        ImpactError: The energy record or the spread contradicts itself.
    """
    joules = joules_range(energy)
    assumed = tuple(_impact_assumptions(energy, joules, assumptions))
    if joules is None:
        return EnergyImpact(energy, None, None, None, None, None, _sci_name(assumptions), assumed)
    kwh = joules.times(1 / J_PER_KWH)
    building = kwh.times(assumptions.pue.values)
    co2e = money = sci = None
    if assumptions.factor is not None:
        co2e = building.times(carbon_intensity(assumptions.factor, assumptions.spread))
        sci = _sci_range(co2e, energy.seconds, assumptions)
    if (price := assumptions.price) is not None:
        money = EnergyQuantity(building.times(price.per_kwh), price.currency, energy.quality)
    applied = assumptions.pue.values != exact_range(1.0)
    return EnergyImpact(
        energy=energy,
        kwh=EnergyQuantity(kwh, "kWh", energy.quality, is_unit_conversion=True),
        building_kwh=EnergyQuantity(building, "kWh", energy.quality) if applied else None,
        co2e=None if co2e is None else EnergyQuantity(co2e, "g CO2e", energy.quality),
        money=money,
        sci=None if sci is None else EnergyQuantity(sci, _sci_unit(assumptions), energy.quality),
        sci_name=_sci_name(assumptions),
        assumption_sentences=assumed,
    )


def _sci_range(co2e: Range, seconds: float, assumptions: Assumptions) -> Range:
    made = assumptions.embodied
    total = co2e if made is None else co2e.plus(made.grams(seconds))
    return total.times(1 / assumptions.units)


def _sci_unit(assumptions: Assumptions) -> str:
    return f"g CO2e per {assumptions.unit}"


def _sci_name(assumptions: Assumptions) -> str:
    return "SCI operational part" if assumptions.embodied is None else "SCI (ISO/IEC 21031)"


def _impact_assumptions(
    energy: Energy, joules: Range | None, assumptions: Assumptions
) -> Iterator[str]:
    quality = energy.quality.value.upper()
    if joules is None:
        why = "; ".join(energy.notes) or energy.source
        yield f"There are no joules to start from: {why}."
        return
    yield f"The joules are those of {energy.scope}, by {energy.source}: {quality}."
    if joules.lo == joules.hi:
        yield "The instrument states no interval for them: the value is taken as it is."
    if energy.quality is EnergyQuality.ESTIMATED:
        yield "Estimated joules restate how busy the processor was; they are no measurement."
    yield f"{assumptions.pue}."
    yield from grid_sentences(assumptions.factor, assumptions.spread)
    yield price_sentence(assumptions.price)
    yield hardware_sentence(assumptions.embodied)
