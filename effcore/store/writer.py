"""The writing side of one run: queue on the training thread, write on another.

A kill at any moment loses at most what was queued since the last flush, half a second
ago, whether or not the trainer has produced anything since.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Mapping

import numpy as np
from filelock import FileLock

from effcore.records import (
    Energy,
    EpochDrawEvent,
    EvalEvent,
    Event,
    FloatArray,
    KnobChange,
    LossHistogram,
    PhaseEvent,
    RunEnd,
    RunStart,
    RunStatus,
    StepBlock,
    StepEvent,
    ViewEvent,
)
from effcore.records.attribution import PhaseAttribution
from effcore.records.epoch_record import EpochRecord
from effcore.records.resume_history import ResumeHistory
from effcore.store.checkpoint_file import StoredCheckpoint, delete_checkpoint, save_checkpoint
from effcore.store.db import DATABASE_FILE, StoreError, transaction, translate_storage_errors
from effcore.store.run_files import EVALS_FILE, PHASES_FILE, POWER_FILE, STEPS_FILE, RunFiles
from effcore.store.serialization import KnobValues, StoredRecord, encode_knob_values, encode_record
from effcore.training.checkpoint import Checkpoint, CheckpointError

_LOG = logging.getLogger(__name__)
FLUSH_INTERVAL_S = 0.5  # with the flush itself, safely below the second that a kill may cost


class RunWriter:
    """Records one run; made by :meth:`effcore.store.Store.create_run`.

    One thread may write while others call :meth:`power_table`, :meth:`status`, :meth:`flush` or
    :meth:`mark_exploratory`. Writing only queues; a thread of the writer's own flushes
    every half second, so that neither disk nor database holds up a training step. Where a
    flush fails, rows stay queued, the next :meth:`write_event` says why, and the next flush
    tries again.

    Args:
        run_id: The run's id; its row is in the database already.
        files: Its raw files.
        connection: A connection of the writer's own.
        lock: Its lock, held.
        store_label: The store, in words, for messages.
        resume_checkpoint: The checkpoint that the run goes on from; what its record holds beyond
            that is dropped with the first event that is written, and not before.
        progress: How far the run was when it was last written.
    """

    def __init__(
        self,
        run_id: str,
        files: RunFiles,
        connection: sqlite3.Connection,
        lock: FileLock,
        store_label: str,
        resume_checkpoint: StoredCheckpoint | None = None,
        progress: float = 0.0,
    ) -> None:
        self.run_id = run_id
        self._files, self._connection, self._lock, self._store_label = (
            files,
            connection,
            lock,
            store_label,
        )
        self._status = RunStatus.RUNNING
        self._progress = progress
        self._exploratory: bool | None = None  # as created
        self._events: dict[str, StoredRecord | KnobValues] = {}
        self._events_before_resume: dict[str, str] = (
            dict(resume_checkpoint.events) if resume_checkpoint else {}
        )
        self._resume_checkpoint = resume_checkpoint
        self._pending_checkpoint: (
            tuple[Checkpoint, dict[str, int], dict[str, StoredRecord | KnobValues]] | None
        ) = None
        self._changes: list[tuple[str, int, str, float | int]] = []
        self._flushed_row: tuple[RunStatus, float, bool | None] | None = None
        self._flushed_events = dict(self._events)
        self._io_lock = threading.RLock()  # held by whoever flushes or closes
        self._closed = False
        self._flush_failure: StoreError | None = None
        self._stop_flushing = threading.Event()
        self._flush_thread = threading.Thread(
            target=self._flush_regularly, name=f"store-{run_id}", daemon=True
        )
        self._flush_thread.start()

    def write_event(self, event: Event) -> None:
        """Queue an event; it is on disk within a second.

        Of a :class:`StepEvent` only the progress is kept, of histograms and views only
        the latest. :class:`RunEnd` is recorded by :meth:`is_final`, with the energy.

        Raises:
            StoreError: The run is closed, or the last flush failed; in the second case
                the event is queued nevertheless.
        """
        if isinstance(event, StepEvent):
            self._progress = event.progress
            return
        self._check_open()
        self._queue_event(event)
        if self._flush_failure is not None:
            raise StoreError(str(self._flush_failure)) from self._flush_failure

    def _queue_event(self, event: Event) -> None:
        if isinstance(event, StepBlock):
            self._files.queue_rows(STEPS_FILE, event.rows)
        elif isinstance(event, EvalEvent):
            self._files.queue_rows(EVALS_FILE, np.array(event, dtype=np.float64)[:, None])
        elif isinstance(event, PhaseEvent):
            row = np.array([event.seconds, *event.spent], dtype=np.float64)
            self._files.queue_rows(PHASES_FILE, row[:, None])
        elif isinstance(event, EpochDrawEvent):
            self._files.queue_decision(event)
        elif isinstance(event, EpochRecord):
            self._files.queue_epoch_record(event)
        elif isinstance(event, ViewEvent):
            self._files.queue_view(event)
        elif isinstance(event, KnobChange):
            self._changes.append((self.run_id, int(event.step), event.name, event.value))
        elif isinstance(event, RunStart):
            self._events["start"] = event
        elif isinstance(event, LossHistogram):
            self._events["histogram"] = event

    def queue_power_rows(self, rows: FloatArray) -> None:
        """Queue rows of the power table, shape (columns, k), float64.

        Raises:
            StoreError: The run is closed.
            ValueError: The number of columns is not that of ``POWER_COLUMNS``.
        """
        self._check_open()
        self._files.queue_rows(POWER_FILE, rows)

    def queue_energy(self, energy: Energy) -> None:
        """Queue the energy so far, which an interrupted run is then known by."""
        self._check_open()
        self._events["energy"] = energy

    def queue_knob_values(self, knobs: KnobValues) -> None:
        """Queue the knob values in force, all of them; the latest are kept."""
        self._check_open()
        self._events["knobs"] = dict(knobs)

    def queue_resume_history(self, resumed: ResumeHistory) -> None:
        """Queue that the run was resumed."""
        self._check_open()
        self._events["resumed"] = resumed

    def queue_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Queue the state of the training after all that was written; the latest is kept."""
        self._check_open()
        self._pending_checkpoint = checkpoint, self._files.file_lengths(), dict(self._events)

    def set_status(self, status: RunStatus) -> None:
        """Record that the run is running or paused, and flush.

        Raises:
            StoreError: The run is closed or the store cannot be written.
            ValueError: The status is final.
        """
        if status.is_final:
            raise ValueError(f"status={status.value!r} is final: end the run with finish()")
        self._check_open()
        self._status = status
        self.flush()

    def mark_exploratory(self) -> None:
        """Record that the run's pace was meddled with; it is then no reference."""
        self._check_open()
        self._exploratory = True

    def flush(self) -> None:
        """Hand everything queued to the operating system; it survives a kill from here on.

        Raises:
            StoreError: The run is closed or the store cannot be written.
        """
        with self._io_lock:
            self._check_open()
            if self._resume_checkpoint is not None and not self._truncate_to_checkpoint(
                self._resume_checkpoint
            ):
                return
            with translate_storage_errors(self._store_label, f"runs/{self.run_id}"):
                self._files.flush()
            with translate_storage_errors(self._store_label, DATABASE_FILE):
                self._flush_database()
            self._flush_failure = None

    def finish(
        self, end: RunEnd, energy: Energy, attribution: PhaseAttribution | None = None
    ) -> None:
        """Record the run's end and release it; nothing can be written after.

        Args:
            end: What it came to.
            energy: Its joules.
            attribution: What they went to, as far as somebody asked.

        Raises:
            StoreError: The run is closed or the store cannot be written; it is then
                released all the same and shows as interrupted.
            ValueError: The end's status is not final.
        """
        if not end.status.is_final:
            raise ValueError(
                f"end.status={end.status.value!r} is not final: expected finished, stopped, "
                "failed or interrupted"
            )
        self._check_open()
        with self._io_lock:  # not half of it in one flush, half in the next
            self._events["energy"], self._events["end"] = energy, end
            if attribution is not None:
                self._events["attribution"] = attribution
            self._status = end.status
        self._flush_and_release()
        if self._resume_checkpoint is None:  # else the run never went on from it
            with contextlib.suppress(OSError):  # one that is left behind takes room, and no more
                delete_checkpoint(self._files.folder)

    def close(self) -> None:
        """Flush and release the run; unless finished, it shows as interrupted.

        Closing twice does nothing. A flush that fails is logged and not raised: closing
        is what one does when the store has failed already.
        """
        try:
            self._flush_and_release()
        except StoreError as error:
            _LOG.warning("what run %s had not written yet is lost: %s", self.run_id, error)

    def _flush_and_release(self) -> None:
        self._stop_flushing.set()
        self._flush_thread.join()
        with self._io_lock:
            if self._closed:
                return
            try:
                self.flush()
                if not self._status.is_final:
                    self._save_checkpoint()
            finally:
                self._closed = True
                self._files.close()
                self._connection.close()
                self._lock.release()  # last: a free lock means that nothing more will come

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"run {self.run_id} is closed: create another run to write more")

    def _flush_regularly(self) -> None:
        while not self._stop_flushing.wait(FLUSH_INTERVAL_S):
            try:
                self.flush()
                self._save_checkpoint()
            except StoreError as error:
                self._flush_failure = error

    def _save_checkpoint(self) -> None:
        """Write the last checkpoint, if it is not written; all it refers to must be."""
        kept = self._pending_checkpoint
        if kept is None:
            return
        checkpoint, lengths, events = kept
        texts = self._events_before_resume | {
            kind: _event_json(event) for kind, event in events.items()
        }
        try:
            with translate_storage_errors(self._store_label, f"runs/{self.run_id}"):
                save_checkpoint(self._files.folder, StoredCheckpoint(checkpoint, lengths, texts))
        except CheckpointError as error:
            _LOG.warning("run %s has no checkpoint: %s", self.run_id, error)
        if self._pending_checkpoint is kept:  # else there is a newer one by now
            self._pending_checkpoint = None

    def _truncate_to_checkpoint(self, resume_checkpoint: StoredCheckpoint) -> bool:
        """Drop what came after the checkpoint, if the run has gone on from it; say so."""
        if "start" not in self._events:
            return False
        with translate_storage_errors(self._store_label, f"runs/{self.run_id}"):
            self._files.truncate()
        with (
            translate_storage_errors(self._store_label, DATABASE_FILE),
            transaction(self._connection),
        ):
            run = (self.run_id,)
            self._connection.execute("DELETE FROM events WHERE run_id = ?", run)
            self._connection.executemany(
                "INSERT INTO events VALUES (?, ?, ?)",
                [(self.run_id, kind, text) for kind, text in resume_checkpoint.events.items()],
            )
            self._connection.execute(
                "DELETE FROM changes WHERE run_id = ? AND step >= ?",
                (self.run_id, resume_checkpoint.checkpoint.step),
            )
        self._resume_checkpoint = None
        return True

    def _flush_database(self) -> None:
        row = (self._status, self._progress, self._exploratory)
        events = {
            kind: event
            for kind, event in dict(self._events).items()
            if self._flushed_events.get(kind) is not event
        }
        changes = self._changes[:]
        if row == self._flushed_row and not events and not changes:
            return
        with transaction(self._connection):
            self._connection.execute(
                "UPDATE runs SET status = ?, progress = ?, exploratory = COALESCE(?, exploratory) "
                "WHERE run_id = ?",
                (*row, self.run_id),
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO events VALUES (?, ?, ?)",
                [(self.run_id, kind, _event_json(event)) for kind, event in events.items()],
            )
            self._connection.executemany(
                "INSERT INTO changes (run_id, step, name, value) VALUES (?, ?, ?, ?)", changes
            )
        # Only now: what a failed transaction undid is sent again.
        self._flushed_row = row
        self._flushed_events.update(events)
        del self._changes[: len(changes)]


def _event_json(event: StoredRecord | KnobValues) -> str:
    return encode_knob_values(event) if isinstance(event, Mapping) else encode_record(event)
