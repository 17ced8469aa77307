"""A store of every earlier version opens, keeps its runs, and can do what is new."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from pathlib import Path

import pytest

from effcore.records import Energy, RunEnd
from effcore.store.db import DATABASE_FILE, MIGRATIONS, open_database
from effcore.store.labels import validated_labels
from effcore.store.run_files import RunFiles
from effcore.store.serialization import encode_record
from effcore.store.study_table import StudyTable
from effcore.store.trash import Trash
from tests.store.samples import CONFIG, END, ESTIMATE, block, opened

RUN, STUDY = "20260101-000000-aaaa", "20260102-000000-bbbb"
#: What led from each version to the next when it was released: never to be changed.
RELEASED = (
    "6f75c3e69585050ff1e024cde1d58748419e6fd1f9477f403a70a49a9a997b98",
    "2b81aa2e4fcb308100c20d3acfbf17711972c99fde438169a7d4127f534e014a",
)


def digest(statements: tuple[str, ...]) -> str:
    return hashlib.sha256("\0".join(" ".join(s.split()) for s in statements).encode()).hexdigest()


def made_by(version: int, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a store with a run, as it was in a version, with no help of today's writer."""
    with monkeypatch.context() as patch:
        patch.setattr("effcore.store.db.MIGRATIONS", MIGRATIONS[:version])
        connection = open_database(home, "the store")
    folder = home / "runs" / RUN
    folder.mkdir()
    files = RunFiles(folder)
    files.queue_rows("steps.f64", block(1, 5).rows)
    files.flush()
    files.close()
    row = (RUN, time.time(), encode_record(CONFIG), "finished", 1.0, 0, None, None)
    connection.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    records: tuple[tuple[str, RunEnd | Energy], ...] = (("end", END), ("energy", ESTIMATE))
    for kind, record in records:
        connection.execute(
            "INSERT INTO events VALUES (?, ?, ?)", (RUN, kind, encode_record(record))
        )
    connection.execute("INSERT INTO changes VALUES (1, ?, 3, 'mass', 0.5)", (RUN,))
    if version >= 2:
        study = (STUDY, time.time(), "a key", json.dumps({"arms": []}))
        connection.execute("INSERT INTO studies VALUES (?, ?, ?, ?, 0)", study)
        connection.execute("INSERT INTO study_runs VALUES (?, 'auto', 7, ?)", (STUDY, RUN))
    connection.close()


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_a_store_of_every_earlier_version_keeps_its_runs(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by(version, tmp_path, monkeypatch)
    with opened(tmp_path) as store:
        (listed,) = store.runs()
        assert (listed.run_id, listed.config, listed.end) == (RUN, CONFIG, END)
        assert (listed.labels, listed.imported) == (validated_labels(), False)
        look = store.load_snapshot(RUN)
        assert (look.energy, look.steps_done, len(look.changes)) == (ESTIMATE, 5, 1)
        if version >= 2:
            assert StudyTable(store).study_ids_by_run() == {RUN: [STUDY]}
        store.set_labels(RUN, validated_labels("Old", ["kept"]))
        assert Trash(store).add_runs([RUN]) == {}
        assert store.runs() == []
        Trash(store).restore([RUN])
        assert store.runs()[0].labels.name == "Old"
        assert store.load_snapshot(RUN).end == END
    with sqlite3.connect(tmp_path / DATABASE_FILE) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)
    connection.close()


def test_what_was_released_is_never_changed() -> None:
    assert tuple(digest(each) for each in MIGRATIONS[: len(RELEASED)]) == RELEASED
