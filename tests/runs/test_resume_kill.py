"""Kill -9 during a run, resume: the parameters are those of a run never interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from effcore.records import RunStatus
from effcore.store import Store

ROOT = Path(__file__).parents[2]
PATIENCE_S, RUN_S = 120.0, 1200.0
#: Each takes some seconds, and saves its state on the way.
RUNS = {
    "stale-pps": ["--task", "digits", "--model", "mlp", "--policy", "stale-pps"],
    "rho-loss": ["--task", "digits", "--model", "mlp", "--policy", "rho-loss"],
    "stacked": ["--task", "tabular", "--model", "resnet", "--size", "small", "--policy", "auto",
                "--update", "drop-backward", "--intensity", "depth-growth"],
    "frozen": ["--task", "tabular", "--model", "mlp", "--size", "small", "--policy", "infobatch",
               "--update", "prefix-freeze", "--freeze-after", "0.1", "--optimizer", "sgd"],
}  # fmt: skip
EPOCHS = {"stale-pps": "120", "rho-loss": "200", "stacked": "16", "frozen": "24"}


def command(home: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "effcore", *words, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "EFFCORE_HOME": str(home)},
        cwd=ROOT,
    )


def record(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=RUN_S)
    assert process.returncode == 0, out
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def kill_once_saved(process: subprocess.Popen[str], home: Path) -> str:
    """Kill a run some steps after its first checkpoint; return its id."""
    until = time.monotonic() + PATIENCE_S
    while not (saved := list(home.glob("runs/*/checkpoint.bin"))):
        assert process.poll() is None, "the run was over before it was saved"
        assert time.monotonic() < until, "the run was never saved"
        time.sleep(0.01)
    time.sleep(0.7)  # so that there is something beyond the checkpoint
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run was over before it was killed"
    return saved[0].parent.name


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_killed_and_resumed_run_has_the_parameters_of_a_whole_one(
    name: str, tmp_path: Path
) -> None:
    words = ["run", *RUNS[name], "--epochs", EPOCHS[name], "--threads", "1", "--device", "cpu"]
    killed = command(tmp_path / "killed", *words)
    run_id = kill_once_saved(killed, tmp_path / "killed")
    store = Store(tmp_path / "killed")
    before = store.load_snapshot(run_id)
    store.close()
    assert before.status is RunStatus.INTERRUPTED
    resumed = record(command(tmp_path / "killed", "resume", run_id))
    whole = record(command(tmp_path / "whole", *words))
    assert resumed["run_id"] == run_id
    (step,) = resumed["resumed_after_steps"]
    assert 0 < step < before.steps_done, "something was lost, and trained again"
    same = ("parameters_sha256", "metric", "flops_spent", "examples_trained", "details", "status")
    assert {key: resumed[key] for key in same} == {key: whole[key] for key in same}
