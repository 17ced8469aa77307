"""Conversion of joules to kWh, CO2e and money, with their quality and the assumptions.

There are no hidden assumptions: without a country there is no CO2e, without a price no cost, and
the building's overhead (PUE) and the making of the hardware count only if they are stated. Every
number is written with the quality of its joules.
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
    """An amount computed from joules, with the quality of the joules.

    Attributes:
        values: The amount.
        unit: Its unit.
        quality: Quality of the joules.
        is_unit_conversion: Whether the amount is the joules in another unit, without further
            assumptions.
    """

    values: Range
    unit: str
    quality: EnergyQuality
    is_unit_conversion: bool = False

    def __str__(self) -> str:
        """Return the amount with the quality of the joules."""
        quality = self.quality.value.upper()
        source = f" {quality}" if self.is_unit_conversion else f", from {quality} joules"
        return f"{range_text(self.values)} {self.unit}{source}"


@dataclass(frozen=True, slots=True)
class EnergyImpact:
    """Amounts computed from an energy, with the assumptions.

    Attributes:
        energy: The energy.
        kwh: Energy as metered, or ``None`` without joules.
        building_kwh: Energy with the building's overhead, or ``None`` if no PUE is applied.
        co2e: Emissions of the use, g CO2e, or ``None`` if no grid is stated.
        money: Cost, or ``None`` if no price is stated.
        sci: Grams of CO2e per functional unit, after ISO/IEC 21031: (E x I + M) ÷ R.
        sci_name: Name of ``sci``; the operational part only, without the making of the hardware.
        assumption_sentences: The assumptions, one sentence each.
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
        """Yield the name and the text of each known amount."""
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
    """Return the interval of the joules; the value itself if there is no interval.

    ``None`` without joules.

    Raises:
        ImpactError: The record is contradictory.
    """
    if energy.quality is EnergyQuality.UNAVAILABLE:
        return None
    lo, hi = energy.lo, energy.hi
    if lo is None or hi is None:
        lo = hi = energy.joules
    if lo is None or hi is None:
        return None
    return Range(lo, hi).require_within(
        "energy", 0, math.inf, "measure again: a meter never counts down"
    )


def energy_impact(energy: Energy, assumptions: Assumptions = _NO_ASSUMPTIONS) -> EnergyImpact:
    """Return the amounts computed from an energy under the given assumptions.

    Raises:
        ImpactError: The energy record or the spread is contradictory.
    """
    joules = joules_range(energy)
    sentences = tuple(_impact_assumptions(energy, joules, assumptions))
    if joules is None:
        return EnergyImpact(energy, None, None, None, None, None, _sci_name(assumptions), sentences)
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
        assumption_sentences=sentences,
    )


def _sci_range(co2e: Range, seconds: float, assumptions: Assumptions) -> Range:
    embodied = assumptions.embodied
    total = co2e if embodied is None else co2e.plus(embodied.grams(seconds))
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
        yield f"There are no joules: {why}."
        return
    yield f"The joules cover {energy.scope}, by {energy.source}: {quality}."
    if joules.lo == joules.hi:
        yield "The meter states no interval, so the value is used without one."
    if energy.quality is EnergyQuality.ESTIMATED:
        yield "Estimated joules follow processor time; they are not a measurement."
    yield f"{assumptions.pue}."
    yield from grid_sentences(assumptions.factor, assumptions.spread)
    yield price_sentence(assumptions.price)
    yield hardware_sentence(assumptions.embodied)
