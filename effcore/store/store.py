"""Store of runs: recorded during training, and complete up to a second before a kill.

The store is a folder. ``effcore.sqlite`` holds runs, their events and knob changes. Each run has
a folder ``runs/<id>/`` with append-only little-endian arrays for the series, the decisions and
losses of each epoch, the latest view, and a lock that its writer holds. A run is interrupted if
its lock is free and its status is not final, so that no cleanup is needed after a kill.

Layers: ``run_files`` (bytes), ``serialization`` (JSON), ``db`` (SQLite), ``run_records`` (rows to
records), ``writer`` (a run that is being written).
"""

from __future__ import annotations

import functools
import logging
import os
import re
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from effcore.home import default_home
from effcore.records import Energy, FloatArray, RunConfig, RunStart, RunStatus, Snapshot
from effcore.store.checkpoint_file import CHECKPOINT_FILE, StoredCheckpoint, load_checkpoint
from effcore.store.db import (
    DATABASE_FILE,
    DamagedRunError,
    StoreError,
    UnknownRunError,
    connect,
    open_database,
    transaction,
    translate_storage_errors,
)
from effcore.store.labels import Labels, labels_from_row
from effcore.store.run_files import EVALS_FILE, RunFiles, is_run_locked, read_table, try_run_lock
from effcore.store.run_records import (
    INSERT_RUN,
    SELECT_CHANGES,
    SELECT_EVENTS,
    SELECT_REFERENCE,
    SELECT_RUNS,
    RunEvalCurve,
    RunSummary,
    delete_run_rows,
    is_reference_candidate,
    match_reference,
    reference_key,
    snapshot_from_rows,
    summary_from_row,
    translate_damaged_record,
)
from effcore.store.serialization import decode_record, encode_record
from effcore.store.writer import RunWriter
from effcore.training.checkpoint import CheckpointError

_LOG = logging.getLogger(__name__)
_RUN_ID_PATTERN = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-z]{4}")
_RUN_ID_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def new_run_id() -> str:
    """Return an id such as ``20261123-224501-k3f9``: UTC time, then random characters."""
    tail = "".join(secrets.choice(_RUN_ID_ALPHABET) for _ in range(4))
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + tail


def is_run_id(text: str) -> bool:
    """Return whether a text has the form of a run's id."""
    return _RUN_ID_PATTERN.fullmatch(text) is not None


class Store:
    """All runs in one folder, for any number of threads and processes.

    Readers share one connection under a lock; each writer has its own connection, so that a page
    never delays a trainer. Returned records never change.

    All methods raise :class:`StoreError` if the store cannot be read or written. Those for one run
    raise :class:`UnknownRunError` if its id is malformed or there is no such run, and
    :class:`DamagedRunError` if they read its record and it is damaged.

    Args:
        home: The folder, created if missing; by default :func:`~effcore.home.default_home`.

    Raises:
        StoreError: The folder is not writable, or the database is damaged or newer than this
            program. Nothing is changed then.
    """

    def __init__(self, home: Path | None = None) -> None:
        self.home = home or default_home()
        if home is not None:
            self._store_label = f"the store in {home.name!r}"
        elif os.environ.get("EFFCORE_HOME"):
            self._store_label = "the store at EFFCORE_HOME"
        else:
            self._store_label = "the default store (EFFCORE_HOME is not set)"
        self._connection = open_database(self.home, self._store_label)
        self._lock = threading.RLock()
        self._damaged_ids_logged: set[str] = set()

    def create_run(
        self,
        config: RunConfig,
        *,
        run_id: str | None = None,
        exploratory: bool = False,
        reference_id: str | None = None,
        fingerprint: str = "",
    ) -> RunWriter:
        """Record a new run as running and return its writer, which holds its lock.

        Args:
            config: Configuration of the run.
            run_id: An id from :func:`new_run_id`; a new one if not given.
            exploratory: Whether the run is steered or slowed, so that it cannot be a reference.
            reference_id: Id of the dense run to compare with.
            fingerprint: From :func:`effcore.config.model_data_fingerprint`.
        """
        run_id = run_id or new_run_id()
        folder = self._run_folder(run_id)
        row = (run_id, time.time(), encode_record(config), RunStatus.RUNNING, 0.0)
        key = reference_key(config, fingerprint) if is_reference_candidate(config) else None
        with translate_storage_errors(self._store_label, f"runs/{run_id}"), ExitStack() as undo:
            folder.mkdir(parents=True)
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            lock = self._acquire_run_lock(run_id, folder)
            undo.callback(lock.release)
            files = RunFiles(folder)
            undo.callback(files.close)
            with translate_storage_errors(self._store_label, DATABASE_FILE):
                connection = connect(self.home)
                undo.callback(connection.close)
                connection.execute(INSERT_RUN, (*row, exploratory, reference_id, key))
            undo.pop_all()
        return RunWriter(run_id, files, connection, lock, self._store_label)

    def reopen_run(self, run_id: str) -> tuple[RunWriter, StoredCheckpoint]:
        """Return a writer that continues an interrupted run, and the run's last checkpoint.

        The stored run is not changed before the writer gets an event.

        Raises:
            StoreError: The run is live or has ended, or it has no usable checkpoint.
        """
        self._select_run_row(run_id)
        folder = self._run_folder(run_id)
        with translate_storage_errors(self._store_label, f"runs/{run_id}"), ExitStack() as undo:
            lock = self._acquire_run_lock(run_id, folder)
            undo.callback(lock.release)
            row = self._select_run_row(run_id)  # read again, now that the lock is held
            if RunStatus(row["status"]).is_final:
                raise StoreError(
                    f"run {run_id} is {row['status']}: only an interrupted run can be resumed"
                )
            try:
                checkpoint = load_checkpoint(folder)
            except FileNotFoundError:
                raise StoreError(
                    f"run {run_id} has no checkpoint, since it was interrupted before the first "
                    "one: start a new run; the stored part of this one is kept"
                ) from None
            except CheckpointError as error:
                raise StoreError(
                    f"the checkpoint of run {run_id} cannot be used: {error}; start a new run. "
                    "The stored part of this one is kept"
                ) from error
            files = RunFiles(folder, checkpoint.file_lengths)
            undo.callback(files.close)
            with translate_storage_errors(self._store_label, DATABASE_FILE):
                connection = connect(self.home)
            undo.pop_all()
        progress = float(row["progress"])
        writer = RunWriter(run_id, files, connection, lock, self._store_label, checkpoint, progress)
        return writer, checkpoint

    def has_checkpoint(self, run_id: str) -> bool:
        """Return whether the run has a checkpoint, intact or damaged."""
        return (self._run_folder(run_id) / CHECKPOINT_FILE).exists()

    def runs(self, limit: int = 200) -> list[RunSummary]:
        """Return up to ``limit`` runs, newest first; damaged runs are logged and left out."""
        order = "ORDER BY created_unix DESC, runs.rowid DESC LIMIT ?"
        return self._select_summaries(order, limit)

    def unfinished_runs(self) -> list[RunSummary]:
        """Return the running and paused runs of all processes, oldest first."""
        unfinished = (RunStatus.RUNNING, RunStatus.PAUSED)
        runs = self._select_summaries("WHERE status IN (?, ?) ORDER BY created_unix", *unfinished)
        return [run for run in runs if not run.status.is_final]

    def _select_summaries(self, sql_clause: str, *values: Any) -> list[RunSummary]:
        summaries = []
        for row in self.query(f"{SELECT_RUNS} {sql_clause}", *values):
            try:
                summaries.append(self._summary_with_lock_status(row))
            except UnknownRunError:  # deleted since its row was read
                continue
            except DamagedRunError as error:
                if row["run_id"] not in self._damaged_ids_logged:
                    self._damaged_ids_logged.add(row["run_id"])
                    _LOG.warning("left out of the list: %s", error)
        return summaries

    def load_snapshot(self, run_id: str) -> Snapshot:
        """Return the whole record of a run; of a live run, up to its last flush.

        ``knobs`` are the latest recorded values, or the initial ones if none were recorded.
        """
        summary = self.summary(run_id)
        folder = self._run_folder(run_id)
        events = self.query(SELECT_EVENTS, run_id)
        changes = self.query(SELECT_CHANGES, run_id)
        with (
            translate_storage_errors(self._store_label, f"runs/{run_id}"),
            translate_damaged_record(self._store_label, run_id),
        ):
            return snapshot_from_rows(summary, folder, events, changes)

    def check_run_exists(self, run_id: str) -> None:
        """Raise :class:`UnknownRunError` unless the run exists."""
        self._select_run_row(run_id)

    def summary(self, run_id: str) -> RunSummary:
        """Return the list entry of a run."""
        return self._summary_with_lock_status(self._select_run_row(run_id))

    def find_reference(self, config: RunConfig, fingerprint: str = "") -> str | None:
        """Return the newest finished dense run that ``config`` can be compared with.

        The reference has the same task, data, model and size, epochs, batch size, learning rate,
        clipping, seed, device, optimizer, precision and threads. It trained to its end, and was
        neither steered nor slowed.
        """
        rows = self.query(SELECT_REFERENCE, reference_key(config, fingerprint), RunStatus.FINISHED)
        return rows[0]["run_id"] if rows else None

    def references_of(self, runs: Iterable[RunSummary]) -> dict[str, RunSummary]:
        """Return the finished reference of each run that has one, by the run's id.

        It is the one the run was started beside, else the newest full training of the same
        seed and settings, so that a reference trained later counts too.
        """
        listed = self._select_summaries(
            "WHERE reference_key IS NOT NULL AND status = ? AND NOT exploratory "
            "ORDER BY created_unix DESC, runs.rowid DESC",
            RunStatus.FINISHED,
        )
        by_id = {run.run_id: run for run in listed}
        runs = list(runs)
        for reference_id in {run.reference_id for run in runs} - {None, *by_id}:
            clause = "WHERE run_id = ? AND status = ?"
            for summary in self._select_summaries(clause, reference_id, RunStatus.FINISHED):
                by_id[summary.run_id] = summary
        references: dict[str, RunSummary] = {}
        for run in runs:
            reference = by_id.get(run.reference_id or "") or match_reference(run, listed)
            if reference is not None:
                references[run.run_id] = reference
        return references

    def read_evals(self, run_id: str) -> FloatArray | None:
        """Return a run's evaluations, shape (columns, n); ``None`` where they cannot be read.

        Only the small file of evaluations is read, and it is cached until it grows.
        """
        folder = self._run_folder(run_id)
        try:
            return _read_evals_of_size(folder, (folder / EVALS_FILE).stat().st_size)
        except OSError:
            return None

    def read_eval_curve(self, run_id: str) -> RunEvalCurve | None:
        """Return a run's evaluations and epoch length; ``None`` where they cannot be read."""
        evals = self.read_evals(run_id)
        if evals is None:
            return None
        try:
            rows = self.query("SELECT data FROM events WHERE run_id = ? AND kind = 'start'", run_id)
            n_train = decode_record(RunStart, rows[0]["data"]).n_train if rows else None
        except (StoreError, ValueError):
            n_train = None
        return RunEvalCurve(evals, n_train)

    def replace_energy(self, run_id: str, energy: Energy) -> None:
        """Replace the stored energy of a run that has ended; do nothing if the run was deleted."""
        self.execute_write(
            "UPDATE events SET data = ? WHERE run_id = ? AND kind = 'energy'",
            encode_record(energy),
            run_id,
        )

    def all_labels(self) -> dict[str, Labels]:
        """Return all labels by the id of the run or study."""
        rows = self.query("SELECT id, name, tags, note FROM labels")
        return {row["id"]: labels_from_row(row) for row in rows}

    def set_labels(self, owner_id: str, labels: Labels) -> None:
        """Replace the labels of a run or a study; do nothing if it was deleted.

        Args:
            owner_id: Id of the run or study.
            labels: From :func:`effcore.store.labels.validated_labels`.
        """
        self.execute_write(
            "INSERT OR REPLACE INTO labels SELECT ?, ?, ?, ? WHERE EXISTS "
            "(SELECT 1 FROM runs WHERE run_id = ? UNION SELECT 1 FROM studies WHERE study_id = ?)",
            *(owner_id, labels.name, "\n".join(labels.tags), labels.note, owner_id, owner_id),
        )

    def delete_run(self, run_id: str) -> None:
        """Delete a run and its files permanently; runs that refer to it keep its id.

        Raises:
            StoreError: The run is live, or the store cannot be written.
        """
        self._select_run_row(run_id)
        with self.lock_run_folder(run_id):
            pass  # it is not being written
        # The row first: a failure then only leaves files that no list shows.
        with self.write_transaction() as connection:
            delete_run_rows(connection, run_id)
            connection.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
        self.delete_run_folder(run_id)

    def delete_run_folder(self, run_id: str) -> None:
        """Delete the files of a run that is not being written; for this package."""
        with self.lock_run_folder(run_id) as folder:
            pass  # Windows cannot delete a held lock
        with translate_storage_errors(self._store_label, f"runs/{run_id}"):
            if folder.exists():
                shutil.rmtree(folder)

    def close(self) -> None:
        """Close the readers' connection; writers stay open until they are closed."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def lock_run_folder(self, run_id: str) -> Iterator[Path]:
        """Hold a run's lock during the block and yield its folder; for this package.

        Raises:
            StoreError: The run is live, or its files cannot be opened.
        """
        folder = self._run_folder(run_id)
        with translate_storage_errors(self._store_label, f"runs/{run_id}"), ExitStack() as undo:
            if folder.exists():
                undo.callback(self._acquire_run_lock(run_id, folder).release)
            yield folder

    def query(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Return the rows of a SELECT statement; for this package."""
        with translate_storage_errors(self._store_label, DATABASE_FILE), self._lock:
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def write_transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block in one write transaction; for this package."""
        with (
            translate_storage_errors(self._store_label, DATABASE_FILE),
            self._lock,
            transaction(self._connection),
        ):
            yield self._connection

    def execute_write(self, sql: str, *values: Any) -> None:
        """Run one write statement; for this package."""
        with self.write_transaction() as connection:
            connection.execute(sql, values)

    def _run_folder(self, run_id: str) -> Path:
        if not is_run_id(run_id):
            raise UnknownRunError(
                f"run_id={run_id!r} is not a run's id: expected one like "
                "20261123-224501-k3f9; copy it from the list of runs"
            )
        return self.home / "runs" / run_id

    def _acquire_run_lock(self, run_id: str, folder: Path) -> FileLock:
        lock = try_run_lock(folder)
        if lock is None:
            raise StoreError(f"run {run_id} of {self._store_label} is live: stop it first")
        return lock

    def _select_run_row(self, run_id: str) -> sqlite3.Row:
        self._run_folder(run_id)  # refuses a malformed id
        rows = self.query(f"{SELECT_RUNS} WHERE run_id = ?", run_id)
        if not rows:
            raise UnknownRunError(
                f"unknown run {run_id!r} in {self._store_label}: it may have been deleted; choose "
                "one from the list of runs"
            )
        return rows[0]

    def _summary_with_lock_status(self, row: sqlite3.Row) -> RunSummary:
        run_id = str(row["run_id"])
        with translate_damaged_record(self._store_label, run_id):
            if not is_run_id(run_id):
                raise ValueError("its id is not a run's id")
            status = RunStatus(row["status"])
            if not status.is_final and not is_run_locked(self._run_folder(run_id)):
                # It may have finished since its row was read. With a free lock the status is final.
                row = self._select_run_row(run_id)
                status = RunStatus(row["status"])
                status = status if status.is_final else RunStatus.INTERRUPTED
            return summary_from_row(row, status)


@functools.lru_cache(maxsize=4096)
def _read_evals_of_size(folder: Path, size: int) -> FloatArray:
    """Read the evaluations; the size is part of the cache key, since rows are only appended."""
    return read_table(folder, EVALS_FILE)
