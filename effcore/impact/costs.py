"""Conversion of joules to kWh, CO2e and money, and projection of a saving onto a cluster's year.

There are no hidden assumptions: without a country there is no CO2e, without a price no cost, and
the building's overhead (PUE) and the making of the hardware count only if they are stated. Every
number is written with the quality of its joules.

The reader states the cluster: GPUs, hours and power. The projection assumes that a saving on one
machine holds there, and lists that assumption first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from effcore.impact.assumptions import (
    PUE_NOT_APPLIED,
    Assumptions,
    ElectricityPrice,
    Pue,
    grid_sentences,
    hardware_sentence,
    price_sentence,
)
from effcore.impact.grid_factors import (
    RECURRING_USE_SPREAD,
    GridFactor,
    GridSpread,
    carbon_intensity,
)
from effcore.impact.ranges import Range, exact_range, full_precision_text, range_text
from effcore.impact.reference_comparison import ComputationNotSpent, ProjectableShare
from effcore.impact.saving import percent_text
from effcore.records import Energy, EnergyQuality, Snapshot

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
    sentences = tuple(_assumption_sentences(energy, joules, assumptions))
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
        sci=None
        if sci is None
        else EnergyQuantity(sci, f"g CO2e per {assumptions.unit}", energy.quality),
        sci_name=_sci_name(assumptions),
        assumption_sentences=sentences,
    )


def _sci_range(co2e: Range, seconds: float, assumptions: Assumptions) -> Range:
    embodied = assumptions.embodied
    total = co2e if embodied is None else co2e.plus(embodied.grams(seconds))
    return total.times(1 / assumptions.units)


def _sci_name(assumptions: Assumptions) -> str:
    return "SCI operational part" if assumptions.embodied is None else "SCI (ISO/IEC 21031)"


def _assumption_sentences(
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


# Joules per example -----------------------------------------------------------------------


#: Qualities that may be shown at the top of a page; an estimate only follows processor time.
HEADLINE_QUALITIES = (EnergyQuality.MEASURED, EnergyQuality.MODELLED, EnergyQuality.RECORDED)


def example_counts(snapshot: Snapshot) -> tuple[int, int]:
    """Return the numbers of examples trained on and considered so far."""
    if snapshot.end is not None:
        return snapshot.end.examples_trained, snapshot.end.examples_considered
    if snapshot.steps.shape[1] == 0:
        return 0, 0
    trained, seen = (int(snapshot.column(name)[-1]) for name in ("trained", "considered"))
    return trained, seen


def joules_per_example(snapshot: Snapshot) -> Iterator[tuple[str, EnergyQuantity]]:
    """Yield joules per example trained on and per example seen, if they are known.

    Each amount comes with its kind of examples, ``trained on`` or ``seen``.

    Raises:
        ImpactError: The energy record is contradictory.
    """
    joules, quality = joules_range(snapshot.energy), snapshot.energy.quality
    for examples, name in zip(example_counts(snapshot), ("trained on", "seen"), strict=True):
        if joules is not None and examples:
            amount = joules.times(1 / examples)
            unit = f"J per example {name}"
            yield name, EnergyQuantity(amount, unit, quality, is_unit_conversion=True)


# A cluster's year -------------------------------------------------------------------------


GPU_LIMITS: Final = (1, 10_000_000)
HOUR_LIMITS: Final = (0.0, 8784.0)
POWER_LIMITS_W: Final = (1.0, 5000.0)


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster that a saving is projected to.

    Attributes:
        gpus: Number of GPUs that train.
        hours: Training hours per year of each GPU.
        power_w: Mean power of one GPU while it trains, W.
        pue: The building's overhead.
        price: Price of electricity; without it, no cost is computed.
        factor: The grid's annual average; without it, no CO2e is computed.
        spread: Variation of the grid around its average over a year.
    """

    gpus: int
    hours: Range
    power_w: Range
    pue: Pue = PUE_NOT_APPLIED
    price: ElectricityPrice | None = None
    factor: GridFactor | None = None
    spread: GridSpread = RECURRING_USE_SPREAD

    def __post_init__(self) -> None:
        """Validate the numbers."""
        exact_range(self.gpus).require_within("gpus", *GPU_LIMITS, "count the GPUs that train")
        self.hours.require_within(
            "hours", *HOUR_LIMITS, "a year has 8,760 hours, a leap year 8,784"
        )
        self.power_w.require_within("power_w", *POWER_LIMITS_W, "give watts of one GPU, not of all")


@dataclass(frozen=True, slots=True)
class YearlyAmount:
    """An amount per year.

    Attributes:
        name: Name of the quantity.
        unit: Its unit.
        spent: Amount for full training.
        saved: Amount saved; negative if more is used.
    """

    name: str
    unit: str
    spent: Range
    saved: Range

    def spent_text(self) -> str:
        """Return the amount for full training, with its unit."""
        return f"{range_text(self.spent)} {self.unit}"

    def saved_text(self) -> str:
        """Return the amount saved, with its unit."""
        return f"{range_text(self.saved)} {self.unit}"


@dataclass(frozen=True, slots=True)
class Projection:
    """A saving over a year on a cluster, with the assumptions.

    Attributes:
        name: "Saved", or "Not spent" if no reference shows the cost in quality.
        claim: Label of the saving, shown beside every number.
        measured: Whether the original saving was one of measured joules. The projection itself is
            never a measurement.
        energy: Energy, kWh.
        co2e: Emissions, kg CO2e, or ``None`` if no grid is stated.
        money: Cost, or ``None`` if no price is stated.
        assumption_sentences: The assumptions, one sentence each.
    """

    name: str
    claim: str
    measured: bool
    energy: YearlyAmount
    co2e: YearlyAmount | None
    money: YearlyAmount | None
    assumption_sentences: tuple[str, ...]

    def rows(self) -> Iterator[YearlyAmount]:
        """Yield the known amounts."""
        for amount in (self.energy, self.co2e, self.money):
            if amount is not None:
                yield amount


def project_saving(saving: ProjectableShare, cluster: Cluster) -> Projection:
    """Return the projection of a saving, or of computation not spent, to a cluster over a year.

    Raises:
        ImpactError: The grid's spread is invalid.
    """
    kwh = cluster.power_w.times(cluster.hours).times(cluster.gpus / 1000.0)
    kwh = kwh.times(cluster.pue.values)
    co2e = money = None
    if cluster.factor is not None:
        kg = kwh.times(carbon_intensity(cluster.factor, cluster.spread)).times(1e-3)
        co2e = YearlyAmount("CO2e of using it", "kg", kg, kg.times(saving.fraction))
    if cluster.price is not None:
        cost = kwh.times(cluster.price.per_kwh)
        money = YearlyAmount("Cost", cluster.price.currency, cost, cost.times(saving.fraction))
    return Projection(
        name="Not spent" if isinstance(saving, ComputationNotSpent) else "Saved",
        claim=saving.claim,
        measured=saving.measured,
        energy=YearlyAmount("Energy", "kWh", kwh, kwh.times(saving.fraction)),
        co2e=co2e,
        money=money,
        assumption_sentences=tuple(_projection_assumptions(saving, cluster)),
    )


def _projection_assumptions(saving: ProjectableShare, cluster: Cluster) -> Iterator[str]:
    not_spent = isinstance(saving, ComputationNotSpent)
    name = "share of computation not spent," if not_spent else "saving of"
    yield (
        f"The {name} {percent_text(saving.fraction)} on {saving.where} is assumed to hold on the "
        "cluster, too. It was not measured there."
    )
    if not saving.measured:
        yield f"{saving.claim}."
    for note in saving.notes:
        yield f"Of the {'share' if not_spent else 'saving'}: {note}."
    yield (
        f"{cluster.gpus:,} GPUs train {full_precision_text(cluster.hours)} hours a year at "
        f"{full_precision_text(cluster.power_w)} W each, as entered."
    )
    yield "Processors, memory, network and storage are not included."
    yield f"{cluster.pue}."
    yield from grid_sentences(cluster.factor, cluster.spread)
    yield price_sentence(cluster.price)
