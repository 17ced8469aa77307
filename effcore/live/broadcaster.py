"""One run, many viewers: every frame is built once and fanned out.

A channel lives as long as somebody watches. Ten times a second it takes the run's
snapshot, builds what is new and puts the same bytes into each viewer's queue. A viewer
too slow to drain its queue loses frames and gets a fresh snapshot instead; it never slows
down the others or the trainer. Everything here runs on the server's event loop, except
:meth:`Channel.read_snapshots`, which may wait for a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
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
from effcore.live.downsampling import (
    cursor_at_end,
    downsampled_tables,
    new_row_tables,
    window_tables,
)
from effcore.live.interfaces import LiveRun
from effcore.live.protocol import (
    FRAME_COLUMNS,
    Array,
    encode_frame,
    histogram_part,
    marks_part,
    table_arrays,
    view_part,
)
from effcore.live.tiles import evaluated_metric_label, status_with_tiles
from effcore.records import KnobChange, RunStatus, Snapshot

log = logging.getLogger(__name__)

#: Frames per second while something changes.
FRAMES_PER_S: Final = 10
#: A frame is sent at least this often, so that a viewer can tell silence from loss.
HEARTBEAT_S: Final = 1.0
#: Pictures are sent at most this often.
VIEW_INTERVAL_S: Final = 0.4
#: Frames a viewer may lag behind before it is given a snapshot instead.
MAX_QUEUED_FRAMES: Final = 2
#: Replies that may wait before no further message of that viewer is read.
MAX_QUEUED_REPLIES: Final = 32
#: A dense reference that was not found is looked for again after so long.
REFERENCE_RETRY_S: Final = 2.0
#: How often it is looked whether an interrupted run was resumed.
RESUME_CHECK_INTERVAL_S: Final = 0.5


class KnobRequest(NamedTuple):
    """A knob's value that a viewer asked for and that is not in force yet."""

    version: int  # as counted by the run
    value: float
    seq: int | None  # the viewer's own number for it
    viewer: ViewerQueue
    changes_known: int  # changes of the run known when it was made


class ViewerQueue:
    """What waits to be sent to one browser; filled by the channel, emptied by its socket."""

    def __init__(self) -> None:
        self.closed = False
        self.has_messages = asyncio.Event()
        self._frames: deque[bytes] = deque()
        self._replies: deque[str | bytes] = deque()
        self._needs_hello = self._needs_reference = self._needs_snapshot = True
        self.has_messages.set()

    def drain_messages(self, broadcaster: RunBroadcaster) -> list[str | bytes]:
        """Return what is to be sent now, in order."""
        out: list[str | bytes] = [*self._replies]
        self._replies.clear()
        if self._needs_hello:
            self._needs_hello = False
            out.append(broadcaster.hello_message())
        if self._needs_snapshot:
            out.append(broadcaster.snapshot_frame(reference=self._needs_reference))
            out += broadcaster.view_frames()
            self._needs_snapshot = self._needs_reference = False
        out += self._frames
        self._frames.clear()
        return out

    def queue_frame(self, frame: bytes) -> None:
        """Queue a frame; where the queue is full, forget it and ask for a snapshot."""
        if self._needs_snapshot:  # which will hold this frame's news too
            return
        if len(self._frames) >= MAX_QUEUED_FRAMES:
            self.queue_snapshot()
        else:
            self._frames.append(frame)
            self.has_messages.set()

    def queue_snapshot(self) -> None:
        """Send a snapshot next, in place of the frames that wait."""
        self._frames.clear()
        self._needs_snapshot = True
        self.has_messages.set()

    def queue_hello_and_snapshot(self) -> None:
        """Send everything again: the charts themselves changed."""
        self._needs_hello = self._needs_reference = True
        self.queue_snapshot()

    def close(self) -> None:
        """End the connection; the browser comes back by itself."""
        self.closed = True
        self.has_messages.set()

    async def queue_reply(self, reply: str | bytes) -> None:
        """Queue the reply to a message; wait where the browser does not take its replies."""
        self._replies.append(reply)
        self.has_messages.set()
        while len(self._replies) > MAX_QUEUED_REPLIES:
            await asyncio.sleep(1 / FRAMES_PER_S)

    def queue_applied_change(self, change: KnobChange, seq: int | None) -> None:
        """Tell the viewer which value answers its request, in force from which step on."""
        applied = {"name": change.name, "value": change.value, "step": change.step, "seq": seq}
        self._replies.append(json.dumps({"applied": applied}))
        self.has_messages.set()


class RunBroadcaster:
    """Watches one run for all its viewers.

    Building one reads the run, from a disk perhaps: do so in a thread of its own.

    Args:
        run: The run.
        find_run: Finds the dense reference by id.

    Raises:
        ValueError: The run's task or policy is no longer registered.
    """

    def __init__(self, run: LiveRun, find_run: Callable[[str], LiveRun | None]) -> None:
        self.run = run
        self.viewers: set[ViewerQueue] = set()
        self.broadcast_task: asyncio.Task[None] | None = None
        self._find_run = find_run
        self._knob_specs = run.knob_specs()
        self._knob_labels = {spec.name: spec.label for spec in self._knob_specs}
        self._description = run.description()
        self._reference_run: LiveRun | None = None
        self._reference_retry_at, self._reference_problem = -math.inf, ""
        self._knob_requests: dict[str, list[KnobRequest]] = {}
        self._snapshot, self._reference_snapshot = self.read_snapshots()
        self._cursor = cursor_at_end(self._snapshot)
        self._sent_status: dict[str, Any] = {}
        self._sent_at = self._view_sent_at = self._resume_check_at = -math.inf
        self._sent_histogram, self._sent_view = self._snapshot.histogram, self._snapshot.view
        self._sent_marks_key = _marks_key(self._snapshot)

    async def broadcast_until_unwatched(self) -> None:
        """Send what is new to all viewers until none is left."""
        try:
            while self.viewers:
                look, dense = await run_in_threadpool(self.read_snapshots)
                if await run_in_threadpool(self.is_superseded, look):
                    break
                if (frame := self.next_frame(look, dense)) is not None:
                    for viewer in self.viewers:
                        viewer.queue_frame(frame)
                await asyncio.sleep(1 / FRAMES_PER_S)
        except Exception:  # a boundary: viewers reconnect, the run goes on
            log.exception("the live stream of run %s ended", self.run.run_id)
        for viewer in self.viewers:  # of a run that goes on, they come back to that
            viewer.close()

    def is_superseded(self, snapshot: Snapshot) -> bool:
        """Return whether the run, which was interrupted, goes on by now, as another object."""
        now = time.monotonic()
        if snapshot.status is not RunStatus.INTERRUPTED or now < self._resume_check_at:
            return False
        self._resume_check_at = now + RESUME_CHECK_INTERVAL_S
        with contextlib.suppress(Exception):  # a boundary: a store that fails hides no run
            return self._find_run(self.run.run_id) is not self.run
        return False

    def read_snapshots(self) -> tuple[Snapshot, Snapshot | None]:
        """Return the run and its dense reference as they are now; called by one thread at a time.

        A reference once found is kept; one that is missing, or cannot be read, is looked for
        now and then.
        """
        look = self.run.snapshot()
        try:
            return look, self._read_reference_snapshot(look.reference_id)
        except Exception as error:  # a boundary: a damaged reference does not hide the run
            if str(error) != self._reference_problem:
                log.warning("the reference %s cannot be read: %s", look.reference_id, error)
            self._reference_run, self._reference_problem = None, str(error)
            return look, None

    def _read_reference_snapshot(self, reference_id: str | None) -> Snapshot | None:
        now = time.monotonic()
        if (
            reference_id is not None
            and self._reference_run is None
            and now >= self._reference_retry_at
        ):
            self._reference_retry_at = now + REFERENCE_RETRY_S
            self._reference_run = self._find_run(reference_id)
        return self._reference_run.snapshot() if self._reference_run is not None else None

    def next_frame(self, snapshot: Snapshot, reference_snapshot: Snapshot | None) -> bytes | None:
        """Return the frame of what changed since the last one, ``None`` if nothing did.

        Args:
            snapshot: The run, as returned by :meth:`read_snapshots`.
            reference_snapshot: Its reference, likewise.
        """
        before = _charts_key(self._snapshot, self._reference_snapshot)
        known, self._snapshot, self._reference_snapshot = (
            len(self._snapshot.changes),
            snapshot,
            reference_snapshot,
        )
        for index, change in enumerate(snapshot.changes[known:], known):
            self._answer_knob_requests(index, change)
        if _charts_key(snapshot, reference_snapshot) != before:
            for viewer in self.viewers:
                viewer.queue_hello_and_snapshot()
        arrived, state = cursor_at_end(snapshot), self._status_header()
        header, arrays = self._changed_parts()
        arrays = table_arrays(new_row_tables(snapshot, self._cursor)) | arrays
        quiet = time.monotonic() - self._sent_at < HEARTBEAT_S
        if not header and not arrays and state == self._sent_status and quiet:
            return None
        header |= {"kind": "delta", "from": self._cursor, "to": arrived, "status": state}
        self._cursor, self._sent_status, self._sent_at = arrived, state, time.monotonic()
        return encode_frame(header, arrays)

    def request_knob(self, viewer: ViewerQueue, name: str, value: float, seq: int | None) -> int:
        """Ask for a knob's value on behalf of a viewer; return the request's version.

        Raises:
            ValueError: No such knob, or a value out of its range.
            RuntimeError: The run is over.
        """
        version = self.run.set_knob(name, value)
        request = KnobRequest(version, value, seq, viewer, len(self._snapshot.changes))
        others = (r for r in self._knob_requests.get(name, ()) if r.viewer in self.viewers)
        self._knob_requests[name] = [*others, request]
        return version

    def _answer_knob_requests(self, index: int, change: KnobChange) -> None:
        """Tell who asked for a knob up to the request that ``change`` came from.

        Of several requests the run takes the last, so the earlier ones are answered with
        it. A change that nobody here asked for answers all that were made before it.
        """
        waiting = self._knob_requests.pop(change.name, [])
        taken = [r.version for r in waiting if r.value == change.value]
        taken = taken or [r.version for r in waiting if r.changes_known <= index]
        reached, latest = max(taken, default=0), dict[ViewerQueue, KnobRequest]()
        for request in waiting:
            if request.version <= reached:
                latest[request.viewer] = request
        self._knob_requests[change.name] = [r for r in waiting if r.version > reached]
        for viewer, request in latest.items():
            viewer.queue_applied_change(change, request.seq)

    def snapshot_frame(self, *, reference: bool = True) -> bytes:
        """Return everything known at the last tick, from which the next frame goes on.

        All but the pictures, which are large and follow in :meth:`view_frames`.

        Args:
            reference: Whether the dense reference's series are included.
        """
        look = self._snapshot
        arrays = table_arrays(downsampled_tables(look))
        if reference and self._reference_snapshot is not None:
            arrays |= table_arrays(downsampled_tables(self._reference_snapshot), "ref_")
        header = {"kind": "snapshot", "to": self._cursor, "status": self._status_header()}
        header |= marks_part(look, self._knob_labels) | self._reproduction_texts()
        part, bars = histogram_part(look.histogram)
        return encode_frame(header | part, arrays | bars)

    def view_frames(self) -> list[bytes]:
        """Return one frame of all pictures known at the last tick, or none."""
        header, pictures = view_part(self._snapshot.view)
        return [encode_frame({"kind": "view", **header}, pictures)] if header else []

    def window_frame(self, axis: str, x0: float, x1: float) -> bytes:
        """Return the series between two positions at full resolution.

        Raises:
            ValueError: No such axis.
        """
        header = {"kind": "window", "axis": axis, "x0": x0, "x1": x1}
        return encode_frame(header, table_arrays(window_tables(self._snapshot, axis, x0, x1)))

    def hello_message(self) -> str:
        """Return what a viewer must know before data: words, knobs, charts, axes."""
        hello = {
            "run": self.run.run_id,
            "info": {
                **dataclasses.asdict(self._description),
                "evaluated_label": evaluated_metric_label(self._description),
            },
            "knobs": [
                {k: getattr(spec, k) for k in KnobSpec.__slots__} for spec in self._knob_specs
            ],
            "charts": chart_templates(self._snapshot, self._description),
            "axes": axis_choices(self._snapshot),
            "columns": FRAME_COLUMNS,
        }
        return json.dumps({"hello": hello})

    def _changed_parts(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return distribution, pictures and knob changes, where they are new."""
        look, header, arrays = self._snapshot, dict[str, Any](), dict[str, Array]()
        if look.histogram is not self._sent_histogram:
            self._sent_histogram = look.histogram
            part, arrays = histogram_part(look.histogram)
            header |= part
        if (
            look.view is not self._sent_view
            and time.monotonic() - self._view_sent_at > VIEW_INTERVAL_S
        ):
            part, pictures = view_part(look.view, self._sent_view)
            self._sent_view, self._view_sent_at = look.view, time.monotonic()
            header, arrays = header | part, arrays | pictures
        if _marks_key(look) != self._sent_marks_key:
            self._sent_marks_key = _marks_key(look)
            header |= marks_part(look, self._knob_labels) | self._reproduction_texts()
        return header, arrays

    def _reproduction_texts(self) -> dict[str, str]:
        """Return the command that repeats the run, and a loop with its thresholds."""
        from effcore.runs.reproduce import (
            training_loop_code,
        )  # imports torch, which the server does not wait for

        return {
            "command": self.run.reproduction_command(),
            "loop": training_loop_code(self._snapshot),
        }

    def _status_header(self) -> dict[str, Any]:
        return status_with_tiles(self._snapshot, self._description, self._reference_snapshot) | {
            "pace": self.run.pace
        }


def _charts_key(snapshot: Snapshot, reference_snapshot: Snapshot | None) -> tuple[object, ...]:
    """Return what decides the charts and the reference in them; a change needs a new hello."""
    known = None if reference_snapshot is None else reference_snapshot.status.is_final
    return snapshot.reference_id, known, snapshot.energy.quality, snapshot.energy.source


def _marks_key(snapshot: Snapshot) -> tuple[int, bool]:
    """Return what decides the marks; the newest is placed again once its step is known."""
    known = snapshot.steps[0, -1] if snapshot.steps.shape[1] else 0.0
    return len(snapshot.changes), bool(snapshot.changes) and snapshot.changes[-1].step > known
