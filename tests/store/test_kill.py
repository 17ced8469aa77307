"""Kill -9 at random moments: what is older than a second is there, and shown for what it is."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from effcore.records import RunStatus
from tests.store.samples import block, opened

KILLS = 8
GUARANTEED_S = 1.0

# Writes one step at a time and prints each step with the time it was queued. Every second
# process falls silent early on, so that nothing but the writer's own thread can save it.
PROGRAM = """
import sys, time
from pathlib import Path
import numpy as np
from effcore.records import EpochDrawEvent, EvalEvent, KnobChange, LossHistogram, StepEvent
from effcore.store import Store
from tests.store.samples import CONFIG, block

writer = Store(Path(sys.argv[1])).create_run(CONFIG)
last = int(sys.argv[2])
print(writer.run_id, flush=True)
for step in range(1, last + 1):
    writer.write_event(block(step, 1))
    writer.write_event(EvalEvent(step, 0, 0.0, 0.0, 0.0, 0.0))
    writer.write_event(KnobChange(step, "mass", 0.5))
    writer.write_event(EpochDrawEvent(step, 0, np.zeros(200, dtype=np.uint8), 0))
    writer.write_event(LossHistogram(step, np.zeros(65), np.zeros(64, dtype=np.int64), 0.0, 0))
    writer.write_event(StepEvent(step, step / 1e9, 1))
    print(step, time.monotonic(), flush=True)
    time.sleep(0.002)
sys.stdin.read()
"""


def run_and_kill(home: Path, last_step: int, after_s: float) -> tuple[str, list[int], int]:
    """Return the run, the steps that must have survived, and the last step queued."""
    killed_at = []
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(home), str(last_step)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip

    def kill() -> None:
        killed_at.append(time.monotonic())
        process.kill()

    with process:
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        timer = threading.Timer(after_s, kill)
        timer.start()
        lines = [line.split() for line in process.stdout if line.endswith("\n")]
        timer.join()
    old = [int(step) for step, at in lines if float(at) < killed_at[0] - GUARANTEED_S]
    return run_id, old, int(lines[-1][0])


@pytest.mark.slow
def test_whatever_is_older_than_a_second_survives_a_kill(tmp_path: Path) -> None:
    chance = random.Random(0)
    runs = []
    for attempt in range(KILLS):
        last = 10**9 if attempt % 2 else chance.randint(1, 60)
        run_id, old, queued = run_and_kill(tmp_path, last, chance.uniform(1.1, 2.1))
        runs.append(run_id)
        assert old, "the process was killed before anything was a second old"
        with opened(tmp_path) as store:
            loaded = store.load_snapshot(run_id)
            listed = store.runs()
        stored = loaded.steps.shape[1]
        assert len(old) <= stored <= queued + 1  # a step is queued before it is printed
        np.testing.assert_array_equal(loaded.steps, block(1, stored).rows)
        must = old[-1]
        assert [change.step for change in loaded.changes][:must] == old
        assert [event.step for event in loaded.epoch_draws][:must] == old
        assert list(loaded.evals[0, :must]) == old
        assert loaded.histogram is not None
        assert loaded.histogram.step >= must
        assert loaded.progress >= must / 1e9
        assert loaded.status is RunStatus.INTERRUPTED
        assert [run.run_id for run in listed] == runs[::-1]
        assert {run.status for run in listed} == {RunStatus.INTERRUPTED}
