"""Studies in the store: what was planned, and which run is which cell of it.

The runs themselves are runs like any other; a study only points at them.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from effcore.events import RunStatus
from effcore.store.store import Store, new_run_id

_COLUMNS = "study_id, created_unix, key, plan"
_SELECT = f"SELECT {_COLUMNS} FROM studies"
_NEWEST = "ORDER BY created_unix DESC, rowid DESC"


class StoredStudy(NamedTuple):
    """A study as the store has it.

    Attributes:
        study_id: Its id, as of a run.
        created_unix: When it began.
        key: Equal for studies that can be gone on with.
        plan: What it compares, as JSON.
    """

    study_id: str
    created_unix: float
    key: str
    plan: str


class Studies:
    """The studies of a store; any thread may use it.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, key: str) -> StoredStudy | None:
        """Return the newest study with that key.

        Raises:
            StoreError: The database cannot be read.
        """
        rows = self._store.query(f"{_SELECT} WHERE key = ? {_NEWEST} LIMIT 1", key)
        return StoredStudy(*rows[0]) if rows else None

    def all(self) -> list[StoredStudy]:
        """Return all studies, newest first.

        Raises:
            StoreError: The database cannot be read.
        """
        rows = self._store.query(
            f"SELECT {_COLUMNS} FROM studies ORDER BY created_unix DESC, rowid DESC"
        )
        return [StoredStudy(*row) for row in rows]

    def begin(self, key: str, plan: str) -> StoredStudy:
        """Record a new study.

        Raises:
            StoreError: The database cannot be written.
        """
        study = StoredStudy(new_run_id(), time.time(), key, plan)
        self._store.change(f"INSERT INTO studies ({_COLUMNS}) VALUES (?, ?, ?, ?)", *study)
        return study

    def replan(self, study_id: str, plan: str) -> None:
        """Record that seeds joined, or that the margin is another.

        Raises:
            StoreError: The database cannot be written.
        """
        self._store.change("UPDATE studies SET plan = ? WHERE study_id = ?", plan, study_id)

    def get(self, study_id: str) -> StoredStudy | None:
        """Return a study by its id, ``None`` where there is none.

        Raises:
            StoreError: The database cannot be read.
        """
        rows = self._store.query(f"{_SELECT} WHERE study_id = ?", study_id)
        return StoredStudy(*rows[0]) if rows else None

    def cancel(self, study_id: str, *, on: bool = True) -> None:
        """Ask all processes that carry a study out to leave it, or no longer.

        Raises:
            StoreError: The database cannot be written.
        """
        self._store.change("UPDATE studies SET cancelled = ? WHERE study_id = ?", on, study_id)

    def cancelled(self, study_id: str) -> bool:
        """Return whether a study is to be left.

        Raises:
            StoreError: The database cannot be read.
        """
        rows = self._store.query("SELECT cancelled FROM studies WHERE study_id = ?", study_id)
        return bool(rows and rows[0]["cancelled"])

    def note(self, study_id: str, arm: str, seed: int, run_id: str) -> None:
        """Record which run is a cell.

        Raises:
            StoreError: The database cannot be written.
        """
        self._store.change(
            "INSERT OR REPLACE INTO study_runs VALUES (?, ?, ?, ?)", study_id, arm, seed, run_id
        )

    def finished(self, study_id: str) -> dict[tuple[str, int], str]:
        """Return the runs by arm and seed that are in the store and ran to their end.

        Raises:
            StoreError: The database cannot be read.
        """
        rows = self._store.query(
            "SELECT arm, seed, runs.run_id AS run_id FROM study_runs JOIN runs USING (run_id) "
            "WHERE study_id = ? AND status IN (?, ?) AND NOT exploratory",
            study_id,
            RunStatus.FINISHED,
            RunStatus.FAILED,
        )
        return {(row["arm"], int(row["seed"])): row["run_id"] for row in rows}
