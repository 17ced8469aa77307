"""Assumptions for converting joules to CO2e and money: validated, each with its source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from effcore.impact.grid_factors import ANY_HOUR_SPREAD, GridFactor, GridSpread
from effcore.impact.ranges import ImpactError, Range, exact_range, full_precision_text

_SECONDS_A_YEAR: Final = 365 * 24 * 3600.0
PUE_LIMITS: Final = (1.0, 5.0)
PRICE_LIMITS: Final = (0.0, 1e6)
_LONGEST_CURRENCY: Final = 8


@dataclass(frozen=True, slots=True)
class Pue:
    """Power usage effectiveness: total power of a building divided by that of its computers.

    Attributes:
        values: The ratio; 1 for a building without overhead.
        why: Its source.
    """

    values: Range
    why: str

    def __post_init__(self) -> None:
        """Validate the value."""
        self.values.require_within(
            "pue", *PUE_LIMITS, "ask the building's operator, or leave it at 1"
        )

    def __str__(self) -> str:
        """Return the value with its source."""
        return f"PUE {full_precision_text(self.values)}, {self.why}"


#: The default.
PUE_NOT_APPLIED: Final = Pue(
    exact_range(1.0), "not applied: the building's cooling and power supply are not included"
)
PUE_MEAN_2025: Final = Pue(
    exact_range(1.54), "the mean of Uptime Institute's Global Data Center Survey 2025"
)


@dataclass(frozen=True, slots=True)
class ElectricityPrice:
    """Price of electricity, as entered by the reader.

    Attributes:
        per_kwh: Price of one kWh.
        currency: Name of the currency, such as EUR.
    """

    per_kwh: Range
    currency: str

    def __post_init__(self) -> None:
        """Validate price and currency."""
        self.per_kwh.require_within("price", *PRICE_LIMITS, "enter the price of one kWh")
        text = self.currency.strip()
        if not text.isprintable() or not 1 <= len(text) <= _LONGEST_CURRENCY:
            raise ImpactError(
                "currency", self.currency, f"expected 1 to {_LONGEST_CURRENCY} characters",
                "write a code such as EUR",
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class EmbodiedEmissions:
    """Emissions of making and disposing of the hardware.

    Attributes:
        total_kg: Emissions of all hardware within the boundary, kg CO2e.
        life_years: Years that the hardware is in use.
        why: Source of these values.
        share: Share of the hardware that is reserved for the run, 0 to 1.
    """

    total_kg: Range
    life_years: Range
    why: str
    share: float = 1.0

    def __post_init__(self) -> None:
        """Validate the values."""
        self.total_kg.require_within(
            "total_kg", 0, 1e6, "give kilograms of CO2e of the hardware used"
        )
        self.life_years.require_within("life_years", 0.1, 50, "give the years that it is in use")
        exact_range(self.share).require_within("share", 0, 1, "give the share reserved for the run")

    def grams(self, seconds: float) -> Range:
        """Return the emissions of a reserved time, g CO2e: total x time ÷ life x share."""
        shortest, longest = (years * _SECONDS_A_YEAR for years in self.life_years)
        times = Range(seconds / longest, seconds / shortest)
        return self.total_kg.times(1000.0 * self.share).times(times)


@dataclass(frozen=True, slots=True)
class Assumptions:
    """All assumptions of the reader; by default there are none.

    Attributes:
        pue: The building's overhead.
        factor: The grid's annual average; without it, no CO2e is computed.
        spread: Variation of the grid around its average.
        price: Price of electricity; without it, no cost is computed.
        embodied: Emissions of making the hardware, or ``None`` if not stated.
        units: Number of functional units that the joules were used for (R of the SCI).
        unit: Name of one unit.
    """

    pue: Pue = PUE_NOT_APPLIED
    factor: GridFactor | None = None
    spread: GridSpread = ANY_HOUR_SPREAD
    price: ElectricityPrice | None = None
    embodied: EmbodiedEmissions | None = None
    units: float = 1.0
    unit: str = "run"

    def __post_init__(self) -> None:
        """Validate the number of units, which is a divisor."""
        exact_range(self.units).require_within(
            "units", 1e-9, 1e15, "give the number of units that the joules were used for"
        )


def grid_sentences(factor: GridFactor | None, spread: GridSpread) -> Iterator[str]:
    """Yield the assumptions about the grid."""
    if factor is None:
        yield "No country is stated, so there is no CO2e. The location of a machine is not guessed."
        return
    yield f"Grid: {factor}."
    times = full_precision_text(Range(spread.lo, spread.hi))
    yield f"Single hours differ from that average by a factor of {times}: {spread.why}."


def price_sentence(price: ElectricityPrice | None) -> str:
    """Return the assumption about the price."""
    if price is None:
        return "No price is stated, so there is no cost."
    return f"A kWh costs {full_precision_text(price.per_kwh)} {price.currency}, as entered."


def hardware_sentence(embodied: EmbodiedEmissions | None) -> str:
    """Return the assumption about the emissions of making the hardware."""
    if embodied is None:
        return "Making and disposing of the hardware (M of the SCI) is not stated and not included."
    return (
        f"Making the hardware: {full_precision_text(embodied.total_kg)} kg CO2e over "
        f"{full_precision_text(embodied.life_years)} years, "
        f"a share of {full_precision_text(exact_range(embodied.share))} reserved for this: "
        f"{embodied.why}."
    )
