"""What README says can be typed can be typed, and what it names exists."""

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

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python -m effcore (.+)$", README, flags=re.MULTILINE)


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 3


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_is_understood(line: str) -> None:
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
        command = command.commands[name]
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
    named = re.findall(r"\]\((assets/[^)]+)\)|src=\"(assets/[^\"]+)\"", README)
    for path in (first or second for first, second in named):
        assert (ROOT / path).is_file(), path
