"""Kill -9 in a study or a sweep: the same command goes on and repeats nothing finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from effcore.records import RunStatus
from effcore.store import Store

COMMAND = [sys.executable, "-m", "effcore", "compare", "--task", "tabular-wine", "--seeds", "6"]
CELLS = 4 * 6


def begin(home: Path, words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "EFFCORE_HOME": str(home)},
        cwd=Path(__file__).parents[2],
    )


def killed(home: Path, words: list[str], after: str) -> dict[str, Any]:
    """Begin, and kill once a line begins so; returns the runs that had ended."""
    first = begin(home, words)
    assert first.stderr is not None
    for line in first.stderr:
        if line.startswith(after):
            break
    first.kill()
    first.communicate()
    assert first.returncode == -signal.SIGKILL, "all was over before it was killed"
    return finished(home)


def finished(home: Path) -> dict[str, Any]:
    """Return the runs that ended, by id, as the store has them."""
    store = Store(home)
    try:
        runs = store.runs()
        return {run.run_id: run.end for run in runs if run.status is RunStatus.FINISHED}
    finally:
        store.close()


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 9])
def test_a_killed_study_goes_on_where_it_was(tmp_path: Path, after: int) -> None:
    home = tmp_path / "home"
    before = killed(home, COMMAND, f"{after} of {CELLS} runs")
    assert after <= len(before) <= after + 1
    second = begin(home, [*COMMAND, "--json"])
    out, err = second.communicate(timeout=300)
    assert second.returncode == 0, err
    # What ended in the very moment of the kill is not known to be of the study.
    assert f"{after} of {CELLS} runs" in err or f"{after + 1} of {CELLS} runs" in err
    after_all = finished(home)
    assert before.items() <= after_all.items(), "nothing finished is touched"
    assert CELLS <= len(after_all) <= CELLS + 1
    told = json.loads(out)
    assert told["verdict"]["auto"] != "too few seeds"
    values = {end.metric for end in after_all.values()}
    assert {value for arm in told["arms"] for value in arm["metrics"]} <= values


@pytest.mark.slow
@pytest.mark.parametrize("after", [6, 12])
def test_a_killed_sweep_goes_on_where_it_was(tmp_path: Path, after: int) -> None:
    """Killed in the search, and in a replication."""
    home = tmp_path / "home"
    words = [sys.executable, "-m", "effcore", "sweep", "--task", "tabular-wine", "--trials", "4",
             "--seeds", "1", "--confirm-seeds", "0", "--epochs", "20",
             "--margin", "0.2"]  # fmt: skip
    before = killed(home, words, f"sweep: {after} of at most")
    assert after <= len(before) <= after + 1
    second = begin(home, [*words, "--json"])
    out, err = second.communicate(timeout=300)
    assert second.returncode == 0, err
    points = json.loads(out)["points"]
    assert [point["name"] for point in points[5:]] == [f"trial {n}" for n in range(4)]
    kept = {run for point in points for run in point["runs"] + point["again"]["runs"]}
    # What ended in the very moment of the kill is not known to be of the sweep.
    assert len(before.keys() - kept) <= 1
    assert len(finished(home)) == len(kept | before.keys())
