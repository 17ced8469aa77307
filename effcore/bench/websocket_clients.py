"""A process full of viewers: reads a number per line, connects that many, answers it."""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.client import connect


async def watch_run(address: str, run_id: str, first_frame: asyncio.Event) -> None:
    """Look at a run until cancelled, reading every frame."""
    url = f"ws://{address}/api/live?run={run_id}"
    async with connect(url, max_size=None, compression=None) as socket:
        async for _ in socket:
            first_frame.set()


async def keep_viewers(address: str, run_id: str) -> None:
    """Keep as many viewers as the last line on standard input asks for."""
    viewers: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        wanted = int(line)
        for viewer in viewers[wanted:]:
            viewer.cancel()
        await asyncio.gather(*viewers[wanted:], return_exceptions=True)
        viewers = viewers[:wanted]
        first_looks = [asyncio.Event() for _ in range(wanted - len(viewers))]
        viewers += [asyncio.create_task(watch_run(address, run_id, look)) for look in first_looks]
        await asyncio.gather(*(look.wait() for look in first_looks))
        sys.stdout.write(f"{wanted}\n")
        sys.stdout.flush()
    for viewer in viewers:
        viewer.cancel()
    await asyncio.gather(*viewers, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(keep_viewers(sys.argv[1], sys.argv[2]))
