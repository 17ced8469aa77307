"""SQLite database of the store: opening, migration, inspection, errors with a remedy.

A damaged database is never repaired, emptied or replaced. The error says which file to move
aside, and the file is not changed.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

DATABASE_FILE = "effcore.sqlite"
_BUSY_TIMEOUT_S = 5.0  # how long a transaction waits for one of another process
_OPEN_TIMEOUT_S = 10.0  # how long opening waits for another process to migrate

#: Migrations: the statements from each schema version to the next. Never change one, append.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE runs (
            run_id TEXT PRIMARY KEY,
            created_unix REAL NOT NULL,
            config TEXT NOT NULL,
            status TEXT NOT NULL,
            progress REAL NOT NULL DEFAULT 0,
            exploratory INTEGER NOT NULL,
            reference_id TEXT,
            reference_key TEXT
        )""",
        "CREATE INDEX runs_by_time ON runs (created_unix)",
        "CREATE INDEX runs_by_reference_key ON runs (reference_key)",
        # The latest event of each kind as JSON: start, histogram, knobs, energy, attribution,
        # resumed, end. Versions that do not know a kind ignore it: a new kind needs no migration.
        """CREATE TABLE events (
            run_id TEXT NOT NULL,
            kind TEXT NOT NULL,
            data TEXT NOT NULL,
            PRIMARY KEY (run_id, kind)
        ) WITHOUT ROWID""",
        # The value has no declared type, so that integers are read back as integers.
        """CREATE TABLE changes (
            position INTEGER PRIMARY KEY,
            run_id TEXT NOT NULL,
            step INTEGER NOT NULL,
            name TEXT NOT NULL,
            value NOT NULL
        )""",
        "CREATE INDEX changes_by_run ON changes (run_id)",
    ),
    (
        """CREATE TABLE studies (
            study_id TEXT PRIMARY KEY,
            created_unix REAL NOT NULL,
            key TEXT NOT NULL,
            plan TEXT NOT NULL,
            cancelled INTEGER NOT NULL DEFAULT 0
        )""",
        "CREATE INDEX studies_by_key ON studies (key)",
        """CREATE TABLE study_runs (
            study_id TEXT NOT NULL,
            arm TEXT NOT NULL,
            seed INTEGER NOT NULL,
            run_id TEXT NOT NULL,
            PRIMARY KEY (study_id, arm, seed)
        ) WITHOUT ROWID""",
    ),
    (
        # Name, tags and note of a run or a study; the tags are lines of one text.
        """CREATE TABLE labels (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            tags TEXT NOT NULL,
            note TEXT NOT NULL
        ) WITHOUT ROWID""",
        # Deleted items that can be restored: the row of `runs` or `studies` as JSON by column,
        # so that queries of those tables do not see it.
        """CREATE TABLE trash (
            id TEXT PRIMARY KEY,
            kind TEXT NOT NULL,
            deleted_unix REAL NOT NULL,
            data TEXT NOT NULL
        ) WITHOUT ROWID""",
        # Runs imported from bundles.
        """CREATE TABLE imports (
            id TEXT PRIMARY KEY,
            imported_unix REAL NOT NULL
        ) WITHOUT ROWID""",
    ),
)

_UNWRITABLE = ("cannot be opened for writing", "set EFFCORE_HOME to a writable folder")
_FULL = ("cannot grow because the disk is full", "free some space and try again")
_IN_USE = ("is in use by another process", "close that process or try again")
_DAMAGED = (
    "is damaged",
    f"move {DATABASE_FILE} (with its -wal and -shm files) aside to start a new one; "
    "the damaged one was not changed",
)
_IO_FAILED = (
    "could not be read or written",
    "check the disk or set EFFCORE_HOME to another folder",
)
_MISSING = ("is missing", "restore it from a copy; other runs are not affected")
_EXISTS = ("exists already", "choose another name or set EFFCORE_HOME to another folder")

_PROBLEM_BY_SQLITE_CODE = {
    "CANTOPEN": _UNWRITABLE,
    "READONLY": _UNWRITABLE,
    "PERM": _UNWRITABLE,
    "FULL": _FULL,
    "BUSY": _IN_USE,
    "LOCKED": _IN_USE,
    "CONSTRAINT": ("has a run with this id already", "use another run id"),
    "NOTADB": _DAMAGED,
    "CORRUPT": _DAMAGED,
    "ERROR": _DAMAGED,  # a table or column is missing
}


class StoreError(RuntimeError):
    """A store operation failed; the message says why and what to do."""


class UnknownRunError(StoreError):
    """The store has no run with that id."""


class DamagedRunError(StoreError):
    """The record of one run is damaged; other runs are not affected."""


@contextmanager
def translate_storage_errors(store_label: str, relative_path: str) -> Iterator[None]:
    """Turn database and file errors of the block into :class:`StoreError`.

    Args:
        store_label: Name of the store in messages, without a path that the user did not set.
        relative_path: The file or folder in use, relative to the store.

    Raises:
        StoreError: The block raised ``sqlite3.Error`` or ``OSError``.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "")
        problem, remedy = _PROBLEM_BY_SQLITE_CODE.get(
            code.removeprefix("SQLITE_").split("_")[0], _IO_FAILED
        )
        raise StoreError(
            f"{relative_path} of {store_label} {problem} ({error}): {remedy}"
        ) from error
    except OSError as error:
        problem, remedy = _IO_FAILED
        if isinstance(error, TimeoutError):
            problem, remedy = _IN_USE
        elif isinstance(error, FileNotFoundError):
            problem, remedy = _MISSING
        elif isinstance(error, FileExistsError):
            problem, remedy = _EXISTS
        elif error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            problem, remedy = _FULL
        elif isinstance(error, PermissionError | NotADirectoryError):
            problem, remedy = _UNWRITABLE
        # Not str(error), which holds an absolute path.
        detail = error.strerror or type(error).__name__
        raise StoreError(
            f"{relative_path} of {store_label} {problem} ({detail}): {remedy}"
        ) from error


def connect(home: Path) -> sqlite3.Connection:
    """Open a connection in autocommit mode, which threads may use one at a time.

    A commit reaches the operating system's cache, which survives a killed process. It is
    synchronised to the disk only at WAL checkpoints, so that it takes microseconds.
    """
    connection = sqlite3.connect(
        home / DATABASE_FILE, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.row_factory = sqlite3.Row
        # So that invalid UTF-8 damages one run and does not fail the whole query.
        connection.text_factory = lambda data: data.decode(errors="replace")
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block as one write transaction, rolled back if it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors make SQLite roll back by itself
            connection.execute("ROLLBACK")
        raise


def open_database(home: Path, store_label: str) -> sqlite3.Connection:
    """Create or migrate the database in ``home`` and return a connection to it.

    Raises:
        StoreError: The folder is not writable, the database is damaged, or it was
            written by a newer version.
    """
    with translate_storage_errors(store_label, "the folder"):
        try:
            (home / "runs").mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # no file is missing: the folder cannot be created
            raise PermissionError(error.errno, error.strerror) from error
    # Two processes may start at once, and switching to WAL needs exclusive access.
    with (
        translate_storage_errors(store_label, DATABASE_FILE),
        FileLock(home / "effcore.lock", timeout=_OPEN_TIMEOUT_S),
    ):
        connection = connect(home)
        try:
            _migrate(connection, store_label)
        except BaseException:
            connection.close()
            raise
        return connection


def _migrate(connection: sqlite3.Connection, store_label: str) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{DATABASE_FILE} of {store_label} has version {version}, but this Effcore reads "
            f"versions up to {len(MIGRATIONS)}: update Effcore, or set EFFCORE_HOME to another "
            "folder"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    if version < len(MIGRATIONS):
        with transaction(connection):
            for statements in MIGRATIONS[version:]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    connection.execute("SELECT 1 FROM runs, events, changes LIMIT 1")  # detects damage early


class StoreFacts(NamedTuple):
    """State of a store."""

    exists: bool  # there is a database
    runs: int | None  # number of runs; None if the database cannot be read
    schema: int | None  # schema version; None if the database cannot be read
    size_bytes: int  # of all files
    writable: bool  # this process may write to the folder, or create it
    problem: str  # why the database could not be read; empty if it could


def inspect_store(home: Path) -> StoreFacts:
    """Return the state of the store in a folder, which may be missing; change nothing.

    A damaged store raises nothing.
    """
    database, runs, schema, problem = home / DATABASE_FILE, None, None, ""
    exists = database.is_file()
    if exists:
        # Opening a database in WAL mode creates a log, even for reading. Without a log no process
        # has it open, so that it can be opened as immutable.
        in_use = database.with_name(f"{DATABASE_FILE}-wal").exists()
        uri = f"{database.resolve().as_uri()}?{'mode=ro' if in_use else 'immutable=1'}"
        try:
            with (
                translate_storage_errors("the store", DATABASE_FILE),
                closing(sqlite3.connect(uri, uri=True)) as connection,
            ):
                version = int(connection.execute("PRAGMA user_version").fetchone()[0])
                runs = int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])
                schema = version
        except StoreError as error:
            problem = str(error)
    else:
        runs = 0
    size_bytes = 0
    for folder, _, names in os.walk(home):
        for name in names:
            with suppress(OSError):  # the file was deleted meanwhile
                size_bytes += os.lstat(os.path.join(folder, name)).st_size
    existing = next(folder for folder in (home, *home.parents, Path("/")) if folder.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return StoreFacts(exists, runs, schema, size_bytes, writable, problem)
