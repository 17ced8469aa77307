"""The grid table: where it is from, what it holds, and that nothing is guessed."""

from __future__ import annotations

import csv
import io
import json
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner

from effcore.impact.grid_factors import (
    ANY_HOUR_SPREAD,
    FACTOR_COLUMNS,
    RECURRING_USE_SPREAD,
    GridFactor,
    GridSpread,
    carbon_intensity,
    country_factor,
    load_grid_factors,
    stated_factor,
)
from effcore.impact.make_grid_factors import factors_from_energy_mix, main
from effcore.impact.ranges import ImpactError, Range

FACTOR = GridFactor("XYZ", "Somewhere", 2023, 400.0, "a test")


def test_every_row_has_its_code_year_and_source() -> None:
    table = load_grid_factors()
    assert len(table) > 190
    for code, row in table.items():
        assert (row.iso3, len(code)) == (code, 3)
        assert 0 < row.gco2e_kwh < 1500
        assert 2005 < row.year < 2030
        assert "Ember" in row.source
    assert list(table) == sorted(table)
    # Known orders: nuclear and hydro, mixed, coal.
    assert table["FRA"].gco2e_kwh < 100 < table["DEU"].gco2e_kwh < table["IND"].gco2e_kwh


def test_licences_travel_with_the_table() -> None:
    folder = files("effcore.impact")
    notice = folder.joinpath("NOTICE").read_text(encoding="utf-8")
    for words in ("CC BY 4.0", "Our World in Data", "Ember", "MIT License", "Code Carbon NGO"):
        assert words in notice
    assert "CC BY 4.0" in folder.joinpath("grid_factors.csv").read_text(encoding="utf-8")


def test_no_country_is_no_factor() -> None:
    assert country_factor(None) is None
    assert country_factor("DEU") == load_grid_factors()["DEU"]
    for wrong in ("", "deu", "Germany", "XXX"):
        with pytest.raises(ImpactError, match="state your grid's own"):
            country_factor(wrong)


def test_a_factor_says_its_year_and_source() -> None:
    assert str(FACTOR) == "Somewhere, 400 g CO2e/kWh on average over 2023: a test"


@pytest.mark.parametrize("spread", [ANY_HOUR_SPREAD, RECURRING_USE_SPREAD])
def test_hours_are_around_the_average(spread: GridSpread) -> None:
    ends = carbon_intensity(FACTOR, spread)
    assert ends == Range(spread.lo * 400, spread.hi * 400)
    assert FACTOR.gco2e_kwh in ends


def test_any_hour_is_what_the_data_it_cites_say() -> None:
    # Mean, least and most of 2020's half hours, as published by Wiesner et al.
    published = {
        "Germany": (313.396106, 100.657858, 593.142244),
        "California": (279.706220, 53.934563, 427.009412),
        "Great Britain": (212.942491, 63.689930, 394.860422),
        "France": (56.336777, 19.494886, 116.394154),
    }
    least = min(lo / mean for mean, lo, _ in published.values())
    most = max(hi / mean for mean, _, hi in published.values())
    assert (ANY_HOUR_SPREAD.lo, ANY_HOUR_SPREAD.hi) == (round(least, 2), round(most, 2))


@pytest.mark.parametrize(("lo", "hi"), [(1.2, 1.1), (1.1, 1.5), (0.2, 0.9), (-0.1, 2), (0.5, 11)])
def test_a_spread_that_leaves_the_average_out_is_refused(lo: float, hi: float) -> None:
    with pytest.raises(ImpactError, match="^spread="):
        carbon_intensity(FACTOR, GridSpread(lo, hi, "a test"))


def test_a_stated_factor_needs_a_year_a_source_and_grams() -> None:
    assert stated_factor(50, 2025, "my contract").gco2e_kwh == 50
    with pytest.raises(ImpactError, match="^source="):
        stated_factor(50, 2025, " ")
    with pytest.raises(ImpactError, match=r"not kilograms"):
        stated_factor(50_000, 2025, "my contract")
    with pytest.raises(ImpactError, match="^year=20245 "):
        stated_factor(50, 20_245, "my contract")


def entry(intensity_g: float, total: float) -> dict[str, object]:
    return {
        "country_name": "A, B",
        "year": 2022,
        "carbon_intensity": intensity_g,
        "total_TWh": total,
    }


def test_entries_that_rounding_decides_are_left_out() -> None:
    # 0.01 Mt over 0.01 TWh is 1,000 g/kWh whatever it was; over 1 TWh 0.005 Mt are 5 g.
    mix = {"TIN": entry(1000, 0.01), "NIL": entry(0, 3), "BIG": entry(50, 1), "LOW": entry(49, 1)}
    assert [row.iso3 for row in factors_from_energy_mix(mix)] == ["BIG"]


def test_the_command_makes_the_table(tmp_path: Path) -> None:
    source = tmp_path / "mix.json"
    source.write_text(json.dumps({"BBB": entry(500, 2), "AAA": entry(300, 9)}))
    text = CliRunner().invoke(main, [str(source)]).stdout
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(io.StringIO("\n".join(lines))))
    assert tuple(rows[0]) == FACTOR_COLUMNS
    assert [(row["iso3"], row["name"]) for row in rows] == [("AAA", "A, B"), ("BBB", "A, B")]
    header = files("effcore.impact").joinpath("grid_factors.csv").read_text(encoding="utf-8")
    assert header.startswith(text[: text.index("AAA")])
