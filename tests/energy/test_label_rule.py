"""The source is read: what formats joules says, in the same function, how they came to be known."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.energy.labels import Offence, offences, unlabelled

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "effcore").rglob("*.py"), *(ROOT / "pages").rglob("*.py")])


@cache
def offences_in(path: Path) -> list[Offence]:
    return offences(path.read_text(encoding="utf-8"))


def test_what_formats_joules_says_their_quality() -> None:
    offending = [
        f"{path.relative_to(ROOT)}: {offence.function}, line {offence.line}"
        for path in SOURCES
        for offence in offences_in(path)
        if (path.name, offence.function) not in EXCUSED
    ]
    assert offending == []


#: Where joules are formatted and their quality is said elsewhere: file, function -> where.
EXCUSED = {
    ("run_charts.py", "_power_lines"): "the note in the chart, which is tested above",
    ("run_charts.py", "_power_bands"): "the same note",
}


def test_what_is_excused_still_needs_it() -> None:
    needed = {(path.name, offence.function) for path in SOURCES for offence in offences_in(path)}
    assert needed == set(EXCUSED)


def test_the_live_table_names_the_quality_in_every_row_of_joules() -> None:
    script = (ROOT / "pages" / "ui" / "live" / "panel.js").read_text(encoding="utf-8")
    labels = re.findall(r"[\"'`]((?:Energy|Power), [JW][^\"'`]*)[\"'`]", script)
    assert len(labels) == 4
    assert [label for label in labels if "${quality}" not in label] == []


def lines(*statements: str) -> str:
    return "\n".join(["def show(energy, row):", *(f"    {s}" for s in statements)])


BAD = [
    'return f"{energy.joules:.1f}"',
    "return f\"used {row['energy_j']}\"",
    'return "%.1f" % energy.joules',
    'return "{:.1f}".format(energy.joules)',
    "return str(energy.joules)",
    "return format(energy.joules, '.1f')",
    "return round(row['energy_lo_j'], 1)",
    "print(energy.joules)",
    "click.echo(energy.joules)",
    'return f"{total:,.0f} J"',
    'return f"{total:,.0f} kJ saved"',
    'return "{} J".format(total)',
    'return "%.0f J" % total',
    'template = "%{y:.4s}J"',
    'unit = "J"',
]
GOOD = [
    'return f"{energy.joules:.1f} J {energy.quality}"',
    'value = f"{energy.joules:.1f}"; return value + energy.quality.value',
    "return energy.joules + 1.0",
    'return f"{energy.seconds:.1f} s"',
    'return f"{name} Jones"',
    'return f"the counter fell to {row.energy_hi_j:.1f} J"',
    'return "Joules since the start"',
    "return str(energy)",
]


@pytest.mark.parametrize("statement", BAD)
def test_the_rule_catches_joules_without_quality(statement: str) -> None:
    assert offences(lines(statement)) == [Offence("show", 2)]
    assert offences(statement.replace("return ", "x = "))[0].function == ""


@pytest.mark.parametrize("statement", GOOD)
def test_the_rule_lets_pass_what_is_right(statement: str) -> None:
    assert offences(lines(*statement.split("; "))) == []


def test_the_quality_must_be_said_by_the_same_function() -> None:
    outer = lines("def inner():", '    return f"{energy.joules} J"', "return energy.quality")
    assert offences(outer) == [Offence("inner", 3)]


@pytest.mark.parametrize("name", ["short_text", "_energy_tile"])
def test_the_rule_would_miss_the_quality_where_it_is_said_today(name: str) -> None:
    sources = [path.read_text(encoding="utf-8") for path in SOURCES]
    saying = [source for source in sources if f"def {name}(" in source]
    assert saying
    for source in saying:
        stripped = re.sub(r"quality\w*", "nothing", source)
        assert name in {offence.function for offence in offences(stripped)}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,234.5 J MEASURED · GPU", []),
        ("≈ 12–80 J ESTIMATED", []),
        ("6.0 J measured, 75%", []),
        ("6.0 J, 75%", ["6.0 J"]),
        ("12–80 kJ", ["80 kJ"]),
        ("3 Jobs", []),
    ],
)
def test_figures_of_joules_are_found_in_text(text: str, found: list[str]) -> None:
    assert unlabelled(text) == found
