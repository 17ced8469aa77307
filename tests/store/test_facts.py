from __future__ import annotations

import os
from pathlib import Path

import pytest

from effcore.store.db import DATABASE_FILE, MIGRATIONS, inspect_store
from tests.store.samples import CONFIG, opened


def contents(home: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in sorted(home.rglob("*"))
        if path.is_file()
    }


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    found = inspect_store(home)
    assert (found.exists, found.runs, found.schema, found.size_bytes) == (False, 0, None, 0)
    assert (found.writable, found.problem) == (True, "")
    assert not home.parent.exists()


def test_runs_size_and_version_are_counted_and_nothing_is_changed(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for _ in range(3):
            store.create_run(CONFIG).close()
    before = contents(tmp_path)
    found = inspect_store(tmp_path)
    assert (found.exists, found.runs, found.schema) == (True, 3, len(MIGRATIONS))
    assert found.size_bytes == sum(len(data) for data in before.values())
    assert contents(tmp_path) == before


def test_a_store_in_use_is_counted_too(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        writer = store.create_run(CONFIG)
        assert inspect_store(tmp_path).runs == 1
        writer.close()


def test_a_damaged_store_says_so_and_names_no_folder(tmp_path: Path) -> None:
    (tmp_path / DATABASE_FILE).write_bytes(b"this is no database" * 100)
    found = inspect_store(tmp_path)
    assert (found.exists, found.runs, found.schema) == (True, None, None)
    assert "is damaged" in found.problem
    assert str(tmp_path) not in found.problem


def test_where_one_may_not_write_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert not inspect_store(tmp_path).writable
    assert not inspect_store(tmp_path / "below").writable
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    assert not inspect_store(blocked / "inside").writable


def test_what_vanishes_while_it_is_counted_counts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stays").write_bytes(b"12345")
    (tmp_path / "goes").write_bytes(b"123")
    lstat = os.lstat

    def gone(path: str) -> os.stat_result:
        if path.endswith("goes"):
            raise FileNotFoundError(path)
        return lstat(path)

    monkeypatch.setattr(os, "lstat", gone)
    assert inspect_store(tmp_path).size_bytes == 5
