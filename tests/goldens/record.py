"""Record anew what the tests of this folder compare with.

``python -m tests.goldens.record runs`` trains the golden runs, and the same with ``inventory``
collects what a user can rely on by name. Run it from the repository's root. It prints how the
result differs from the recorded file, and replaces the file only with ``--write``. To add a golden
run, add a name and its ``command`` to ``goldens.json``, then record. All golden runs are recorded
on one machine.
"""

from __future__ import annotations

import difflib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch

from effcore.runs.manager import close_shared_run_manager
from tests.goldens.inventory import INVENTORY, SLOW, authors_names, collected, json_keys
from tests.goldens.runs import GOLDENS, conditions, measured, texts


def record_runs() -> dict[str, Any]:
    """Return the golden runs trained anew, by the commands in the recorded file."""
    runs: dict[str, Any] = {}
    for name, golden in _read(GOLDENS)["runs"].items():
        click.echo(name, err=True)
        given = {key: golden[key] for key in ("command", "interrupted") if key in golden}
        with tempfile.TemporaryDirectory() as folder:
            runs[name] = given | measured(golden, Path(folder))
    return {"recorded_on": conditions(), "texts": texts(), "runs": runs}


def record_inventory() -> dict[str, Any]:
    """Return what a user can rely on by name, collected anew."""
    authors = authors_names(_read(INVENTORY)["authors"])  # old names, as far as they work
    for module, names in authors_names().items():
        authors[module] = authors.get(module, {}) | names
    try:
        return collected() | {"json, slow": json_keys(SLOW), "authors": authors}
    finally:
        close_shared_run_manager()


#: What can be recorded: its file, and what makes it anew.
KINDS: dict[str, tuple[Path, Callable[[], dict[str, Any]]]] = {
    "runs": (GOLDENS, record_runs),
    "inventory": (INVENTORY, record_inventory),
}


@click.command()
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.option("--write", is_flag=True, help="Replace the recorded file.")
def record(kind: str, write: bool) -> None:
    """Record KIND anew and print how it differs; only --write replaces the file."""
    torch.set_num_threads(1)
    file, make = KINDS[kind]
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"EFFCORE_HOME": home, "EFFCORE_CPU_TDP_W": "65"}
        after = json.dumps(make(), indent=1, ensure_ascii=False) + "\n"
    names = f"{file.name}, recorded", f"{file.name}, now"
    changes = list(difflib.unified_diff(before.splitlines(), after.splitlines(), *names, "", "", 2))
    click.echo("\n".join(changes) if changes else f"{file.name}: no difference")
    if changes and not write:
        raise click.ClickException(f"{file.name} stays as it is: add --write to replace it")
    if changes:
        file.write_text(after, encoding="utf-8")
        click.echo(f"{file.name}: replaced")


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    record()
