"""One run, many viewers: every frame is built once and fanned out.

A channel lives as long as somebody watches. Ten times a second it takes the run's
snapshot, builds what is new and puts the same bytes into each viewer's queue. A viewer
too slow to drain its queue loses frames and gets a fresh snapshot instead; it never slows
down the others or the trainer. Everything here runs on the server's event loop, except
:meth:`Channel.read`, which may wait for a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from starlette.concurrency import run_in_threadpool

from effcore.figures.run_charts import axis_choices, chart_templates
from effcore.knobs import KnobSpec
from effcore.records import KnobChange, RunStatus, Snapshot
from effcore.stream.frames import (
    COLUMNS,
    Array,
    encode,
    histogram_part,
    marks_part,
    table_arrays,
    view_part,
)
from effcore.stream.source import LiveRun
from effcore.stream.status import evaluated_label, status
from effcore.stream.thin import cursor_of, new_rows, tables, window

log = logging.getLogger(__name__)

#: Frames per second while something changes.
TICKS_PER_S: Final = 10
#: A frame is sent at least this often, so that a viewer can tell silence from loss.
HEARTBEAT_S: Final = 1.0
#: Pictures are sent at most this often.
VIEW_S: Final = 0.4
#: Frames a viewer may lag behind before it is given a snapshot instead.
QUEUE: Final = 2
#: Replies that may wait before no further message of that viewer is read.
REPLIES: Final = 32
#: A dense reference that was not found is looked for again after so long.
RETRY_S: Final = 2.0
#: How often it is looked whether an interrupted run was resumed.
RESUMED_S: Final = 0.5


class Request(NamedTuple):
    """A knob's value that a viewer asked for and that is not in force yet."""

    version: int  # as counted by the run
    value: float
    seq: int | None  # the viewer's own number for it
    viewer: Viewer
    since: int  # changes of the run known when it was made


class Viewer:
    """What waits to be sent to one browser; filled by the channel, emptied by its socket."""

    def __init__(self) -> None:
        self.closed = False
        self.wake = asyncio.Event()
        self._frames: deque[bytes] = deque()
        self._replies: deque[str | bytes] = deque()
        self._needs_hello = self._needs_reference = self._needs_snapshot = True
        self.wake.set()

    def take(self, channel: Channel) -> list[str | bytes]:
        """Return what is to be sent now, in order."""
        out: list[str | bytes] = [*self._replies]
        self._replies.clear()
        if self._needs_hello:
            self._needs_hello = False
            out.append(channel.hello())
        if self._needs_snapshot:
            out.append(channel.snapshot_frame(reference=self._needs_reference))
            out += channel.view_frames()
            self._needs_snapshot = self._needs_reference = False
        out += self._frames
        self._frames.clear()
        return out

    def offer(self, frame: bytes) -> None:
        """Queue a frame; where the queue is full, forget it and ask for a snapshot."""
        if self._needs_snapshot:  # which will hold this frame's news too
            return
        if len(self._frames) >= QUEUE:
            self.refresh()
        else:
            self._frames.append(frame)
            self.wake.set()

    def refresh(self) -> None:
        """Send a snapshot next, in place of the frames that wait."""
        self._frames.clear()
        self._needs_snapshot = True
        self.wake.set()

    def restart(self) -> None:
        """Send everything again: the charts themselves changed."""
        self._needs_hello = self._needs_reference = True
        self.refresh()

    def close(self) -> None:
        """End the connection; the browser comes back by itself."""
        self.closed = True
        self.wake.set()

    async def tell(self, reply: str | bytes) -> None:
        """Queue the reply to a message; wait where the browser does not take its replies."""
        self._replies.append(reply)
        self.wake.set()
        while len(self._replies) > REPLIES:
            await asyncio.sleep(1 / TICKS_PER_S)

    def note_applied(self, change: KnobChange, seq: int | None) -> None:
        """Tell the viewer which value answers its request, in force from which step on."""
        applied = {"name": change.name, "value": change.value, "step": change.step, "seq": seq}
        self._replies.append(json.dumps({"applied": applied}))
        self.wake.set()


class Channel:
    """Watches one run for all its viewers.

    Building one reads the run, from a disk perhaps: do so in a thread of its own.

    Args:
        run: The run.
        find: Finds the dense reference by id.

    Raises:
        ValueError: The run's task or policy is no longer registered.
    """

    def __init__(self, run: LiveRun, find: Callable[[str], LiveRun | None]) -> None:
        self.run = run
        self.viewers: set[Viewer] = set()
        self.pumping: asyncio.Task[None] | None = None
        self._find = find
        self._specs = run.knob_specs()
        self._labels = {spec.name: spec.label for spec in self._specs}
        self._info = run.info()
        self._reference: LiveRun | None = None
        self._retry_at, self._problem = -math.inf, ""
        self._requests: dict[str, list[Request]] = {}
        self._look, self._dense = self.read()
        self._cursor = cursor_of(self._look)
        self._sent: dict[str, Any] = {}
        self._sent_at = self._view_at = self._ask_at = -math.inf
        self._histogram, self._view = self._look.histogram, self._look.view
        self._marks = _marks_key(self._look)

    async def pump(self) -> None:
        """Send what is new to all viewers until none is left."""
        try:
            while self.viewers:
                look, dense = await run_in_threadpool(self.read)
                if await run_in_threadpool(self.superseded, look):
                    break
                if (frame := self.tick(look, dense)) is not None:
                    for viewer in self.viewers:
                        viewer.offer(frame)
                await asyncio.sleep(1 / TICKS_PER_S)
        except Exception:  # a boundary: viewers reconnect, the run goes on
            log.exception("the live stream of run %s ended", self.run.run_id)
        for viewer in self.viewers:  # of a run that goes on, they come back to that
            viewer.close()

    def superseded(self, look: Snapshot) -> bool:
        """Return whether the run, which was interrupted, goes on by now, as another object."""
        now = time.monotonic()
        if look.status is not RunStatus.INTERRUPTED or now < self._ask_at:
            return False
        self._ask_at = now + RESUMED_S
        with contextlib.suppress(Exception):  # a boundary: a store that fails hides no run
            return self._find(self.run.run_id) is not self.run
        return False

    def read(self) -> tuple[Snapshot, Snapshot | None]:
        """Return the run and its dense reference as they are now; called by one thread at a time.

        A reference once found is kept; one that is missing, or cannot be read, is looked for
        now and then.
        """
        look = self.run.snapshot()
        try:
            return look, self._read_reference(look.reference_id)
        except Exception as error:  # a boundary: a damaged reference does not hide the run
            if str(error) != self._problem:
                log.warning("the reference %s cannot be read: %s", look.reference_id, error)
            self._reference, self._problem = None, str(error)
            return look, None

    def _read_reference(self, wanted: str | None) -> Snapshot | None:
        now = time.monotonic()
        if wanted is not None and self._reference is None and now >= self._retry_at:
            self._retry_at = now + RETRY_S
            self._reference = self._find(wanted)
        return self._reference.snapshot() if self._reference is not None else None

    def tick(self, look: Snapshot, dense: Snapshot | None) -> bytes | None:
        """Return the frame of what changed since the last one, ``None`` if nothing did.

        Args:
            look: The run, as returned by :meth:`read`.
            dense: Its reference, likewise.
        """
        before = _charts_key(self._look, self._dense)
        known, self._look, self._dense = len(self._look.changes), look, dense
        for index, change in enumerate(look.changes[known:], known):
            self._settle(index, change)
        if _charts_key(look, dense) != before:
            for viewer in self.viewers:
                viewer.restart()
        arrived, state = cursor_of(look), self._state()
        header, arrays = self._news()
        arrays = table_arrays(new_rows(look, self._cursor)) | arrays
        quiet = time.monotonic() - self._sent_at < HEARTBEAT_S
        if not header and not arrays and state == self._sent and quiet:
            return None
        header |= {"kind": "delta", "from": self._cursor, "to": arrived, "status": state}
        self._cursor, self._sent, self._sent_at = arrived, state, time.monotonic()
        return encode(header, arrays)

    def ask(self, viewer: Viewer, name: str, value: float, seq: int | None) -> int:
        """Ask for a knob's value on behalf of a viewer; return the request's version.

        Raises:
            ValueError: No such knob, or a value out of its range.
            RuntimeError: The run is over.
        """
        version = self.run.set_knob(name, value)
        request = Request(version, value, seq, viewer, len(self._look.changes))
        others = (r for r in self._requests.get(name, ()) if r.viewer in self.viewers)
        self._requests[name] = [*others, request]
        return version

    def _settle(self, index: int, change: KnobChange) -> None:
        """Tell who asked for a knob up to the request that ``change`` came from.

        Of several requests the run takes the last, so the earlier ones are answered with
        it. A change that nobody here asked for answers all that were made before it.
        """
        waiting = self._requests.pop(change.name, [])
        taken = [r.version for r in waiting if r.value == change.value]
        taken = taken or [r.version for r in waiting if r.since <= index]
        reached, latest = max(taken, default=0), dict[Viewer, Request]()
        for request in waiting:
            if request.version <= reached:
                latest[request.viewer] = request
        self._requests[change.name] = [r for r in waiting if r.version > reached]
        for viewer, request in latest.items():
            viewer.note_applied(change, request.seq)

    def snapshot_frame(self, *, reference: bool = True) -> bytes:
        """Return everything known at the last tick, from which the next frame goes on.

        All but the pictures, which are large and follow in :meth:`view_frames`.

        Args:
            reference: Whether the dense reference's series are included.
        """
        look = self._look
        arrays = table_arrays(tables(look))
        if reference and self._dense is not None:
            arrays |= table_arrays(tables(self._dense), "ref_")
        header = {"kind": "snapshot", "to": self._cursor, "status": self._state()}
        header |= marks_part(look, self._labels) | self._ways()
        part, bars = histogram_part(look.histogram)
        return encode(header | part, arrays | bars)

    def view_frames(self) -> list[bytes]:
        """Return one frame of all pictures known at the last tick, or none."""
        header, pictures = view_part(self._look.view)
        return [encode({"kind": "view", **header}, pictures)] if header else []

    def window_frame(self, axis: str, x0: float, x1: float) -> bytes:
        """Return the series between two positions at full resolution.

        Raises:
            ValueError: No such axis.
        """
        header = {"kind": "window", "axis": axis, "x0": x0, "x1": x1}
        return encode(header, table_arrays(window(self._look, axis, x0, x1)))

    def hello(self) -> str:
        """Return what a viewer must know before data: words, knobs, charts, axes."""
        hello = {
            "run": self.run.run_id,
            "info": {**self._info, "evaluated_label": evaluated_label(self._info)},
            "knobs": [{k: getattr(spec, k) for k in KnobSpec.__slots__} for spec in self._specs],
            "charts": chart_templates(self._look, self._info),
            "axes": axis_choices(self._look),
            "columns": COLUMNS,
        }
        return json.dumps({"hello": hello})

    def _news(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return distribution, pictures and knob changes, where they are new."""
        look, header, arrays = self._look, dict[str, Any](), dict[str, Array]()
        if look.histogram is not self._histogram:
            self._histogram = look.histogram
            part, arrays = histogram_part(look.histogram)
            header |= part
        if look.view is not self._view and time.monotonic() - self._view_at > VIEW_S:
            part, pictures = view_part(look.view, self._view)
            self._view, self._view_at = look.view, time.monotonic()
            header, arrays = header | part, arrays | pictures
        if _marks_key(look) != self._marks:
            self._marks = _marks_key(look)
            header |= marks_part(look, self._labels) | self._ways()
        return header, arrays

    def _ways(self) -> dict[str, str]:
        """Return the command that repeats the run, and a loop with its thresholds."""
        from effcore.runs.reproduce import (
            training_loop_code,
        )  # imports torch, which the server does not wait for

        return {"command": self.run.command(), "loop": training_loop_code(self._look)}

    def _state(self) -> dict[str, Any]:
        return status(self._look, self._info, self._dense) | {"pace": self.run.pace}


def _charts_key(look: Snapshot, dense: Snapshot | None) -> tuple[object, ...]:
    """Return what decides the charts and the reference in them; a change needs a new hello."""
    known = None if dense is None else dense.status.is_final
    return look.reference_id, known, look.energy.quality, look.energy.source


def _marks_key(look: Snapshot) -> tuple[int, bool]:
    """Return what decides the marks; the newest is placed again once its step is known."""
    known = look.steps[0, -1] if look.steps.shape[1] else 0.0
    return len(look.changes), bool(look.changes) and look.changes[-1].step > known
