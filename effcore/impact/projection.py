"""Projection of a saving to a cluster over a year; every result is a range.

The reader states the cluster: GPUs, hours and power. The projection assumes that a saving on one
machine holds there, and lists that assumption first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from effcore.impact.assumptions import (
    PUE_NOT_APPLIED,
    ElectricityPrice,
    Pue,
    grid_sentences,
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
