"""The structure of the source: imports point down, names and types mean one thing."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.structure import (
    CHECKS,
    MAPPING_EDGES,
    ROOT,
    TEXT_EDGES,
    Finding,
    Module,
    duplicate_classes,
    import_circles,
    imported_names,
    imported_parts,
    is_sentence,
    library_part,
    modules,
    parse_module,
    parts_without_level,
    sample_names,
    sentence_branches,
    untyped_mappings,
    untyped_mappings_inside,
    upward_imports,
)

LIBRARY = [module for module in modules() if module.name.startswith("effcore")]


def imported_roots(module: Module) -> set[str]:
    return {name.partition(".")[0] for name in imported_names(module)}


def module_at(path: str) -> Module:
    return next(module for module in modules() if module.path == path)


@pytest.mark.parametrize(
    "title",
    [
        "class names used twice",
        "branches on a sentence inside",
        "import circles",
        "upward imports",
        "parts on no level",
    ],
)
def test_nothing_is_found_of(title: str) -> None:
    findings = CHECKS[title]()
    assert not findings, "\n".join(map(str, findings))


def test_no_untyped_mapping_passes_between_modules() -> None:
    findings = untyped_mappings_inside()
    assert not findings, "\n".join(map(str, findings))


@pytest.mark.parametrize(
    ("edges", "find"), [(MAPPING_EDGES, untyped_mappings), (TEXT_EDGES, sentence_branches)]
)
def test_every_edge_is_needed_and_has_a_reason(
    edges: dict[str, str], find: Callable[[], list[Finding]]
) -> None:
    places = {finding.place.split(":")[0] for finding in find()}
    assert set(edges) <= places
    assert all(edges.values())


def test_the_library_never_imports_the_page() -> None:
    page = {"streamlit", "pages", "app", "tests"}
    assert [module.path for module in LIBRARY if imported_roots(module) & page] == []


@pytest.mark.parametrize("name", ["home", "impact", "knobs", "records", "registry", "store"])
def test_reading_a_stored_run_needs_no_torch(name: str) -> None:
    own = [module for module in LIBRARY if library_part(module) == name]
    assert own
    assert [module.path for module in own if "torch" in imported_roots(module)] == []


@pytest.mark.parametrize(
    "name", ["studies/statistics.py", "studies/verdict.py", "training/checkpoint.py"]
)
def test_judging_and_reading_checkpoints_needs_no_torch(name: str) -> None:
    assert "torch" not in imported_roots(module_at(f"effcore/{name}"))


def test_the_trainer_starts_no_thread_and_writes_nothing() -> None:
    trainer = module_at("effcore/training/trainer.py")
    forbidden = {"threading", "logging", "pathlib", "os", "io", "sys", "click"}
    assert not imported_roots(trainer) & forbidden
    called = {
        n.func.id
        for n in ast.walk(trainer.tree)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    }
    assert not called & {"print", "open"}


def test_pages_do_not_reach_past_the_run() -> None:
    """A page reads snapshots and writes controls: the trainer itself is none of its business."""
    pages = [module for module in modules() if module.name.startswith("pages")]
    assert pages
    assert [module.path for module in pages if "training" in imported_parts(module)] == []


def write_source(root: Path, **files: str) -> None:
    """Write files below ``effcore``; ``__`` in a name stands for a folder's ``/``."""
    for name, text in files.items():
        path = root / "effcore" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_imports_within_functions_count(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        "def f():\n    import streamlit as st\n    from effcore.training.trainer import train\n"
    )
    module = parse_module(tmp_path, file)
    assert imported_names(module) == {"streamlit", "effcore.training.trainer.train"}
    assert imported_parts(module) == {"training"}


def test_upward_imports_are_found(tmp_path: Path) -> None:
    write_source(
        tmp_path,
        records__a="from effcore.store import x\n",
        store__b="import effcore.records.a\nfrom effcore.policies import y\n",
        store__e="from effcore import __version__, meter\n",
        policies="",
        energy="",
        tasks__c="from effcore.energy import z\n",
        runs__d="def f():\n    import pages.live\n",
        rooms="",
    )
    found = [str(each) for each in upward_imports(tmp_path)]
    assert found == [
        "effcore/records/a.py: store",
        "effcore/runs/d.py: pages",
        "effcore/store/e.py: meter",
        "effcore/tasks/c.py: energy",
    ]
    assert [each.place for each in parts_without_level(tmp_path)] == ["effcore/rooms"]


def test_circles_are_found_where_an_import_is_for_types_alone(tmp_path: Path) -> None:
    write_source(
        tmp_path,
        a="from effcore.b import f\n",
        b="def f():\n    from effcore import c\n",
        c="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from effcore.a import g\n",
        d="import effcore.a\n",
    )
    (circle,) = import_circles(tmp_path)
    assert circle.text == "effcore.a <-> effcore.b <-> effcore.c"


def test_classes_of_one_name_are_found(tmp_path: Path) -> None:
    write_source(tmp_path, a="class One: ...\nclass Two: ...\n", b="def f():\n    class One: ...\n")
    assert [str(each) for each in duplicate_classes(tmp_path)] == [
        "effcore/a.py, effcore/b.py: One"
    ]


@pytest.mark.parametrize(
    "branch",
    [
        'text.startswith("Nothing wins")',
        'text == "There is no run of it."',
        '"on fresh seeds" in text',
        "text in (PREFIX, 1)",
        "text.removeprefix(THEIRS)",
        'text.partition(". ")[0]',
    ],
)
def test_branches_on_a_sentence_are_found(branch: str, tmp_path: Path) -> None:
    write_source(
        tmp_path,
        a='PREFIX = "Nothing wins"\n',
        b=f'from effcore.a import PREFIX as THEIRS\nPREFIX = "No one wins"\ndone = {branch}\n',
    )
    assert [each.place for each in sentence_branches(tmp_path)] == ["effcore/b.py:3"]


def test_branches_on_a_sentence_are_found_in_scripts(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "a.js").write_text(
        'if (text.startsWith("Nothing wins")) f();\nif (kind === "steps") g();\n'
        'switch (text) { case "There is none": h(); }\n'
    )
    assert [each.place for each in sentence_branches(tmp_path)] == ["pages/a.js:1", "pages/a.js:3"]


@pytest.mark.parametrize("text", ["win", "too few", "better for", "cuda:0", "text/html; a", ""])
def test_ids_are_no_sentences(text: str) -> None:
    assert not is_sentence(text)


def test_untyped_mappings_are_found_inside_other_types(tmp_path: Path) -> None:
    write_source(
        tmp_path,
        a="def f(x: Sequence[Mapping[str, Any]]) -> dict[str, object] | dict[str, int]: ...\n",
    )
    found = [each.text for each in untyped_mappings_inside(tmp_path)]
    assert sorted(found) == ["Mapping[str, Any]", "dict[str, object]"]


def test_a_sample_of_names_is_the_same_for_a_seed() -> None:
    names = sample_names(1)
    assert len(set(names)) == 20
    assert names == sample_names(1) != sample_names(2)
    assert ROOT.joinpath("effcore").is_dir()
