"""The store's database: opening and migrating it, and saying clearly what went wrong.

A database that cannot be read is never repaired, emptied or replaced: the error says what
to move aside, and the bytes stay as they were.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

DATABASE_FILE = "effcore.sqlite"
_BUSY_TIMEOUT_S = 5.0  # how long a transaction waits for another process's to end
_OPEN_TIMEOUT_S = 10.0  # how long opening waits for another process to finish migrating

#: Statements that lead from each version of the database to the next; only ever appended.
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
        # resumed, end. Versions that do not know a kind leave it alone: one more is no migration.
        """CREATE TABLE events (
            run_id TEXT NOT NULL,
            kind TEXT NOT NULL,
            data TEXT NOT NULL,
            PRIMARY KEY (run_id, kind)
        ) WITHOUT ROWID""",
        # The value has no declared type, so that whole numbers come back as such.
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
        # What people say of a run or a study; tags are lines of one text.
        """CREATE TABLE labels (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            tags TEXT NOT NULL,
            note TEXT NOT NULL
        ) WITHOUT ROWID""",
        # What was deleted and can be restored: its row of `runs` or `studies`, as JSON by
        # column, so that whatever reads those tables knows nothing of it.
        """CREATE TABLE trash (
            id TEXT PRIMARY KEY,
            kind TEXT NOT NULL,
            deleted_unix REAL NOT NULL,
            data TEXT NOT NULL
        ) WITHOUT ROWID""",
        # Runs that came out of a bundle.
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
    "nothing in it was changed",
)
_IO_FAILED = (
    "could not be read or written",
    "check the disk or set EFFCORE_HOME to another folder",
)
_MISSING = ("is missing", "restore it from a copy; other runs are not affected")
_EXISTS = ("is already there", "choose another name or set EFFCORE_HOME to another folder")

_PROBLEM_BY_SQLITE_CODE = {
    "CANTOPEN": _UNWRITABLE,
    "READONLY": _UNWRITABLE,
    "PERM": _UNWRITABLE,
    "FULL": _FULL,
    "BUSY": _IN_USE,
    "LOCKED": _IN_USE,
    "CONSTRAINT": ("has this run already", "use another run id"),
    "NOTADB": _DAMAGED,
    "CORRUPT": _DAMAGED,
    "ERROR": _DAMAGED,  # a table or column that should be there is not
}


class StoreError(RuntimeError):
    """The store cannot do what was asked; the message says why and what to do."""


class UnknownRunError(StoreError):
    """There is no run with that id."""


class DamagedRunError(StoreError):
    """One run's record cannot be read; the others are not affected."""


@contextmanager
def translate_storage_errors(store_label: str, relative_path: str) -> Iterator[None]:
    """Turn database and file errors of the block into :class:`StoreError`.

    Args:
        store_label: The store, in words; messages name no folder the user did not configure.
        relative_path: What is being touched, as a path relative to the store.

    Raises:
        StoreError: The block raised ``sqlite3.Error`` or ``OSError``.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "")
        what, remedy = _PROBLEM_BY_SQLITE_CODE.get(
            code.removeprefix("SQLITE_").split("_")[0], _IO_FAILED
        )
        raise StoreError(f"{relative_path} of {store_label} {what} ({error}): {remedy}") from error
    except OSError as error:
        what, remedy = _problem_and_remedy(error)
        # Not str(error), which would spell out an absolute path.
        detail = error.strerror or type(error).__name__
        raise StoreError(f"{relative_path} of {store_label} {what} ({detail}): {remedy}") from error


def _problem_and_remedy(error: OSError) -> tuple[str, str]:
    if isinstance(error, TimeoutError):
        return _IN_USE
    if isinstance(error, FileNotFoundError):
        return _MISSING
    if isinstance(error, FileExistsError):
        return _EXISTS
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return _FULL
    return _UNWRITABLE if isinstance(error, PermissionError | NotADirectoryError) else _IO_FAILED


def connect(home: Path) -> sqlite3.Connection:
    """Open a connection that any thread may use, one at a time, in autocommit mode.

    A commit reaches the operating system's cache, which outlives a killed process; it is
    synchronised to the disk only at checkpoints, so that a commit costs microseconds.
    """
    connection = sqlite3.connect(
        home / DATABASE_FILE, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.row_factory = sqlite3.Row
        # A damaged text is then a damaged run's, and not the end of the whole query.
        connection.text_factory = lambda data: data.decode(errors="replace")
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block as one write transaction, undone if it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has already rolled back on some errors
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
        except FileNotFoundError as error:  # nothing that was there is missing: it cannot be made
            raise PermissionError(error.errno, error.strerror) from error
    # Two processes may start at once: switching to WAL needs the database to oneself.
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
            f"{DATABASE_FILE} of {store_label} has version {version}, and this Effcore reads "
            "versions up "
            f"to {len(MIGRATIONS)}: update Effcore, or set EFFCORE_HOME to another folder"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    if version < len(MIGRATIONS):
        with transaction(connection):
            for statements in MIGRATIONS[version:]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    connection.execute("SELECT 1 FROM runs, events, changes LIMIT 1")  # find damage now
