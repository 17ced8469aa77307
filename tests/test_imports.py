"""Imports point down only; read from the source, so that nothing hides in a function."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECORDS = ("records", "knobs", "registry", "home")
PARTS = ("policies", "tasks", "energy")
SERVICES = ("config", "store", "training")
RUNS = ("runs", "studies", "impact", "figures", "insight", "report", "testing")
ENDS = ("bench", "cli", "__main__", "__init__")

#: Where a module belongs, from the bottom up; one may import what is on its own level or
#: below, except that policies, tasks and energy never import each other.
LEVELS = [RECORDS, PARTS, SERVICES, RUNS, ("live",), ENDS]


def modules(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py"))


@cache
def imported(path: Path) -> frozenset[str]:
    """Every dotted name that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: say imports in full, not relative"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def parts_of(path: Path) -> set[str]:
    """The parts of the library (its files and folders) that a file imports."""
    names = [name.split(".") for name in imported(path)]
    return {name[1] for name in names if name[0] == "effcore" and len(name) > 1}


def part(path: Path) -> str:
    return path.relative_to(ROOT / "effcore").parts[0].removesuffix(".py")


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


LIBRARY = modules("effcore")


@pytest.mark.parametrize("path", LIBRARY, ids=ids)
def test_the_library_never_imports_the_page(path: Path) -> None:
    roots = {name.partition(".")[0] for name in imported(path)}
    assert not roots & {"streamlit", "pages", "app", "tests"}


@pytest.mark.parametrize("path", LIBRARY, ids=ids)
def test_imports_point_down(path: Path) -> None:
    mine = part(path)
    level = next(i for i, names in enumerate(LEVELS) if mine in names)
    below = {name for names in LEVELS[:level] for name in names} | {"__version__"}
    same = set(LEVELS[level]) if mine not in PARTS else {mine}
    assert parts_of(path) <= below | same


@pytest.mark.parametrize("name", ["home", "impact", "knobs", "records", "registry", "store"])
def test_reading_a_stored_run_needs_no_torch(name: str) -> None:
    files = [path for path in LIBRARY if part(path) == name]
    assert files
    for path in files:
        assert "torch" not in {n.partition(".")[0] for n in imported(path)}, path.name


@pytest.mark.parametrize(
    "name", ["studies/statistics.py", "studies/verdict.py", "training/checkpoint.py"]
)
def test_judging_and_reading_checkpoints_needs_no_torch(name: str) -> None:
    path = ROOT / "effcore" / name
    assert "torch" not in {n.partition(".")[0] for n in imported(path)}


def test_the_trainer_starts_no_thread_and_writes_nothing() -> None:
    names = imported(ROOT / "effcore" / "training" / "trainer.py")
    roots = {name.partition(".")[0] for name in names}
    assert not roots & {"threading", "logging", "pathlib", "os", "io", "sys", "click"}
    tree = ast.parse((ROOT / "effcore" / "training" / "trainer.py").read_text(encoding="utf-8"))
    called = {
        n.func.id
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    }
    assert not called & {"print", "open"}


@pytest.mark.parametrize("path", modules("pages"), ids=ids)
def test_pages_do_not_reach_past_the_run(path: Path) -> None:
    """A page reads snapshots and writes controls: the trainer itself is none of its business."""
    assert not parts_of(path) & {"training"}


def test_the_rule_catches_what_it_should(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        "def f():\n    import streamlit as st\n    from effcore.training.trainer import train\n"
    )
    assert imported(file) == {"streamlit", "effcore.training.trainer.train"}
    assert parts_of(file) == {"training"}
