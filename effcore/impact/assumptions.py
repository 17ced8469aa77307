"""What a reader states before joules become CO2e or money, checked; each says where it is from."""

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
    """Power usage effectiveness: what a building draws over what its computers draw.

    Attributes:
        values: From 1, a building without overhead.
        why: Where it is from.
    """

    values: Range
    why: str

    def __post_init__(self) -> None:
        """Refuse what is no PUE."""
        self.values.require_within(
            "pue", *PUE_LIMITS, "ask whoever runs the building, or leave it at 1"
        )

    def __str__(self) -> str:
        """Say it with where it is from."""
        return f"PUE {full_precision_text(self.values)}, {self.why}"


#: What holds until somebody chooses otherwise.
PUE_NOT_APPLIED: Final = Pue(
    exact_range(1.0), "not applied: cooling and power supply of the building are left out"
)
PUE_MEAN_2025: Final = Pue(
    exact_range(1.54), "the mean of Uptime Institute's Global Data Center Survey 2025"
)


@dataclass(frozen=True, slots=True)
class ElectricityPrice:
    """What a kWh costs, as the reader enters it.

    Attributes:
        per_kwh: In the currency.
        currency: As it is to be written, such as EUR.
    """

    per_kwh: Range
    currency: str

    def __post_init__(self) -> None:
        """Refuse what is no price."""
        self.per_kwh.require_within("price", *PRICE_LIMITS, "enter what one kWh costs")
        text = self.currency.strip()
        if not text.isprintable() or not 1 <= len(text) <= _LONGEST_CURRENCY:
            raise ImpactError(
                "currency", self.currency, f"expected 1 to {_LONGEST_CURRENCY} characters",
                "write a code such as EUR",
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class EmbodiedEmissions:
    """What making and disposing of the hardware emitted.

    Attributes:
        total_kg: Of all the hardware within the boundary, kg CO2e.
        life_years: How long it is in use.
        why: Where these are from.
        share: Share of it that is reserved for the run, 0 to 1.
    """

    total_kg: Range
    life_years: Range
    why: str
    share: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        self.total_kg.require_within(
            "total_kg", 0, 1e6, "give kilograms of CO2e of the hardware used"
        )
        self.life_years.require_within("life_years", 0.1, 50, "give the years that it is in use")
        exact_range(self.share).require_within("share", 0, 1, "give the share reserved for the run")

    def grams(self, seconds: float) -> Range:
        """Return what falls to so many seconds, g: total x time reserved ÷ life x share."""
        shortest, longest = (years * _SECONDS_A_YEAR for years in self.life_years)
        times = Range(seconds / longest, seconds / shortest)
        return self.total_kg.times(1000.0 * self.share).times(times)


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the reader states; the defaults assume nothing.

    Attributes:
        pue: The building's overhead.
        factor: The grid's annual average, or ``None`` for no CO2e.
        spread: How far the grid may have been from it.
        price: What a kWh costs, or ``None`` for no money.
        embodied: What making the hardware emitted, or ``None`` while that is not stated.
        units: Functional units that the joules were for (R of the SCI).
        unit: What one of them is.
    """

    pue: Pue = PUE_NOT_APPLIED
    factor: GridFactor | None = None
    spread: GridSpread = ANY_HOUR_SPREAD
    price: ElectricityPrice | None = None
    embodied: EmbodiedEmissions | None = None
    units: float = 1.0
    unit: str = "run"

    def __post_init__(self) -> None:
        """Refuse units that cannot be divided by."""
        exact_range(self.units).require_within(
            "units", 1e-9, 1e15, "count what the joules were spent on"
        )


def grid_sentences(factor: GridFactor | None, spread: GridSpread) -> Iterator[str]:
    """Yield what is assumed of the grid."""
    if factor is None:
        yield "No country is stated, so there is no CO2e: where a machine stands is not guessed."
        return
    yield f"Grid: {factor}."
    times = full_precision_text(Range(spread.lo, spread.hi))
    yield f"Hours differ from that average: {times} times it, {spread.why}."


def price_sentence(price: ElectricityPrice | None) -> str:
    """Return what is assumed of the price."""
    if price is None:
        return "No price is stated, so there is no cost."
    return f"A kWh costs {full_precision_text(price.per_kwh)} {price.currency}, as entered."


def hardware_sentence(embodied: EmbodiedEmissions | None) -> str:
    """Return what is assumed of the hardware's making."""
    if embodied is None:
        return "Making and disposing of the hardware (M of the SCI) is not stated and left out."
    return (
        f"Making the hardware: {full_precision_text(embodied.total_kg)} kg CO2e over "
        f"{full_precision_text(embodied.life_years)} years, "
        f"{full_precision_text(exact_range(embodied.share))} of it for this: "
        f"{embodied.why}."
    )
