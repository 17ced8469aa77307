"""Carbon intensity of electricity by country and year, g CO2e per kWh.

The table ``grid_factors.csv`` has annual averages of life-cycle emissions, from Our World in Data
(CC BY 4.0), based on data by Ember (CC BY 4.0) and the Energy Institute, as packed in CodeCarbon
3.3.2 (MIT). The year differs by country. :mod:`effcore.impact.make_grid_factors` makes the table;
``NOTICE`` has the licences.

The intensity of a single hour differs from the annual average. :class:`GridSpread` is the range of
that difference, as shares of the average; the reader can replace it.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final, NamedTuple

from effcore.impact.ranges import ImpactError, Range, exact_range, number_text

FACTOR_COLUMNS: Final = ("iso3", "name", "year", "gco2e_kwh", "source")
#: Largest plausible share of an annual average.
MAX_SPREAD: Final = 10.0
#: More than twice the highest intensity of the table; larger values are probably in other units.
MAX_G_KWH: Final = 3000.0
#: Plausible years of an average.
YEAR_LIMITS: Final = (1990, 2100)


class GridFactor(NamedTuple):
    """Carbon intensity of a country's grid, on average over a year.

    Attributes:
        iso3: ISO 3166 alpha-3 code.
        name: The country's name in the source.
        year: Year of the average.
        gco2e_kwh: Grams of CO2e per kWh.
        source: Source of the average.
    """

    iso3: str
    name: str
    year: int
    gco2e_kwh: float
    source: str

    def __str__(self) -> str:
        """Return the intensity with its year and source."""
        number = number_text(self.gco2e_kwh)
        return f"{self.name}, {number} g CO2e/kWh on average over {self.year}: {self.source}"


class GridSpread(NamedTuple):
    """Range of a grid's intensity, as shares of its annual average.

    Attributes:
        lo: Lowest share.
        hi: Highest share.
        why: Source of the range, as the end of a sentence.
    """

    lo: float
    hi: float
    why: str


#: Range for a run at an unknown time. The lowest and the highest half hour of 2020, divided by the
#: mean of that year, were 0.32 and 1.89 in Germany, 0.19 and 1.53 in California, 0.30 and 1.85 in
#: Great Britain, 0.35 and 2.07 in France (Wiesner et al. 2021, *Let's Wait Awhile*,
#: doi:10.1145/3464298.3493399, the authors' published data).
ANY_HOUR_SPREAD: Final = GridSpread(
    0.19,
    2.07,
    "the lowest and highest half hours of 2020 in Germany, California, Great Britain and "
    "France (Wiesner et al. 2021), assumed to hold elsewhere",
)
#: Range for use throughout the year. By month, time of day and kind of day, Germany's grid of 2015
#: was from 34% below to 22% above its annual average (Kono, Ostermeyer and Wallbaum 2017,
#: *The trends of hourly carbon emission factors in Germany*, Int. J. Life Cycle Assessment).
RECURRING_USE_SPREAD: Final = GridSpread(
    0.66,
    1.22,
    "Germany's grid of 2015 by month, time of day and kind of day (Kono et al. 2017), "
    "assumed to hold elsewhere",
)


@cache
def load_grid_factors() -> Mapping[str, GridFactor]:
    """Return the table by ISO 3166 alpha-3 code, sorted by code."""
    text = files(__package__).joinpath("grid_factors.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    rows = [
        GridFactor(
            row["iso3"], row["name"], int(row["year"]), float(row["gco2e_kwh"]), row["source"]
        )
        for row in csv.DictReader(lines)
    ]
    return MappingProxyType({row.iso3: row for row in rows})


def country_factor(country: str | None) -> GridFactor | None:
    """Return a country's factor; ``None`` if no country is given.

    Args:
        country: ISO 3166 alpha-3 code, in capital letters.

    Raises:
        ImpactError: The table does not have the country.
    """
    if country is None:
        return None
    if country not in load_grid_factors():
        raise ImpactError(
            "country",
            country,
            f"expected one of {len(load_grid_factors())} ISO 3166 alpha-3 codes such as DEU",
            "state your grid's own g CO2e per kWh instead, with its source",
        )
    return load_grid_factors()[country]


def stated_factor(gco2e_kwh: float, year: int, source: str) -> GridFactor:
    """Return a factor stated by the reader, for instance of a contract or a regional grid.

    Raises:
        ImpactError: The intensity or the year is invalid, or the source is missing.
    """
    exact_range(gco2e_kwh).require_within(
        "gco2e_kwh", 0, MAX_G_KWH, "give grams of CO2e per kWh, not kilograms"
    )
    exact_range(year).require_within("year", *YEAR_LIMITS, "give the year of that average")
    if not source.strip():
        raise ImpactError("source", source, "expected a source", "name a publication")
    return GridFactor("", "Stated by the reader", year, gco2e_kwh, source)


def carbon_intensity(factor: GridFactor, spread: GridSpread = ANY_HOUR_SPREAD) -> Range:
    """Return the range of the intensity, g CO2e per kWh: the annual average times the spread.

    Raises:
        ImpactError: The spread does not contain 1, or is out of range.
    """
    ends = Range(spread.lo, spread.hi).require_within(
        "spread", 0, MAX_SPREAD, "give shares of the annual average, such as 0.5 and 1.5"
    )
    if 1.0 not in ends:
        raise ImpactError(
            "spread", tuple(ends), "expected a range around 1, the annual average",
            "give shares of the annual average, such as 0.5 and 1.5",
        )  # fmt: skip
    return ends.times(factor.gco2e_kwh)
