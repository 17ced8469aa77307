"""Make ``grid_factors.csv``: ``python -m effcore.impact.make_grid_factors FILE > FACTORS``.

FILE is ``codecarbon/data/private_infra/global_energy_mix.json`` of CodeCarbon 3.3.2. Its authors
took the data from Our World in Data, with the latest year of each country. The table has the code,
the name, the year and the carbon intensity of each entry, with one exception.

The intensity is a country's emissions, rounded to 0.01 million tonnes, divided by its generation.
For the smallest grids that rounding decides the result (one is 0, two are exactly 1,000 g/kWh).
Entries that it may change by more than a tenth are left out.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from effcore.impact.grid_factors import FACTOR_COLUMNS, GridFactor

DATA_SOURCE: Final = "Our World in Data (Ember; Energy Institute)"
#: Half of 0.01 million tonnes, as grams per kWh of a generation of 1 TWh.
_ROUNDING_ERROR_G: Final = 5.0
_MAX_ROUNDING_FRAC: Final = 0.1
CSV_HEADER: Final = """\
# Carbon intensity of electricity generation, annual average, g CO2e per kWh, life cycle.
# Source: Our World in Data, https://github.com/owid/energy-data (CC BY 4.0), column
# carbon_intensity_elec, from Ember, Yearly Electricity Data (CC BY 4.0), and Energy
# Institute, Statistical Review of World Energy; as packed in CodeCarbon 3.3.2 (MIT).
# Changes: see effcore/impact/make_grid_factors.py. Licences: see NOTICE beside this file.
"""


def factors_from_energy_mix(mix: Mapping[str, Mapping[str, Any]]) -> list[GridFactor]:
    """Return the entries of the table, sorted by code.

    Args:
        mix: Entries by ISO 3166 alpha-3 code, with ``country_name``, ``year``,
            ``carbon_intensity`` in g/kWh and ``total_TWh``, as in CodeCarbon's file.
    """
    return [
        GridFactor(
            code, entry["country_name"], entry["year"], entry["carbon_intensity"], DATA_SOURCE
        )
        for code, entry in sorted(mix.items())
        if entry["total_TWh"] * entry["carbon_intensity"] * _MAX_ROUNDING_FRAC >= _ROUNDING_ERROR_G
    ]


def factors_csv(factors: list[GridFactor]) -> str:
    """Return the text of the CSV file."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([FACTOR_COLUMNS, *factors])
    return CSV_HEADER + file.getvalue()


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(file: Path) -> None:
    """Print the table of grid factors made from CodeCarbon's FILE."""
    click.echo(
        factors_csv(factors_from_energy_mix(json.loads(file.read_text(encoding="utf-8")))), nl=False
    )


if __name__ == "__main__":
    main()
