"""Routes of the live stream: a WebSocket, a health check, and plotly's script.

Pages of other sites must not watch or steer runs. Every route therefore checks that the request
names this machine (``Host``) and, if the browser sends one, an ``Origin`` of the same host.
Streamlit does this for its own socket only.
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

from effcore.live.broadcaster import LiveRun, RunBroadcaster, RunProvider, ViewerQueue
from effcore.store import DamagedRunError

log = logging.getLogger(__name__)

#: Loopback names, which are always allowed in ``Host``.
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
#: Plotly's basic bundle (lines and bars) in a checkout; otherwise the full bundle of the installed
#: plotly, which a browser takes four times as long to load.
PLOTLY_SCRIPT: Final = next(
    path
    for path in (
        Path(__file__).parents[2] / "assets" / "plotly-basic.min.js",
        Path(plotly.__file__).parent / "package_data" / "plotly.min.js",
    )
    if path.exists()
)
#: URL of plotly's script, with a checksum so that it can be cached indefinitely.
PLOTLY_PATH: Final = f"api/plotly.min.js?v={zlib.crc32(PLOTLY_SCRIPT.read_bytes()):08x}"
LIVE_PATH: Final = "api/live"
_JAVASCRIPT: Final = "text/javascript"
_ACCEPT_ENCODING: Final = "Accept-Encoding"
#: WebSocket closing codes: there is no such run; the stream failed.
CLOSE_NO_RUN, CLOSE_STREAM_BROKEN = 4404, 1011
_MAX_MESSAGE_LENGTH = 4096
_SocketJob = Callable[[WebSocket, ViewerQueue, RunBroadcaster], Awaitable[None]]
_RUN_ACTIONS: Final[dict[str, Callable[[LiveRun], None]]] = {
    "pause": lambda run: run.pause(),
    "resume": lambda run: run.resume(),
    "step": lambda run: run.step_once(),
    "stop": lambda run: run.stop(),
}


class BadMessageError(ValueError):
    """A message from a browser is invalid; the error text is sent back."""


def live_routes(
    run_provider: RunProvider, *, allowed_hosts: Collection[str] = ()
) -> list[BaseRoute]:
    """Return the routes to hand to ``st.App``.

    Args:
        run_provider: Finds runs.
        allowed_hosts: Host names of the app, besides loopback.
    """
    server = _LiveServer(run_provider, LOOPBACK | {host.lower() for host in allowed_hosts})
    return [
        WebSocketRoute(f"/{LIVE_PATH}", server.serve_live_socket),
        Route("/api/health", server.serve_health),
        Route("/api/plotly.min.js", server.serve_plotly_script),
    ]


def refusal_reason(headers: Mapping[str, str], allowed_hosts: Collection[str]) -> str | None:
    """Return why a request is refused by its ``Host`` or ``Origin``; ``None`` if it is allowed."""
    host, origin = headers.get("host", ""), headers.get("origin")
    if _hostname(f"//{host}") not in allowed_hosts:
        return f"Host {host!r} is not allowed: open the app at {' or '.join(sorted(allowed_hosts))}"
    if origin is not None and _netloc(origin) != host.lower():
        return f"Origin {origin!r} is not allowed: only pages of {host!r} may connect"
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
def _gzipped_plotly_script() -> bytes:
    """Return plotly's script compressed, cached for all browsers."""
    return gzip.compress(PLOTLY_SCRIPT.read_bytes())


class _LiveServer:
    """The endpoints, and the broadcasters of all runs with viewers."""

    def __init__(self, run_provider: RunProvider, allowed_hosts: frozenset[str]) -> None:
        self._run_provider = run_provider
        self._allowed_hosts = allowed_hosts
        self._broadcasters: dict[str, RunBroadcaster] = {}
        self._pumps: set[asyncio.Task[None]] = set()

    def _refusal_reason(self, connection: HTTPConnection) -> str | None:
        return refusal_reason(connection.headers, self._allowed_hosts)

    async def serve_health(self, request: Request) -> Response:
        """Report that the server answers, and the run that trains now."""
        if reason := self._refusal_reason(request):
            return JSONResponse({"error": reason}, status_code=403)
        run = await run_in_threadpool(self._run_provider.active_run)
        trainer = None
        if run is not None:
            snapshot = run.snapshot()
            step = int(snapshot.steps[0, -1]) if snapshot.steps.shape[1] else 0
            trainer = {"run_id": run.run_id, "status": snapshot.status.value, "step": step}
        headers = {"Cache-Control": "no-store"}
        return JSONResponse({"status": "ok", "trainer": trainer}, headers=headers)

    async def serve_plotly_script(self, request: Request) -> Response:
        """Serve plotly's script."""
        if reason := self._refusal_reason(request):
            return JSONResponse({"error": reason}, status_code=403)
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": _ACCEPT_ENCODING}
        if "gzip" not in request.headers.get(_ACCEPT_ENCODING, ""):
            return FileResponse(PLOTLY_SCRIPT, media_type=_JAVASCRIPT, headers=headers)
        compressed = await run_in_threadpool(_gzipped_plotly_script)
        headers["Content-Encoding"] = "gzip"
        return Response(compressed, media_type=_JAVASCRIPT, headers=headers)

    async def serve_live_socket(self, socket: WebSocket) -> None:
        """Stream a run to one viewer and handle the viewer's messages."""
        if self._refusal_reason(socket):
            await socket.close(1008)
            return
        await socket.accept()
        broadcaster = await self._find_or_open_broadcaster(socket)
        if broadcaster is None:
            return
        viewer = ViewerQueue()
        broadcaster.viewers.add(viewer)
        self._start_broadcasting(broadcaster)
        try:
            async with anyio.create_task_group() as group:

                async def run_until_first_ends(job: _SocketJob) -> None:
                    with suppress(WebSocketDisconnect):
                        await job(socket, viewer, broadcaster)
                    group.cancel_scope.cancel()

                group.start_soon(run_until_first_ends, _send_messages)
                group.start_soon(run_until_first_ends, _receive_messages)
        finally:
            broadcaster.viewers.discard(viewer)

    async def _find_or_open_broadcaster(self, socket: WebSocket) -> RunBroadcaster | None:
        """Return the run's broadcaster; if there is no such run, send why and close."""
        run_id = socket.query_params.get("run", "")
        if run_id in self._broadcasters:
            return self._broadcasters[run_id]
        try:
            broadcaster = await run_in_threadpool(self._open_broadcaster, run_id)
        except Exception as error:  # any failure is reported to the viewer
            log.exception("run %s cannot be opened", run_id)
            permanent = isinstance(error, DamagedRunError | ValueError)
            code = CLOSE_NO_RUN if permanent else CLOSE_STREAM_BROKEN
            await _close_with_error(socket, f"run {run_id!r} cannot be opened: {error}", code)
            return None
        if broadcaster is None:
            await _close_with_error(
                socket, f"there is no run {run_id!r}: choose one from the list of runs"
            )
            return None
        return self._broadcasters.setdefault(run_id, broadcaster)

    def _open_broadcaster(self, run_id: str) -> RunBroadcaster | None:
        run = self._run_provider.find_run(run_id)
        return RunBroadcaster(run, self._run_provider.find_run) if run is not None else None

    def _start_broadcasting(self, broadcaster: RunBroadcaster) -> None:
        """Start broadcasting for the first viewer; drop the broadcaster after the last."""
        if broadcaster.broadcast_task is not None and not broadcaster.broadcast_task.done():
            return

        def drop_broadcaster(_: asyncio.Task[None]) -> None:
            if all(viewer.closed for viewer in broadcaster.viewers):
                self._broadcasters.pop(broadcaster.run.run_id, None)

        broadcaster.broadcast_task = asyncio.create_task(broadcaster.broadcast_until_unwatched())
        broadcaster.broadcast_task.add_done_callback(drop_broadcaster)


async def _close_with_error(socket: WebSocket, reason: str, code: int = CLOSE_NO_RUN) -> None:
    """Send an error and close; after ``CLOSE_STREAM_BROKEN`` a browser reconnects."""
    await socket.send_text(json.dumps({"error": reason}))
    await socket.close(code)


async def _send_messages(
    socket: WebSocket, viewer: ViewerQueue, broadcaster: RunBroadcaster
) -> None:
    while not viewer.closed:
        await viewer.has_messages.wait()
        viewer.has_messages.clear()
        for item in viewer.drain_messages(broadcaster):
            if isinstance(item, str):
                await socket.send_text(item)
            else:
                await socket.send_bytes(item)
    await socket.close(CLOSE_STREAM_BROKEN)


async def _receive_messages(
    socket: WebSocket, viewer: ViewerQueue, broadcaster: RunBroadcaster
) -> None:
    while (message := await socket.receive())["type"] != "websocket.disconnect":
        reply = await answer_message(message.get("text"), viewer, broadcaster)
        if reply is not None:
            await viewer.queue_reply(reply)


async def answer_message(
    text: str | None, viewer: ViewerQueue, broadcaster: RunBroadcaster
) -> str | bytes | None:
    """Handle a message of a viewer and return the reply: an acknowledgement or an error.

    Messages are JSON objects with one of these entries: ``set`` (``name, value, seq``),
    ``do`` (``pause, resume, step, stop``), ``pace``, ``view`` (``axis, x0, x1``) or
    ``snapshot``. Actions that may wait for the run's lock are done in another thread. The next
    message of the same viewer is read afterwards, so that the order is preserved.
    """
    try:
        kind, content = _parse_message(text)
    except BadMessageError as error:
        return json.dumps({"error": str(error)})
    try:
        return await _MESSAGE_HANDLERS[kind](content, viewer, broadcaster)
    except (ValueError, RuntimeError) as error:  # a knob out of range, an ended run …
        seq = content.get("seq") if isinstance(content, dict) else None
        return json.dumps({"error": str(error), "of": kind, "seq": seq})


def _parse_message(text: str | None) -> tuple[str, Any]:
    if text is None or len(text) > _MAX_MESSAGE_LENGTH:
        raise BadMessageError(f"expected JSON text of at most {_MAX_MESSAGE_LENGTH} characters")
    try:
        message = json.loads(text, parse_int=_parse_integer)
    except (ValueError, RecursionError):
        raise BadMessageError(f"{text[:60]!r} is not JSON: send one JSON object") from None
    if not isinstance(message, dict) or len(message) != 1 or set(message) - set(_MESSAGE_HANDLERS):
        allowed = ", ".join(_MESSAGE_HANDLERS)
        raise BadMessageError(
            f"{text[:60]!r} is not understood: send an object with one of {allowed}"
        )
    return next(iter(message.items()))


def _parse_integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 16 else float(digits)  # beyond the integers of JavaScript


async def _answer_set_knob(content: Any, viewer: ViewerQueue, broadcaster: RunBroadcaster) -> str:
    if not isinstance(content, dict) or not isinstance(content.get("name"), str):
        raise BadMessageError(f"set={content!r} is not understood: expected name, value and seq")
    name, value, seq = content["name"], content.get("value"), content.get("seq")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadMessageError(f"{name}={value!r} is not allowed: expected a number")
    if not isinstance(seq, int | None):
        raise BadMessageError(f"seq={seq!r} is not allowed: expected a whole number")
    # On the event loop, since it takes less time than a thread.
    version = broadcaster.request_knob(viewer, name, value, seq)
    return json.dumps({"ack": {"name": name, "value": value, "seq": seq, "version": version}})


async def _answer_run_action(content: Any, _: ViewerQueue, broadcaster: RunBroadcaster) -> str:
    if not isinstance(content, str) or content not in _RUN_ACTIONS:
        raise BadMessageError(
            f"do={content!r} is not allowed: choose one of {', '.join(_RUN_ACTIONS)}"
        )
    await run_in_threadpool(_RUN_ACTIONS[content], broadcaster.run)
    return json.dumps({"ack": {"do": content}})


async def _answer_set_pace(content: Any, _: ViewerQueue, broadcaster: RunBroadcaster) -> str:
    if not isinstance(content, str):
        raise BadMessageError(f"pace={content!r} is not allowed: choose full, slow or step")
    await run_in_threadpool(broadcaster.run.set_pace, content)
    return json.dumps({"ack": {"pace": content}})


async def _answer_window(content: Any, _: ViewerQueue, broadcaster: RunBroadcaster) -> bytes:
    content = content if isinstance(content, dict) else {}
    axis, ends = content.get("axis"), [content.get("x0"), content.get("x1")]
    numbers = all(isinstance(x, int | float) and math.isfinite(x) for x in ends)
    if not isinstance(axis, str) or not numbers or ends[0] >= ends[1]:
        raise BadMessageError(f"view={content!r} is not understood: expected axis, x0 < x1")
    return broadcaster.window_frame(axis, float(ends[0]), float(ends[1]))


async def _answer_snapshot(_: Any, viewer: ViewerQueue, broadcaster: RunBroadcaster) -> None:
    viewer.queue_snapshot()


_MESSAGE_HANDLERS: Final[
    dict[str, Callable[[Any, ViewerQueue, RunBroadcaster], Awaitable[str | bytes | None]]]
] = {
    "set": _answer_set_knob,
    "do": _answer_run_action,
    "pace": _answer_set_pace,
    "view": _answer_window,
    "snapshot": _answer_snapshot,
}
