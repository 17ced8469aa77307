"""Writer of one run: it queues on the training thread and writes on its own.

A flush follows every half second. A kill at any moment loses at most what was queued since the
last flush.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading

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
from effcore.store.serialization import KnobValues, StoredRecord, encode_record
from effcore.training.checkpoint import Checkpoint, CheckpointError

_LOG = logging.getLogger(__name__)
FLUSH_INTERVAL_S = 0.5  # flush time included, a kill loses less than a second


class RunWriter:
    """Records one run; made by :meth:`effcore.store.Store.create_run`.

    One thread may write while others call :meth:`queue_power_rows`, :meth:`set_status`,
    :meth:`flush` or :meth:`mark_exploratory`. Writing only queues. The writer's own thread flushes
    every half second, so that neither disk nor database delays a training step. If a flush fails,
    rows stay queued, the next :meth:`write_event` raises the error, and the next flush tries again.
    Methods raise :class:`StoreError` if the run is closed or the store cannot be written.

    Args:
        run_id: Id of the run, whose row is in the database already.
        files: The run's files.
        connection: Database connection for this writer alone.
        lock: The run's lock, held.
        store_label: Name of the store in messages.
        resume_checkpoint: Checkpoint that the run continues from. Rows and events after it are
            deleted when the first new event is written, not before.
        progress: Progress of the run when it was last written, from 0 to 1.
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
        self._files, self._connection, self._lock = files, connection, lock
        self._store_label = store_label
        self._status = RunStatus.RUNNING
        self._progress = progress
        self._exploratory: bool | None = None  # None: unchanged
        self._events: dict[str, StoredRecord | KnobValues] = {}
        self._events_before_resume = dict(resume_checkpoint.events) if resume_checkpoint else {}
        self._resume_checkpoint = resume_checkpoint
        self._pending_checkpoint: (
            tuple[Checkpoint, dict[str, int], dict[str, StoredRecord | KnobValues]] | None
        ) = None
        self._changes: list[tuple[str, int, str, float | int]] = []
        self._flushed_row: tuple[RunStatus, float, bool | None] | None = None
        self._flushed_events = dict(self._events)
        self._io_lock = threading.RLock()  # held while flushing or closing
        self._closed = False
        self._flush_failure: StoreError | None = None
        self._stop_flushing = threading.Event()
        self._flush_thread = threading.Thread(
            target=self._flush_regularly, name=f"store-{run_id}", daemon=True
        )
        self._flush_thread.start()

    def write_event(self, event: Event) -> None:
        """Queue an event; it is on disk within a second.

        Only the progress of a :class:`StepEvent` is recorded, and only the latest histogram and
        view. :class:`RunEnd` is recorded by :meth:`finish`, with the energy. After a failed flush
        the event is queued, and the error of the flush is raised.
        """
        if isinstance(event, StepEvent):
            self._progress = event.progress
            return
        self._check_open()
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
        if self._flush_failure is not None:
            raise StoreError(str(self._flush_failure)) from self._flush_failure

    def queue_power_rows(self, rows: FloatArray) -> None:
        """Queue rows of the power table, shape (columns, k), float64.

        Raises:
            ValueError: The number of columns is not that of ``POWER_COLUMNS``.
        """
        self._check_open()
        self._files.queue_rows(POWER_FILE, rows)

    def queue_energy(self, energy: Energy) -> None:
        """Queue the energy so far, which is the stored energy if the run is interrupted."""
        self._check_open()
        self._events["energy"] = energy

    def queue_knob_values(self, knobs: KnobValues) -> None:
        """Queue the current values of all knobs; only the latest are stored."""
        self._check_open()
        self._events["knobs"] = dict(knobs)

    def queue_resume_history(self, resumed: ResumeHistory) -> None:
        """Queue the run's resume history."""
        self._check_open()
        self._events["resumed"] = resumed

    def queue_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Queue the training state as of everything queued before; only the latest is stored."""
        self._check_open()
        self._pending_checkpoint = checkpoint, self._files.file_lengths(), dict(self._events)

    def set_status(self, status: RunStatus) -> None:
        """Record that the run is running or paused, and flush.

        Raises:
            ValueError: The status is final.
        """
        if status.is_final:
            raise ValueError(f"status={status.value!r} is final: end the run with finish()")
        self._check_open()
        self._status = status
        self.flush()

    def mark_exploratory(self) -> None:
        """Record that the run was steered or slowed, so that it cannot be a reference."""
        self._check_open()
        self._exploratory = True

    def flush(self) -> None:
        """Write everything queued to the operating system, where it survives a kill."""
        with self._io_lock:
            self._check_open()
            if self._resume_checkpoint is not None:
                if "start" not in self._events:
                    return  # training has not continued yet
                self._truncate_to_checkpoint(self._resume_checkpoint)
            with translate_storage_errors(self._store_label, f"runs/{self.run_id}"):
                self._files.flush()
            with translate_storage_errors(self._store_label, DATABASE_FILE):
                self._flush_database()
            self._flush_failure = None

    def finish(
        self, end: RunEnd, energy: Energy, attribution: PhaseAttribution | None = None
    ) -> None:
        """Record the run's end and release it; nothing can be written afterwards.

        Raises:
            StoreError: The run is closed or the store cannot be written; the run is released
                nevertheless and shows as interrupted.
            ValueError: The end's status is not final.
        """
        if not end.status.is_final:
            raise ValueError(
                f"end.status={end.status.value!r} is not final: expected finished, stopped, "
                "failed or interrupted"
            )
        self._check_open()
        with self._io_lock:  # one flush writes all of it
            self._events["energy"], self._events["end"] = energy, end
            if attribution is not None:
                self._events["attribution"] = attribution
            self._status = end.status
        self._flush_and_release()
        if self._resume_checkpoint is None:  # otherwise the run failed to resume and keeps it
            with contextlib.suppress(OSError):  # a leftover checkpoint only takes disk space
                delete_checkpoint(self._files.folder)

    def close(self) -> None:
        """Flush and release the run; unless finished, it shows as interrupted.

        Closing again does nothing. A failed flush is logged and not raised, since a run is often
        closed because the store has failed.
        """
        try:
            self._flush_and_release()
        except StoreError as error:
            _LOG.warning("unwritten rows of run %s are lost: %s", self.run_id, error)

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
                self._lock.release()  # last: a free lock means that the run is complete

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"run {self.run_id} is closed and cannot be written: create a new run")

    def _flush_regularly(self) -> None:
        while not self._stop_flushing.wait(FLUSH_INTERVAL_S):
            try:
                self.flush()
                self._save_checkpoint()
            except StoreError as error:
                self._flush_failure = error

    def _save_checkpoint(self) -> None:
        """Write the pending checkpoint; the rows it refers to must be flushed before."""
        pending = self._pending_checkpoint
        if pending is None:
            return
        checkpoint, lengths, events = pending
        texts = self._events_before_resume | {
            kind: encode_record(event) for kind, event in events.items()
        }
        try:
            with translate_storage_errors(self._store_label, f"runs/{self.run_id}"):
                save_checkpoint(self._files.folder, StoredCheckpoint(checkpoint, lengths, texts))
        except CheckpointError as error:
            _LOG.warning("run %s has no checkpoint: %s", self.run_id, error)
        if self._pending_checkpoint is pending:  # otherwise a newer one was queued meanwhile
            self._pending_checkpoint = None

    def _truncate_to_checkpoint(self, resume_checkpoint: StoredCheckpoint) -> None:
        """Delete rows and events after the checkpoint."""
        with translate_storage_errors(self._store_label, f"runs/{self.run_id}"):
            self._files.truncate()
        with (
            translate_storage_errors(self._store_label, DATABASE_FILE),
            transaction(self._connection),
        ):
            self._connection.execute("DELETE FROM events WHERE run_id = ?", (self.run_id,))
            self._connection.executemany(
                "INSERT INTO events VALUES (?, ?, ?)",
                [(self.run_id, kind, text) for kind, text in resume_checkpoint.events.items()],
            )
            self._connection.execute(
                "DELETE FROM changes WHERE run_id = ? AND step >= ?",
                (self.run_id, resume_checkpoint.checkpoint.step),
            )
        self._resume_checkpoint = None

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
                [(self.run_id, kind, encode_record(event)) for kind, event in events.items()],
            )
            self._connection.executemany(
                "INSERT INTO changes (run_id, step, name, value) VALUES (?, ?, ?, ?)", changes
            )
        # Only after the commit: a failed transaction is repeated by the next flush.
        self._flushed_row = row
        self._flushed_events.update(events)
        del self._changes[: len(changes)]
