from __future__ import annotations

import errno
import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from effcore.store.db import (
    DATABASE_FILE,
    MIGRATIONS,
    StoreError,
    connect,
    open_database,
    transaction,
    translate_storage_errors,
)

ENOSPC = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/secret/place")


def make(home: Path) -> None:
    open_database(home, "the store").close()


def test_a_new_database_has_the_newest_version_and_wal(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "new" / "home", "the store")
    assert connection.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    connection.close()


def test_opening_migrates_from_the_version_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    step = ("ALTER TABLE runs ADD COLUMN note TEXT",)
    monkeypatch.setattr("effcore.store.db.MIGRATIONS", (*MIGRATIONS, step))
    for _ in range(2):  # the second finds nothing left to do
        connection = open_database(tmp_path, "the store")
        assert connection.execute("SELECT note FROM runs").fetchall() == []
        connection.close()


def test_a_migration_that_fails_leaves_the_old_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    steps = ("ALTER TABLE runs ADD COLUMN note TEXT", "DROP TABLE absent")
    with monkeypatch.context() as patch:
        patch.setattr("effcore.store.db.MIGRATIONS", (*MIGRATIONS, steps))
        with pytest.raises(StoreError, match="no such table: absent"):
            open_database(tmp_path, "the store")
    connection = open_database(tmp_path, "the store")
    columns = [row["name"] for row in connection.execute("PRAGMA table_info(runs)")]
    assert "note" not in columns
    connection.close()


def test_many_may_open_a_new_store_at_once(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def open_together() -> int:
        barrier.wait(10)
        connection = open_database(tmp_path, "the store")
        count: int = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
        connection.close()
        return count

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(open_together) for _ in range(8)]
        assert [future.result() for future in futures] == [0] * 8


def test_a_newer_database_is_refused_and_left(tmp_path: Path) -> None:
    make(tmp_path)
    with sqlite3.connect(tmp_path / DATABASE_FILE) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = (tmp_path / DATABASE_FILE).read_bytes()
    newest = f"has version 99.*up to {len(MIGRATIONS)}: update Effcore"
    with pytest.raises(StoreError, match=newest):
        open_database(tmp_path, "the store")
    assert (tmp_path / DATABASE_FILE).read_bytes() == before


@pytest.mark.parametrize("keep", [0, 100])  # with and without SQLite's own header
def test_a_damaged_database_is_refused_and_left(tmp_path: Path, keep: int) -> None:
    make(tmp_path)
    path = tmp_path / DATABASE_FILE
    raw = path.read_bytes()
    damaged = raw[:keep] + b"\xa5" * (len(raw) - keep)
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"is damaged .*: move effcore.sqlite .* aside"):
        open_database(tmp_path, "the store")
    assert path.read_bytes() == damaged


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / DATABASE_FILE)
    connection.execute("CREATE TABLE other (x)")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    connection.close()
    with pytest.raises(StoreError, match="is damaged .no such table: runs"):
        open_database(tmp_path, "the store")


def test_a_home_that_is_a_file_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(StoreError, match="set EFFCORE_HOME to a writable folder") as caught:
        open_database(tmp_path / "home", "the store")
    assert str(tmp_path) not in str(caught.value)


def test_a_database_that_cannot_be_opened_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / DATABASE_FILE).mkdir()
    with pytest.raises(StoreError, match="effcore.sqlite of the store cannot be opened"):
        open_database(tmp_path, "the store")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ENOSPC, r"disk is full \(No space left on device\): free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "/secret/place"), "writable folder"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/secret/place"), "is missing"),
        (FileExistsError(errno.EEXIST, "File exists", "/secret/place"), "exists already"),
        (TimeoutError("/secret/place"), "in use by another process"),
        (OSError(errno.EIO, "Input/output error", "/secret/place"), "check the disk"),
        (sqlite3.ProgrammingError("Cannot operate on a closed database."), "closed database"),
    ],
)
def test_errors_name_the_remedy_and_no_path(error: Exception, expected: str) -> None:
    with (
        pytest.raises(StoreError, match=f"runs/x of the store .*{expected}") as caught,
        translate_storage_errors("the store", "runs/x"),
    ):
        raise error
    assert "/secret" not in str(caught.value)
    assert caught.value.__cause__ is error


def test_a_locked_database_says_who_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    monkeypatch.setattr("effcore.store.db._BUSY_TIMEOUT_S", 0.0)
    first, second = connect(tmp_path), connect(tmp_path)
    with (
        transaction(first),
        pytest.raises(StoreError, match="in use by another process"),
        translate_storage_errors("the store", DATABASE_FILE),
        transaction(second),
    ):
        pytest.fail("two writers at once")
    first.close()
    second.close()


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    make(tmp_path)
    connection = connect(tmp_path)
    insert = "INSERT INTO changes VALUES (?, 'r', 2, 'mass', 0.5)"
    with pytest.raises(sqlite3.IntegrityError), transaction(connection):
        connection.executemany(insert, [(1,), (1,)])  # the second is refused
    assert connection.execute("SELECT * FROM changes").fetchall() == []
    connection.close()
