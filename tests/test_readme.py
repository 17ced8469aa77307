"""What the documents say can be typed can be typed, and what they name exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from effcore.__main__ import main, run_command
from effcore.config import resolve
from effcore.policies.selection.base import SELECTIONS
from effcore.runs.reproduce import parse_knob_change
from tests.published import judged, tables

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: Every document that people read, by its place in the tree.
DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in sorted(
        [ROOT / "README.md", *(ROOT / "effcore").rglob("*.md"), *ROOT.glob("pages/*.md")]
    )
}
COMMANDS = sorted(
    {
        command
        for text in DOCUMENTS.values()
        if "Save this as" not in text  # tests/test_recipes.py runs the commands of recipes
        for command in re.findall(
            r"^(?:EFFCORE_\w+=\S+ )?python -m effcore (.+)$", text, re.MULTILINE
        )
    }
)


def test_readme_is_short_and_both_its_documents_hold_commands() -> None:
    assert len(README.splitlines()) <= 200
    assert {"README.md", "effcore/bench/RESULTS.md"} <= DOCUMENTS.keys()
    assert len(COMMANDS) >= 40


def test_each_command_is_understood() -> None:
    wrong = []
    for line in COMMANDS:
        try:
            understand(line)
        except (click.ClickException, ValueError, KeyError) as error:
            wrong.append(f"{line}: {error}")
    assert wrong == []


def understand(line: str) -> None:
    """Read a command line as Effcore does, without running it."""
    name, *words = shlex.split(line)
    if name == "run":
        given = dict(run_command().make_context("run", words).params)
        changes = [parse_knob_change(text) for text in given.pop("changes")]
        given.pop("as_json")
        selection = given.pop("policy")
        resolve({**given, "selection": selection, "changes": changes})
        return
    command: click.Command = main
    while words and isinstance(command, click.Group):
        found = command.get_command(click.Context(command), name)
        assert found is not None, name
        command = found
        name = words.pop(0) if isinstance(command, click.Group) else name
    command.make_context(name, words, resilient_parsing=True)


def test_the_loop_of_ones_own_runs_with_whom_it_says_it_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    policy, knobs = '"confident-skip"', "mass=0.5, revisit=8"
    blocks = re.findall(r"```python\n(.+?)```", README, flags=re.DOTALL)
    (block,) = (each for each in blocks if policy in each)
    exec(compile(block, "README.md", "exec"), {})
    for name in {*SELECTIONS.ids()} - {"selective-backprop", "rho-loss", "kakurenbo"}:
        own = block.replace(policy, repr(name)).replace(knobs, "")
        exec(compile(own, "README.md", "exec"), {})
    steps = re.findall(r"^(\d+) steps", capsys.readouterr().out, flags=re.MULTILINE)
    assert {int(count) for count in steps} == {int(0.6 * 8 * 2048 / 64)}


def test_named_files_exist() -> None:
    for document, text in DOCUMENTS.items():
        named = re.findall(r"\]\(((?!https?:|#)[^)]+)\)|src=\"([^\"]+)\"", text)
        for path in (first or second for first, second in named):
            assert (ROOT / document).parent.joinpath(path).is_file(), f"{document}: {path}"


def test_the_layout_names_what_exists() -> None:
    layout = README.partition("## Layout")[2]
    named = re.findall(r"`((?:effcore|pages|tests)/[\w/.]*|app\.py)`", layout)
    assert len(named) >= 15
    for path in named:
        assert (ROOT / path).exists(), path


def test_every_published_verdict_is_the_judges() -> None:
    found = list(tables(DOCUMENTS["effcore/bench/RESULTS.md"]))
    assert sum(len(table.rows) for table in found) >= 130
    for table in found:
        assert [row.verdict for row in table.rows] == judged(table), table.name
