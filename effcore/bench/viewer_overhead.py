"""What viewers cost the trainer: steps per second with none, a few and many of them.

As in the app, the run, the live routes and their server share a process. The viewers are
WebSocket clients in another process, so that only the server's part of their cost is measured.
Run as a script, this module is that process.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from websockets.asyncio.client import connect

from effcore.bench.app_server import free_port
from effcore.bench.eta import ProgressSink
from effcore.config import resolve
from effcore.live.routes import live_routes
from effcore.runs.manager import RunManager
from effcore.runs.run import Run
from effcore.store import Store
from effcore.studies.statistics import MedianInterval, median_interval

_ENDLESS_EPOCHS = 1000


def viewer_speed_ratios(
    task: str, counts: tuple[int, ...], blocks: int, seconds: float, say: ProgressSink
) -> dict[int, MedianInterval]:
    """Return, for each number of viewers, the ratio of steps per second to that with none.

    Each round of blocks measures every number of viewers and none, in random order.
    """
    order = random.Random(0)
    ratios: dict[int, list[float]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as home:
        runs = RunManager(Store(Path(home)))
        run = runs.start(resolve({"task": task, "epochs": _ENDLESS_EPOCHS, "device": "cpu"}))[-1]
        gc.collect()
        gc.freeze()  # as the app does after its imports
        with _serve_live_routes(runs) as address:
            viewers = _ViewerProcess(address, run.run_id)
            run.join(seconds)  # warm-up
            for block in range(blocks):
                rates: dict[int, float] = {}
                for count in order.sample([0, *counts], len(counts) + 1):
                    viewers.set_count(count)
                    rates[count] = _step_rate(run, seconds)
                for count in counts:
                    ratios[count].append(rates[count] / rates[0])
                say(f"block {block + 1}/{blocks}: " + str({k: round(v) for k, v in rates.items()}))
            viewers.close()
        runs.stop_all()
        runs.store.close()
    return {count: median_interval(values) for count, values in ratios.items()}


def _step_rate(run: Run, seconds: float) -> float:
    """Return the run's steps per second over the next ``seconds``, by its own clock."""
    before = run.snapshot().steps[:, -1]
    if run.join(seconds):
        raise RuntimeError(f"the run ended during the measurement: {run.snapshot().reason}")
    after = run.snapshot().steps[:, -1]
    return float((after[0] - before[0]) / (after[3] - before[3]))


@contextlib.contextmanager
def _serve_live_routes(runs: RunManager) -> Iterator[str]:
    """Serve the live routes on a free port; yields ``host:port``."""
    port = free_port()
    app = Starlette(routes=live_routes(runs))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", ws="websockets"))
    thread = threading.Thread(target=server.run, name="bench-server", daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(5)


class _ViewerProcess:
    """A process with a variable number of viewers of a run."""

    def __init__(self, address: str, run_id: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "effcore.bench.viewer_overhead", address, run_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def set_count(self, count: int) -> None:
        """Wait until this many viewers are connected."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if answer != str(count):
            raise RuntimeError(f"asked for {count} viewers and got {answer or 'no answer'!r}")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


async def _view_run(address: str, run_id: str, first_frame: asyncio.Event) -> None:
    """Receive the frames of a run until cancelled."""
    url = f"ws://{address}/api/live?run={run_id}"
    async with connect(url, max_size=None, compression=None) as socket:
        async for _ in socket:
            first_frame.set()


async def _keep_viewers(address: str, run_id: str) -> None:
    """Keep as many viewers as the last line of standard input says; answer each line."""
    viewers: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        count = int(line)
        for viewer in viewers[count:]:
            viewer.cancel()
        await asyncio.gather(*viewers[count:], return_exceptions=True)
        viewers = viewers[:count]
        first_frames = [asyncio.Event() for _ in range(count - len(viewers))]
        viewers += [asyncio.create_task(_view_run(address, run_id, e)) for e in first_frames]
        await asyncio.gather(*(event.wait() for event in first_frames))
        sys.stdout.write(f"{count}\n")
        sys.stdout.flush()
    for viewer in viewers:
        viewer.cancel()
    await asyncio.gather(*viewers, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(_keep_viewers(sys.argv[1], sys.argv[2]))
