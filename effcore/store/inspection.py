"""What there is of a store, looked at without making, migrating or changing anything."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from effcore.store.db import DATABASE_FILE, StoreError, translate_storage_errors


class StoreFacts(NamedTuple):
    """A store from the outside.

    Attributes:
        exists: Whether there is a database.
        runs: Runs in it; ``None`` where that cannot be read.
        schema: Version of its database; ``None`` where that cannot be read.
        size_bytes: Size of all its files.
        writable: Whether this process may write there, or make it.
        problem: Why something could not be read; empty where nothing was in the way.
    """

    exists: bool
    runs: int | None
    schema: int | None
    size_bytes: int
    writable: bool
    problem: str


def inspect_store(home: Path) -> StoreFacts:
    """Return what there is in a folder; never raises for what it finds.

    Args:
        home: The store's folder, which need not exist.
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
    # Without a log the database is nobody's at the moment; to open it as usual, even for
    # reading alone, would leave a log behind.
    used = database.with_name(f"{database.name}-wal").exists()
    uri = f"{database.resolve().as_uri()}?{'mode=ro' if used else 'immutable=1'}"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        schema = connection.execute("PRAGMA user_version").fetchone()[0]
        runs = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
    return int(runs), int(schema)


def _total_size_bytes(home: Path) -> int:
    """Return the bytes of all files; what is deleted meanwhile counts nothing."""
    total = 0
    for folder, _, names in os.walk(home):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    return total


def _is_writable(home: Path) -> bool:
    there = next((folder for folder in (home, *home.parents) if folder.exists()), None)
    return there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)
