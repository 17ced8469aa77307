"""Planted faults: each changes one place of the program, and the tests named beside it must fail.

    python -m tests.mutants [--only NAME] [--area AREA] [--sample N] [--jobs 2]

A fault that its tests do not notice has survived: a test is missing. A fault whose text is no
longer in its file is stale: it is to be planted anew. Either ends the command with status 1.
"""

from __future__ import annotations

import ast
import compileall
import multiprocessing
import os
import py_compile
import queue
import random
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from hypothesis import Phase, settings

from tests.mutant_faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[1]
#: Longest time that the tests of one fault may take, s.
TIME_LIMIT_S = 120.0
_NOT_COPIED = (".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info")
_PYTEST_OPTIONS = ("-q", "--no-header", "-p", "xdist.plugin", "-p", "no:cacheprovider")
_STATUS_OFFSET = 100
#: Its processes begin with what takes long to import.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["torch", "scipy.stats", "sklearn.datasets", "hypothesis"])


class StaleFaultError(ValueError):
    """A fault that cannot be planted; the message says why."""


class Result(StrEnum):
    """What became of a fault.

    ``BROKEN``: its tests did not run, or not within the time limit, so that nothing is shown.
    """

    KILLED = "killed"
    SURVIVED = "SURVIVED"
    BROKEN = "BROKEN"


class Report(NamedTuple):
    """Result of one fault."""

    fault: Fault
    result: Result
    seconds: float
    detail: str = ""


def faulty_source(fault: Fault, root: Path = ROOT) -> str:
    """Return the fault's file with the fault in it.

    Raises:
        StaleFaultError: The text is not there, not unique, or the result is no other program.
    """
    path = root / fault.file
    if not path.is_file():
        raise StaleFaultError(f"{fault.name}: there is no {fault.file}")
    source = path.read_text("utf-8")
    places = [place for place in range(len(source)) if source.startswith(fault.old, place)]
    wanted = fault.occurrence or 1
    if len(places) < wanted or (fault.occurrence is None and len(places) > 1):
        raise StaleFaultError(
            f"{fault.name}: {fault.file} has {fault.old!r} {len(places)} times, expected "
            f"{'once' if fault.occurrence is None else f'{fault.occurrence} times or more'}"
        )
    start = places[wanted - 1]
    changed = source[:start] + fault.new + source[start + len(fault.old) :]
    try:
        alike = ast.dump(ast.parse(changed)) == ast.dump(ast.parse(source))
    except SyntaxError as error:
        raise StaleFaultError(f"{fault.name}: {fault.file} does not parse: {error}") from error
    if alike:
        raise StaleFaultError(f"{fault.name}: the program in {fault.file} is the same with it")
    return changed


def sampled_faults(count: int) -> list[Fault]:
    """Return ``count`` faults, from all areas alike; others where the code or a fault changes."""
    files = sorted({fault.file for faults in FAULTS.values() for fault in faults})
    content = b"".join((ROOT / name).read_bytes() for name in files) + repr(FAULTS).encode()
    draw = random.Random(zlib.crc32(content))
    mixed = [draw.sample(faults, len(faults)) for faults in FAULTS.values()]
    longest = max(len(faults) for faults in mixed)
    in_turn = [faults[place] for place in range(longest) for faults in mixed if place < len(faults)]
    return in_turn[:count]


def _run_pytest(tree: Path, arguments: Sequence[str], limit_s: float) -> tuple[int | None, str]:
    """Return pytest's exit status, ``None`` where it took too long, and what it said."""
    with tempfile.NamedTemporaryFile("r", errors="replace") as output:
        process = _processes.Process(
            target=_pytest_process, args=(str(tree), (*_PYTEST_OPTIONS, *arguments), output.name)
        )
        process.start()
        process.join(limit_s)
        if process.is_alive():
            process.kill()
            process.join()
            return None, f"it took more than {limit_s:.0f} s"
        return (process.exitcode or 0) - _STATUS_OFFSET, output.read()[-6000:]


class _WithoutShrinking:
    """Plugin of pytest: any counterexample will do, it need not be the simplest."""

    def pytest_configure(self) -> None:
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutants", settings.get_profile("effcore"), phases=phases)
        settings.load_profile("mutants")


def _pytest_process(tree: str, arguments: Sequence[str], output: str) -> None:
    """Run pytest on a tree: the process has imported what is slow, and forgets what is ours."""
    for name in [name for name in sys.modules if name.split(".")[0] in ("effcore", "tests")]:
        del sys.modules[name]
    sys.path[:] = [tree, *(folder for folder in sys.path if folder not in ("", str(ROOT)))]
    os.chdir(tree)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # those of the browser take a second
    with open(output, "w") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    # An exception here ends the process with 1, which must not pass for tests that failed.
    sys.exit(_STATUS_OFFSET + pytest.main(list(arguments), [_WithoutShrinking()]))


def _compiled_copy(tree: Path) -> None:
    """Copy the program into ``tree``; a file changed there is compiled anew whatever its time."""
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*_NOT_COPIED))
    by_content = py_compile.PycInvalidationMode.CHECKED_HASH
    if not compileall.compile_dir(tree / "effcore", quiet=1, invalidation_mode=by_content):
        raise StaleFaultError("the program does not compile")


def _check_without_fault(faults: Sequence[Fault], tree: Path, jobs: int) -> None:
    """Run all tests that are to notice a fault.

    Raises:
        StaleFaultError: They fail, so that their failing says nothing of any fault.
    """
    tests = dict.fromkeys(name for fault in faults for name in fault.tests.split())
    whole = {name for name in tests if "::" not in name}
    narrowed = [name for name in tests if name in whole or name.split("::")[0] not in whole]
    parallel = ("-n", str(jobs)) if jobs > 1 else ()
    status, said = _run_pytest(tree, (*parallel, "--tb=short", *narrowed), 5 * TIME_LIMIT_S)
    if status != pytest.ExitCode.OK:
        raise StaleFaultError(f"the tests fail without a fault:\n{said}")


def _try_fault(fault: Fault, trees: queue.SimpleQueue[Path]) -> Report:
    """Plant a fault in a tree that nobody uses, run its tests, and take it out again."""
    tree, began_s = trees.get(), time.monotonic()
    path = tree / fault.file
    whole = path.read_text("utf-8")
    try:
        path.write_text(faulty_source(fault, tree), "utf-8")
        status, said = _run_pytest(tree, ("-x", "--tb=line", *fault.tests.split()), TIME_LIMIT_S)
    finally:
        path.write_text(whole, "utf-8")
        trees.put(tree)
    seconds = time.monotonic() - began_s
    if status == pytest.ExitCode.TESTS_FAILED:
        return Report(fault, Result.KILLED, seconds)
    if status == pytest.ExitCode.OK:
        return Report(fault, Result.SURVIVED, seconds)
    return Report(fault, Result.BROKEN, seconds, said)


def run_faults(faults: Sequence[Fault], jobs: int = 2) -> list[Report]:
    """Plant each fault by itself in a copy of the tree and run its tests.

    Args:
        faults: What to plant.
        jobs: Faults tried at a time.

    Raises:
        StaleFaultError: A fault cannot be planted, or the tests fail without any.
    """
    for fault in faults:
        faulty_source(fault)
    reports: list[Report] = []
    trees = queue.SimpleQueue[Path]()
    with tempfile.TemporaryDirectory(prefix="effcore-mutants-") as folder:
        first, *others = (Path(folder) / str(place) for place in range(jobs))
        _compiled_copy(first)
        _check_without_fault(faults, first, jobs)
        for tree in others:
            shutil.copytree(first, tree)
        for tree in (first, *others):
            trees.put(tree)
        began_s = time.monotonic()
        with ThreadPoolExecutor(jobs) as threads:
            for done in as_completed(threads.submit(_try_fault, each, trees) for each in faults):
                reports.append(done.result())
                left = len(faults) - len(reports)
                left_s = (time.monotonic() - began_s) / len(reports) * left
                _tell(reports[-1], f"{len(reports)}/{len(faults)}", left_s)
    return reports


def _tell(report: Report, count: str, left_s: float) -> None:
    """Say one result and how much time is left."""
    left = f", about {left_s:.0f} s left" if left_s else ""
    click.echo(f"{report.result} {count} {report.fault.name} ({report.seconds:.1f} s){left}")
    if report.detail:
        click.echo(report.detail)


@click.command(help="Plant faults one at a time; the tests named beside each must fail.")
@click.option("--only", help="Only the fault of this name.")
@click.option("--area", type=click.Choice(list(FAULTS)), help="Only the faults of this area.")
@click.option("--sample", type=click.IntRange(1), help="Only so many, from all areas alike.")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True)
def main(only: str | None, area: str | None, sample: int | None, jobs: int) -> None:
    """Run the command."""
    faults = [
        fault
        for name, of_area in FAULTS.items()
        for fault in of_area
        if only in (None, fault.name) and area in (None, name)
    ]
    if sample is not None:
        chosen = sampled_faults(sample)
        faults = [fault for fault in faults if fault in chosen]
    if not faults:
        raise click.ClickException("there is no such fault")
    began_s = time.monotonic()
    try:
        reports = run_faults(faults, jobs)
    except StaleFaultError as error:
        raise click.ClickException(str(error)) from error
    alive = [report for report in reports if report.result is not Result.KILLED]
    for report in alive:
        click.echo(f"{report.result}: {report.fault.name} ({report.fault.file})")
    killed = len(reports) - len(alive)
    click.echo(f"{killed} of {len(reports)} faults killed in {time.monotonic() - began_s:.0f} s")
    sys.exit(1 if alive else 0)


if __name__ == "__main__":
    main()
