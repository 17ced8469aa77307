"""Broadcaster of a run: each frame is built once and sent to all viewers.

A broadcaster exists while a run has viewers. Ten times a second it takes the run's snapshot,
encodes what is new, and puts the same bytes into each viewer's queue. A viewer that is too slow
to empty its queue loses frames and gets a full snapshot instead; it never delays other viewers or
the trainer. Everything here runs on the server's event loop, except
:meth:`RunBroadcaster.read_snapshots`, which may wait for a disk.
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
from typing import Any, Final, NamedTuple, Protocol

from starlette.concurrency import run_in_threadpool

from effcore.figures.run_charts import axis_choices, chart_templates
from effcore.knobs import KnobSpec
from effcore.live.protocol import (
    FRAME_COLUMNS,
    Array,
    cursor_at_end,
    downsampled_tables,
    encode_frame,
    histogram_part,
    marks_part,
    new_row_tables,
    table_arrays,
    view_part,
    window_tables,
)
from effcore.live.tiles import evaluated_metric_label, status_with_tiles
from effcore.records import KnobChange, RunStatus, Snapshot
from effcore.records.run_description import RunDescription

# Live and stored runs ---------------------------------------------------------------------


class LiveRun(Protocol):
    """A live or stored run; methods may be called from any thread."""

    run_id: str
    pace: str

    def snapshot(self) -> Snapshot:
        """Return an immutable snapshot of the run, cheaply."""
        ...

    def knob_specs(self) -> tuple[KnobSpec, ...]:
        """Return the knobs that can be changed."""
        ...

    def set_knob(self, name: str, value: object) -> int:
        """Request a knob value; return the request's version."""
        ...

    def pause(self) -> None:
        """Pause after the current step."""
        ...

    def resume(self) -> None:
        """Continue after a pause."""
        ...

    def step_once(self) -> None:
        """Take one step and pause."""
        ...

    def stop(self) -> None:
        """End the run after the current step."""
        ...

    def set_pace(self, pace: str) -> None:
        """Train at ``full`` speed, ``slow`` or one ``step`` at a time."""
        ...

    def reproduction_command(self) -> str:
        """Return the command line that reproduces the run."""
        ...

    def description(self) -> RunDescription:
        """Return the titles and labels of the run."""
        ...


class RunProvider(Protocol):
    """Finds runs for the live stream."""

    def find_run(self, run_id: str) -> LiveRun | None:
        """Return a live or stored run; ``None`` if there is none with that id."""
        ...

    def active_run(self) -> LiveRun | None:
        """Return the run that is training now."""
        ...


# Broadcaster ------------------------------------------------------------------------------


log = logging.getLogger(__name__)

#: Frames per second while something changes.
FRAMES_PER_S: Final = 10
#: Longest interval between frames, so that a viewer notices a lost connection, seconds.
HEARTBEAT_S: Final = 1.0
#: Shortest interval between pictures, seconds.
VIEW_INTERVAL_S: Final = 0.4
#: Frames that may wait for a viewer before a snapshot replaces them.
MAX_QUEUED_FRAMES: Final = 2
#: Replies that may wait for a viewer before its next message is read.
MAX_QUEUED_REPLIES: Final = 32
#: Interval between searches for a missing reference, seconds.
REFERENCE_RETRY_S: Final = 2.0
#: Interval between checks whether an interrupted run was resumed, seconds.
RESUME_CHECK_INTERVAL_S: Final = 0.5


class KnobRequest(NamedTuple):
    """A knob value that a viewer requested and the run has not applied yet."""

    version: int  # counted by the run
    value: float
    seq: int | None  # sequence number given by the viewer
    viewer: ViewerQueue
    changes_known: int  # knob changes of the run known at the request


class ViewerQueue:
    """Messages waiting for one browser, queued by the broadcaster and sent by its socket."""

    def __init__(self) -> None:
        self.closed = False
        self.has_messages = asyncio.Event()
        self._frames: deque[bytes] = deque()
        self._replies: deque[str | bytes] = deque()
        self._needs_hello = self._needs_reference = self._needs_snapshot = True
        self.has_messages.set()

    def drain_messages(self, broadcaster: RunBroadcaster) -> list[str | bytes]:
        """Remove and return the messages to send now, in order."""
        messages: list[str | bytes] = [*self._replies]
        self._replies.clear()
        if self._needs_hello:
            self._needs_hello = False
            messages.append(broadcaster.hello_message())
        if self._needs_snapshot:
            messages.append(broadcaster.snapshot_frame(reference=self._needs_reference))
            messages += broadcaster.view_frames()
            self._needs_snapshot = self._needs_reference = False
        messages += self._frames
        self._frames.clear()
        return messages

    def queue_frame(self, frame: bytes) -> None:
        """Queue a frame; if the queue is full, replace all frames by a snapshot."""
        if self._needs_snapshot:  # the snapshot will include this frame
            return
        if len(self._frames) >= MAX_QUEUED_FRAMES:
            self.queue_snapshot()
        else:
            self._frames.append(frame)
            self.has_messages.set()

    def queue_snapshot(self) -> None:
        """Send a snapshot next, instead of the waiting frames."""
        self._frames.clear()
        self._needs_snapshot = True
        self.has_messages.set()

    def queue_hello_and_snapshot(self) -> None:
        """Send everything again, since the charts changed."""
        self._needs_hello = self._needs_reference = True
        self.queue_snapshot()

    def close(self) -> None:
        """End the connection; the browser reconnects by itself."""
        self.closed = True
        self.has_messages.set()

    async def queue_reply(self, reply: str | bytes) -> None:
        """Queue the reply to a message; wait while the browser does not read its replies."""
        self._replies.append(reply)
        self.has_messages.set()
        while len(self._replies) > MAX_QUEUED_REPLIES:
            await asyncio.sleep(1 / FRAMES_PER_S)

    def queue_applied_change(self, change: KnobChange, seq: int | None) -> None:
        """Queue the answer to a knob request: the applied value and its first step."""
        applied = {"name": change.name, "value": change.value, "step": change.step, "seq": seq}
        self._replies.append(json.dumps({"applied": applied}))
        self.has_messages.set()


class RunBroadcaster:
    """Streams one run to all its viewers.

    Construction reads the run, possibly from a disk: do it in a worker thread.

    Args:
        run: The run.
        find_run: Returns a run by id, to find the reference.

    Raises:
        ValueError: The run's task or policy is not registered.
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
        """Send new data to all viewers until none is left."""
        try:
            while self.viewers:
                snapshot, reference = await run_in_threadpool(self.read_snapshots)
                if await run_in_threadpool(self.is_superseded, snapshot):
                    break
                if (frame := self.next_frame(snapshot, reference)) is not None:
                    for viewer in self.viewers:
                        viewer.queue_frame(frame)
                await asyncio.sleep(1 / FRAMES_PER_S)
        except Exception:  # viewers reconnect, and the run continues
            log.exception("the live stream of run %s ended", self.run.run_id)
        for viewer in self.viewers:  # they reconnect, to the resumed run if there is one
            viewer.close()

    def is_superseded(self, snapshot: Snapshot) -> bool:
        """Return whether the interrupted run was resumed, as another object."""
        now = time.monotonic()
        if snapshot.status is not RunStatus.INTERRUPTED or now < self._resume_check_at:
            return False
        self._resume_check_at = now + RESUME_CHECK_INTERVAL_S
        with contextlib.suppress(Exception):  # a failing store must not end the stream
            return self._find_run(self.run.run_id) is not self.run
        return False

    def read_snapshots(self) -> tuple[Snapshot, Snapshot | None]:
        """Return snapshots of the run and its reference; for one thread at a time.

        A reference that is missing, or cannot be read, is searched again at intervals.
        """
        snapshot = self.run.snapshot()
        try:
            return snapshot, self._read_reference_snapshot(snapshot.reference_id)
        except Exception as error:  # a damaged reference must not hide the run
            if str(error) != self._reference_problem:
                log.warning("the reference %s cannot be read: %s", snapshot.reference_id, error)
            self._reference_run, self._reference_problem = None, str(error)
            return snapshot, None

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
        """Return a frame with the changes since the last one; ``None`` if there are none.

        Args:
            snapshot: Snapshot of the run, from :meth:`read_snapshots`.
            reference_snapshot: Snapshot of the reference, likewise.
        """
        old_charts_key = _charts_key(self._snapshot, self._reference_snapshot)
        changes_known = len(self._snapshot.changes)
        self._snapshot, self._reference_snapshot = snapshot, reference_snapshot
        for index, change in enumerate(snapshot.changes[changes_known:], changes_known):
            self._answer_knob_requests(index, change)
        if _charts_key(snapshot, reference_snapshot) != old_charts_key:
            for viewer in self.viewers:
                viewer.queue_hello_and_snapshot()
        cursor, status = cursor_at_end(snapshot), self._status_header()
        header, arrays = self._changed_parts()
        arrays = table_arrays(new_row_tables(snapshot, self._cursor)) | arrays
        heartbeat_due = time.monotonic() - self._sent_at >= HEARTBEAT_S
        if not header and not arrays and status == self._sent_status and not heartbeat_due:
            return None
        header |= {"kind": "delta", "from": self._cursor, "to": cursor, "status": status}
        self._cursor, self._sent_status, self._sent_at = cursor, status, time.monotonic()
        return encode_frame(header, arrays)

    def request_knob(self, viewer: ViewerQueue, name: str, value: float, seq: int | None) -> int:
        """Request a knob value for a viewer; return the request's version.

        Raises:
            ValueError: There is no such knob, or the value is out of range.
            RuntimeError: The run has ended.
        """
        version = self.run.set_knob(name, value)
        request = KnobRequest(version, value, seq, viewer, len(self._snapshot.changes))
        pending = (r for r in self._knob_requests.get(name, ()) if r.viewer in self.viewers)
        self._knob_requests[name] = [*pending, request]
        return version

    def _answer_knob_requests(self, index: int, change: KnobChange) -> None:
        """Answer the requests for a knob up to the one that caused ``change``.

        The run applies the last of several requests, so that one change answers the earlier ones
        too. A change that no viewer requested answers all requests made before it.
        """
        pending = self._knob_requests.pop(change.name, [])
        versions = [r.version for r in pending if r.value == change.value]
        versions = versions or [r.version for r in pending if r.changes_known <= index]
        answered, latest = max(versions, default=0), dict[ViewerQueue, KnobRequest]()
        for request in pending:
            if request.version <= answered:
                latest[request.viewer] = request
        self._knob_requests[change.name] = [r for r in pending if r.version > answered]
        for viewer, request in latest.items():
            viewer.queue_applied_change(change, request.seq)

    def snapshot_frame(self, *, reference: bool = True) -> bytes:
        """Return a frame with all data as of the last frame, which the next frame continues.

        Pictures are large, and follow in :meth:`view_frames`.

        Args:
            reference: Include the series of the reference.
        """
        snapshot = self._snapshot
        arrays = table_arrays(downsampled_tables(snapshot))
        if reference and self._reference_snapshot is not None:
            arrays |= table_arrays(downsampled_tables(self._reference_snapshot), "ref_")
        header = {"kind": "snapshot", "to": self._cursor, "status": self._status_header()}
        header |= marks_part(snapshot, self._knob_labels) | self._reproduction_texts()
        part, bars = histogram_part(snapshot.histogram)
        return encode_frame(header | part, arrays | bars)

    def view_frames(self) -> list[bytes]:
        """Return one frame with all pictures as of the last frame, or no frame."""
        header, pictures = view_part(self._snapshot.view)
        return [encode_frame({"kind": "view", **header}, pictures)] if header else []

    def window_frame(self, axis: str, x0: float, x1: float) -> bytes:
        """Return a frame with the series between two positions on an axis, at full resolution.

        Raises:
            ValueError: There is no such axis.
        """
        header = {"kind": "window", "axis": axis, "x0": x0, "x1": x1}
        return encode_frame(header, table_arrays(window_tables(self._snapshot, axis, x0, x1)))

    def hello_message(self) -> str:
        """Return the first message to a viewer: texts, knobs, charts and axes."""
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
        """Return header and arrays of a new histogram, new pictures and new knob changes."""
        snapshot, header, arrays = self._snapshot, dict[str, Any](), dict[str, Array]()
        if snapshot.histogram is not self._sent_histogram:
            self._sent_histogram = snapshot.histogram
            part, arrays = histogram_part(snapshot.histogram)
            header |= part
        if (
            snapshot.view is not self._sent_view
            and time.monotonic() - self._view_sent_at > VIEW_INTERVAL_S
        ):
            part, pictures = view_part(snapshot.view, self._sent_view)
            self._sent_view, self._view_sent_at = snapshot.view, time.monotonic()
            header, arrays = header | part, arrays | pictures
        if _marks_key(snapshot) != self._sent_marks_key:
            self._sent_marks_key = _marks_key(snapshot)
            header |= marks_part(snapshot, self._knob_labels) | self._reproduction_texts()
        return header, arrays

    def _reproduction_texts(self) -> dict[str, str]:
        """Return the command that reproduces the run, and training-loop code with its knobs."""
        # Imported late, since it imports PyTorch, and the server starts before that.
        from effcore.runs.reproduce import training_loop_code

        return {
            "command": self.run.reproduction_command(),
            "loop": training_loop_code(self._snapshot),
        }

    def _status_header(self) -> dict[str, Any]:
        return status_with_tiles(self._snapshot, self._description, self._reference_snapshot) | {
            "pace": self.run.pace
        }


def _charts_key(snapshot: Snapshot, reference_snapshot: Snapshot | None) -> tuple[object, ...]:
    """Return the facts that the charts depend on; a change needs a new hello."""
    is_final = None if reference_snapshot is None else reference_snapshot.status.is_final
    return snapshot.reference_id, is_final, snapshot.energy.quality, snapshot.energy.source


def _marks_key(snapshot: Snapshot) -> tuple[int, bool]:
    """Return the facts that the marks depend on; the last one moves once its step is recorded."""
    last_step = snapshot.steps[0, -1] if snapshot.steps.shape[1] else 0.0
    return len(snapshot.changes), bool(snapshot.changes) and snapshot.changes[-1].step > last_step
