"""Read-only inspection of a store: nothing is created, migrated or changed."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from effcore.store.db import DATABASE_FILE, StoreError, translate_storage_errors


class StoreFacts(NamedTuple):
    """State of a store.

    Attributes:
        exists: Whether there is a database.
        runs: Number of runs; ``None`` if the database cannot be read.
        schema: Schema version; ``None`` if the database cannot be read.
        size_bytes: Size of all files.
        writable: Whether this process may write to the folder, or create it.
        problem: Why the database could not be read; empty if it could.
    """

    exists: bool
    runs: int | None
    schema: int | None
    size_bytes: int
    writable: bool
    problem: str


def inspect_store(home: Path) -> StoreFacts:
    """Return the state of the store in a folder; a damaged store raises nothing.

    Args:
        home: The store's folder, which may be missing.
    """
    exists, writable = (home / DATABASE_FILE).is_file(), _is_writable(home)
    if not exists:
        return StoreFacts(False, 0, None, _total_size_bytes(home), writable, "")
    try:
        with translate_storage_errors("the store", DATABASE_FILE):
            runs, schema = _run_count_and_schema(home / DATABASE_FILE)
    except StoreError as error:
        return StoreFacts(True, None, None, _total_size_bytes(home), writable, str(error))
    return StoreFacts(True, runs, schema, _total_size_bytes(home), writable, "")


def _run_count_and_schema(database: Path) -> tuple[int, int]:
    # Opening a database in WAL mode creates a log, even for reading. Without a log no process has
    # it open, so that it can be opened as immutable.
    in_use = database.with_name(f"{database.name}-wal").exists()
    uri = f"{database.resolve().as_uri()}?{'mode=ro' if in_use else 'immutable=1'}"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        schema = connection.execute("PRAGMA user_version").fetchone()[0]
        runs = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
    return int(runs), int(schema)


def _total_size_bytes(home: Path) -> int:
    """Return the size of all files, without those deleted meanwhile."""
    total = 0
    for folder, _, names in os.walk(home):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    return total


def _is_writable(home: Path) -> bool:
    existing = next((folder for folder in (home, *home.parents) if folder.exists()), None)
    return existing is not None and existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
