"""Kill -9 during a real run: what is older than a second is stored, and shown for what it is."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from effcore.records import STEP_COLUMNS, RunStatus
from effcore.store import Store

KILLS = 6
GUARANTEED_S = 1.0
EPOCHS, EXAMPLES = 400, 1257  # more than ten seconds, at more than a thousand steps a second
COMMAND = [sys.executable, "-m", "effcore", "run", "--task", "digits", "--model", "mlp"]
COMMAND += ["--policy", "dense", "--threads", "1", "--epochs", str(EPOCHS)]
#: The progress bar on a terminal: the run's id and the percentage done.
BAR = re.compile(rb"([0-9]{8}-[0-9]{6}-[0-9a-z]{4}) [^%\r]*? ([0-9]+)%")


class Killed(NamedTuple):
    """A run as a person at the terminal saw it: when, and how far it was by then."""

    run_id: str
    seen: list[tuple[float, int]]  # time, percent
    at: float


def run_and_kill(home: Path, after_s: float) -> Killed:
    """Start the command on a terminal and kill it some time after its first percent."""
    ours, theirs = os.openpty()
    environment = {**os.environ, "EFFCORE_HOME": str(home)}
    process = subprocess.Popen(
        COMMAND,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    os.close(theirs)
    killed_at: list[float] = []

    def kill() -> None:
        killed_at.append(time.monotonic())
        process.kill()

    timer = threading.Timer(after_s, kill)
    run_id, seen, text = "", list[tuple[float, int]](), b""
    while True:
        try:
            text += os.read(ours, 4096)
        except OSError:  # the other end is gone
            break
        now = time.monotonic()
        for match in BAR.finditer(text):
            run_id = match[1].decode()
            seen.append((now, int(match[2])))
            text = text[match.end() :]
        if seen and seen[-1][1] > 0 and timer.ident is None:
            timer.start()
    os.close(ours)
    process.wait()
    timer.join()
    assert process.returncode == -signal.SIGKILL, "the run was over before it was killed"
    return Killed(run_id, seen, killed_at[0])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="reads the progress from a pseudo-terminal")
def test_a_killed_run_keeps_what_is_older_than_a_second(tmp_path: Path) -> None:
    chance = random.Random(0)
    killed = []
    for _ in range(KILLS):
        killed.append(run_and_kill(tmp_path, chance.uniform(1.2, 3.0)))
        run_id, seen, at = killed[-1]
        store = Store(tmp_path)
        stored, listed = store.load_snapshot(run_id), store.runs()
        store.close()
        step, considered, seconds = (
            stored.steps[STEP_COLUMNS.index(name)] for name in ("step", "considered", "seconds")
        )
        must = [percent for when, percent in seen if when < at - GUARANTEED_S]
        assert must, "killed before anything was a second old"
        assert considered[-1] >= must[-1] / 100 * EPOCHS * EXAMPLES
        assert stored.progress >= must[-1] / 100
        np.testing.assert_array_equal(step, np.arange(1, len(step) + 1))
        assert (np.diff(seconds) > 0).all()
        assert np.isfinite(stored.steps).all()
        assert stored.status is RunStatus.INTERRUPTED
        assert [run.run_id for run in listed] == [run.run_id for run in killed][::-1]
        assert {run.status for run in listed} == {RunStatus.INTERRUPTED}
