"""What viewers cost the trainer: steps per second with none, a few and many of them.

The run, the live routes and their server share this process, as in the app; the viewers
are WebSocket clients in a process of their own, so that their cost is theirs.
"""

from __future__ import annotations

import contextlib
import gc
import random
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from effcore.config import resolve
from effcore.live.routes import live_routes
from effcore.runs.manager import RunManager
from effcore.runs.run import Run
from effcore.store import Store
from effcore.studies.statistics import MedianInterval, median_interval

_ENDLESS_EPOCHS = 1000


@contextlib.contextmanager
def serve_live_routes(runs: RunManager) -> Iterator[str]:
    """Serve the live routes on a free port of this machine; yields ``host:port``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = Starlette(routes=live_routes(runs))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", ws="websockets"))
    thread = threading.Thread(target=server.run, name="bench-server", daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(5)


class ViewerProcess:
    """Viewers in another process; their number can be changed."""

    def __init__(self, address: str, run_id: str) -> None:
        words = [sys.executable, "-m", "effcore.bench.websocket_clients", address, run_id]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def set_count(self, viewers: int) -> None:
        """Have this many viewers connected when this returns."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{viewers}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if answer != str(viewers):
            raise RuntimeError(f"asked for {viewers} viewers and got {answer or 'no answer'!r}")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


def measured_step_rate(run: Run, seconds: float) -> float:
    """Return the run's steps per second over the next ``seconds``, by its own clock."""
    before = run.snapshot().steps[:, -1]
    if run.join(seconds):
        raise RuntimeError(f"the run ended under the measurement: {run.snapshot().reason}")
    after = run.snapshot().steps[:, -1]
    return float((after[0] - before[0]) / (after[3] - before[3]))


def viewer_speed_ratios(
    task: str,
    counts: tuple[int, ...],
    blocks: int,
    seconds: float,
    say: Callable[[str], None],
) -> dict[int, MedianInterval]:
    """Return, for each number of viewers, the ratio of steps per second to that with none.

    Args:
        task: Id of the task that trains, at its default size.
        counts: Numbers of viewers.
        blocks: Rounds; each measures every number once, and none, in random order.
        seconds: Length of a block.
        say: Takes progress messages.
    """
    order = random.Random(0)
    ratios: dict[int, list[float]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as home:
        runs = RunManager(Store(Path(home)))
        run = runs.start(resolve({"task": task, "epochs": _ENDLESS_EPOCHS, "device": "cpu"}))[-1]
        gc.collect()
        gc.freeze()  # as the app does after its imports
        with serve_live_routes(runs) as address:
            crowd = ViewerProcess(address, run.run_id)
            run.join(seconds)  # warm-up
            for block in range(blocks):
                rates: dict[int, float] = {}
                for count in order.sample([0, *counts], len(counts) + 1):
                    crowd.set_count(count)
                    rates[count] = measured_step_rate(run, seconds)
                for count in counts:
                    ratios[count].append(rates[count] / rates[0])
                say(f"block {block + 1}/{blocks}: " + str({k: round(v) for k, v in rates.items()}))
            crowd.close()
        runs.stop_all()
        runs.store.close()
    return {count: median_interval(values) for count, values in ratios.items()}
