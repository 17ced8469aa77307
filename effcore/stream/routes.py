"""The routes of the live stream: one WebSocket, a health check, and plotly's script.

A page of another site must not watch or steer: every route checks that the request names
this machine (``Host``) and, where a browser says so, comes from its own pages
(``Origin``). Streamlit does the same for its own socket only.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import logging
import math
import zlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import plotly
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from effcore.store import DamagedRunError
from effcore.stream.channel import Channel, Viewer
from effcore.stream.source import LiveRun, LiveSource

log = logging.getLogger(__name__)

#: Names of this machine, allowed in ``Host`` without being listed.
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
#: Plotly's own bundle of lines and bars, in a checkout; else all of the installed plotly, which a
#: browser takes four times as long to load.
SCRIPT: Final = next(
    path
    for path in (
        Path(__file__).parents[2] / "assets" / "plotly-basic.min.js",
        Path(plotly.__file__).parent / "package_data" / "plotly.min.js",
    )
    if path.exists()
)
#: Where plotly's script is served; its content's mark makes it cacheable for ever.
PLOTLY_PATH: Final = f"api/plotly.min.js?v={zlib.crc32(SCRIPT.read_bytes()):08x}"
LIVE_PATH: Final = "api/live"
_JAVASCRIPT: Final = "text/javascript"
_ACCEPTS: Final = "Accept-Encoding"
#: Closing codes, beside those of RFC 6455: there is no such run; the stream broke.
NO_RUN, BROKEN = 4404, 1011
_MESSAGE_LIMIT = 4096
_Job = Callable[[WebSocket, Viewer, Channel], Awaitable[None]]
_DO: Final[dict[str, Callable[[LiveRun], None]]] = {
    "pause": lambda run: run.pause(),
    "resume": lambda run: run.resume(),
    "step": lambda run: run.step_once(),
    "stop": lambda run: run.stop(),
}


class BadMessageError(ValueError):
    """A message from a browser that makes no sense; its text goes back to the sender."""


def routes(source: LiveSource, *, allowed_hosts: Collection[str] = ()) -> list[BaseRoute]:
    """Return the routes to hand to ``st.App``.

    Args:
        source: Where runs are found.
        allowed_hosts: Host names under which the app may be reached beside loopback.
    """
    server = _Server(source, LOOPBACK | {host.lower() for host in allowed_hosts})
    return [
        WebSocketRoute(f"/{LIVE_PATH}", server.live),
        Route("/api/health", server.health),
        Route("/api/plotly.min.js", server.plotly),
    ]


def refusal(headers: Mapping[str, str], allowed: Collection[str]) -> str | None:
    """Return why a request is refused by its ``Host`` or ``Origin``, ``None`` if it is not."""
    host, origin = headers.get("host", ""), headers.get("origin")
    if _hostname(f"//{host}") not in allowed:
        return f"Host {host!r} is not allowed: open the app under {' or '.join(sorted(allowed))}"
    if origin is not None and _netloc(origin) != host.lower():
        return f"Origin {origin!r} is foreign: only pages of {host!r} may connect"
    return None


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # such as an unclosed bracket
        return None


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


@functools.lru_cache(maxsize=1)
def _packed_script() -> bytes:
    """Return plotly's script packed, once: Streamlit would do it again for every browser."""
    return gzip.compress(SCRIPT.read_bytes())


class _Server:
    """The endpoints, and the channels of the runs that somebody watches."""

    def __init__(self, source: LiveSource, allowed: frozenset[str]) -> None:
        self._source = source
        self._allowed = allowed
        self._channels: dict[str, Channel] = {}
        self._pumps: set[asyncio.Task[None]] = set()

    def _refused(self, connection: HTTPConnection) -> str | None:
        return refusal(connection.headers, self._allowed)

    async def health(self, request: Request) -> Response:
        """Say that the server answers and what the trainer is doing."""
        if why := self._refused(request):
            return JSONResponse({"error": why}, status_code=403)
        run = await run_in_threadpool(self._source.active)
        trainer = None
        if run is not None:
            look = run.snapshot()
            step = int(look.steps[0, -1]) if look.steps.shape[1] else 0
            trainer = {"run_id": run.run_id, "status": look.status.value, "step": step}
        headers = {"Cache-Control": "no-store"}
        return JSONResponse({"status": "ok", "trainer": trainer}, headers=headers)

    async def plotly(self, request: Request) -> Response:
        """Serve plotly's script."""
        if why := self._refused(request):
            return JSONResponse({"error": why}, status_code=403)
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": _ACCEPTS}
        if "gzip" not in request.headers.get(_ACCEPTS, ""):
            return FileResponse(SCRIPT, media_type=_JAVASCRIPT, headers=headers)
        packed = await run_in_threadpool(_packed_script)
        headers["Content-Encoding"] = "gzip"
        return Response(packed, media_type=_JAVASCRIPT, headers=headers)

    async def live(self, socket: WebSocket) -> None:
        """Stream a run to one viewer and take what the viewer asks for."""
        if self._refused(socket):
            await socket.close(1008)
            return
        await socket.accept()
        channel = await self._join(socket)
        if channel is None:
            return
        viewer = Viewer()
        channel.viewers.add(viewer)
        self._start(channel)
        try:
            async with anyio.create_task_group() as group:

                async def until_over(job: _Job) -> None:
                    with suppress(WebSocketDisconnect):
                        await job(socket, viewer, channel)
                    group.cancel_scope.cancel()

                group.start_soon(until_over, _send)
                group.start_soon(until_over, _receive)
        finally:
            channel.viewers.discard(viewer)

    async def _join(self, socket: WebSocket) -> Channel | None:
        """Return the run's channel; where there is none, say why and close."""
        run_id = socket.query_params.get("run", "")
        if run_id in self._channels:
            return self._channels[run_id]
        try:
            channel = await run_in_threadpool(self._open, run_id)
        except Exception as error:  # a boundary: whatever a store may say, in its words
            log.exception("run %s cannot be opened", run_id)
            for_good = isinstance(error, DamagedRunError | ValueError)
            code = NO_RUN if for_good else BROKEN
            await _goodbye(socket, f"run {run_id!r} cannot be opened: {error}", code)
            return None
        if channel is None:
            await _goodbye(socket, f"there is no run {run_id!r}: choose one from the list of runs")
            return None
        return self._channels.setdefault(run_id, channel)

    def _open(self, run_id: str) -> Channel | None:
        run = self._source.get(run_id)
        return Channel(run, self._source.get) if run is not None else None

    def _start(self, channel: Channel) -> None:
        """Begin ticking for the first viewer; forget the channel after the last."""
        if channel.pumping is not None and not channel.pumping.done():
            return

        def forget(_: asyncio.Task[None]) -> None:
            if all(viewer.closed for viewer in channel.viewers):
                self._channels.pop(channel.run.run_id, None)

        channel.pumping = asyncio.create_task(channel.pump())
        channel.pumping.add_done_callback(forget)


async def _goodbye(socket: WebSocket, why: str, code: int = NO_RUN) -> None:
    """Say why there is nothing to see; after ``BROKEN`` a browser tries again."""
    await socket.send_text(json.dumps({"error": why}))
    await socket.close(code)


async def _send(socket: WebSocket, viewer: Viewer, channel: Channel) -> None:
    while not viewer.closed:
        await viewer.wake.wait()
        viewer.wake.clear()
        for item in viewer.take(channel):
            if isinstance(item, str):
                await socket.send_text(item)
            else:
                await socket.send_bytes(item)
    await socket.close(BROKEN)


async def _receive(socket: WebSocket, viewer: Viewer, channel: Channel) -> None:
    while (message := await socket.receive())["type"] != "websocket.disconnect":
        reply = await answer(message.get("text"), viewer, channel)
        if reply is not None:
            await viewer.tell(reply)


async def answer(text: str | None, viewer: Viewer, channel: Channel) -> str | bytes | None:
    """Do what a viewer asks and return the reply: an acknowledgement, or why not.

    Messages are JSON objects with one of these entries: ``set`` (``name, value, seq``),
    ``do`` (``pause, resume, step, stop``), ``pace``, ``view`` (``axis, x0, x1``) or
    ``snapshot``. What may wait for the run's lock is done in another thread; the next
    message of the same viewer is read when it is done, so that order is kept.
    """
    try:
        kind, content = _parse(text)
    except BadMessageError as error:
        return json.dumps({"error": str(error)})
    try:
        return await _HANDLERS[kind](content, viewer, channel)
    except (ValueError, RuntimeError) as error:  # a knob out of range, a run that is over …
        seq = content.get("seq") if isinstance(content, dict) else None
        return json.dumps({"error": str(error), "of": kind, "seq": seq})


def _parse(text: str | None) -> tuple[str, Any]:
    if text is None or len(text) > _MESSAGE_LIMIT:
        raise BadMessageError(f"expected JSON text of at most {_MESSAGE_LIMIT} characters")
    try:
        message = json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError):
        raise BadMessageError(f"{text[:60]!r} is not JSON: send one JSON object") from None
    if not isinstance(message, dict) or len(message) != 1 or set(message) - set(_HANDLERS):
        allowed = ", ".join(_HANDLERS)
        raise BadMessageError(
            f"{text[:60]!r} is not understood: send an object with one of {allowed}"
        )
    return next(iter(message.items()))


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 16 else float(digits)  # longer than JavaScript's


async def _set(content: Any, viewer: Viewer, channel: Channel) -> str:
    if not isinstance(content, dict) or not isinstance(content.get("name"), str):
        raise BadMessageError(f"set={content!r} is not understood: expected name, value and seq")
    name, value, seq = content["name"], content.get("value"), content.get("seq")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadMessageError(f"{name}={value!r} is not allowed: expected a number")
    if not isinstance(seq, int | None):
        raise BadMessageError(f"seq={seq!r} is not allowed: expected a whole number")
    version = channel.ask(viewer, name, value, seq)  # here: it costs less than a thread
    return json.dumps({"ack": {"name": name, "value": value, "seq": seq, "version": version}})


async def _do(content: Any, _: Viewer, channel: Channel) -> str:
    if not isinstance(content, str) or content not in _DO:
        raise BadMessageError(f"do={content!r} is not allowed: choose one of {', '.join(_DO)}")
    await run_in_threadpool(_DO[content], channel.run)
    return json.dumps({"ack": {"do": content}})


async def _pace(content: Any, _: Viewer, channel: Channel) -> str:
    if not isinstance(content, str):
        raise BadMessageError(f"pace={content!r} is not allowed: choose full, slow or step")
    await run_in_threadpool(channel.run.set_pace, content)
    return json.dumps({"ack": {"pace": content}})


async def _view(content: Any, _: Viewer, channel: Channel) -> bytes:
    content = content if isinstance(content, dict) else {}
    axis, ends = content.get("axis"), [content.get("x0"), content.get("x1")]
    numbers = all(isinstance(x, int | float) and math.isfinite(x) for x in ends)
    if not isinstance(axis, str) or not numbers or ends[0] >= ends[1]:
        raise BadMessageError(f"view={content!r} is not understood: expected axis, x0 < x1")
    return channel.window_frame(axis, float(ends[0]), float(ends[1]))


async def _snapshot(_: Any, viewer: Viewer, channel: Channel) -> None:
    viewer.refresh()


_HANDLERS: Final[dict[str, Callable[[Any, Viewer, Channel], Awaitable[str | bytes | None]]]] = {
    "set": _set,
    "do": _do,
    "pace": _pace,
    "view": _view,
    "snapshot": _snapshot,
}
