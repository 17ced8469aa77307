"""Studies in the store: what was planned, and which run is which cell of it.

The runs themselves are runs like any other; a study only points at them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from filelock import FileLock, Timeout

from effcore.records import RunStatus
from effcore.store.db import StoreError
from effcore.store.store import Store, new_run_id

_STUDY_COLUMNS = "study_id, created_unix, key, plan"
#: What the keys of sweeps begin with, which are studies of another kind.
SWEEP_KEY_PREFIX = "sweep:"
#: How long somebody who only asks waits for a study's lock, s.
_LOCK_TIMEOUT_S = 0.01
_ORDER_NEWEST_FIRST = "ORDER BY created_unix DESC, rowid DESC"


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


class StoredStudyRun(NamedTuple):
    """A run of a study: its id, and its configuration as the store has it."""

    run_id: str
    config: str


def study_in_use_error(study_id: str) -> StoreError:
    """Return that another process has a study."""
    return StoreError(
        f"study {study_id} is carried out by another process: wait for its end, or cancel it "
        "there; what it has done stays"
    )


class StudyTable:
    """The studies of a store; any thread may use it.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def list_studies(self, *, sweeps: bool = False) -> list[StoredStudy]:
        """Return all studies that compare, newest first; or all sweeps.

        Raises:
            StoreError: The database cannot be read.
        """
        rows = self._store.query(f"SELECT {_STUDY_COLUMNS} FROM studies {_ORDER_NEWEST_FIRST}")
        return [
            s for row in rows if (s := StoredStudy(*row)).key.startswith(SWEEP_KEY_PREFIX) is sweeps
        ]

    def open_or_create(self, key: str, make_plan: Callable[[str | None], str]) -> StoredStudy:
        """Return the study of a key, begun where there is none; its cancellation is over.

        Args:
            key: Equal for studies that can be gone on with.
            make_plan: Makes the new plan of the one that is there, if there is one; another
                process sees neither half of it.

        Raises:
            StoreError: The database cannot be read or written, or a process carries the study
                out: what it was asked for is not changed under its feet.
        """
        with self._store.write_transaction() as connection:
            row = connection.execute(
                f"SELECT {_STUDY_COLUMNS} FROM studies WHERE key = ? {_ORDER_NEWEST_FIRST} LIMIT 1",
                (key,),
            ).fetchone()
            known = StoredStudy(*row) if row else None
            if known is not None and self.is_running(known.study_id):
                raise study_in_use_error(known.study_id)
            text = make_plan(known.plan if known else None)
            if known is None:
                study = StoredStudy(new_run_id(), time.time(), key, text)
                marks = ", ".join("?" * len(study))
                connection.execute(
                    f"INSERT INTO studies ({_STUDY_COLUMNS}) VALUES ({marks})", study
                )
                return study
            connection.execute(
                "UPDATE studies SET plan = ?, cancelled = 0 WHERE study_id = ?",
                (text, known.study_id),
            )
            return known._replace(plan=text)

    def has_recorded_runs(self, key: str) -> bool:
        """Return whether a run of a study of this key ever ended, deleted ones included.

        Raises:
            StoreError: The database cannot be read.
        """
        asked = "SELECT 1 FROM study_runs JOIN studies USING (study_id) WHERE key = ? LIMIT 1"
        return bool(self._store.query(asked, key))

    def cancel(self, study_id: str) -> None:
        """Ask all processes that carry a study out to leave it, until it is opened again.

        Raises:
            StoreError: The database cannot be written.
        """
        self._store.execute_write("UPDATE studies SET cancelled = 1 WHERE study_id = ?", study_id)

    def is_cancelled(self, study_id: str) -> bool:
        """Return whether a study is to be left.

        Raises:
            StoreError: The database cannot be read.
        """
        rows = self._store.query("SELECT cancelled FROM studies WHERE study_id = ?", study_id)
        return bool(rows and rows[0]["cancelled"])

    def is_running(self, study_id: str) -> bool:
        """Return whether a process, this one or another, carries a study out now."""
        path = self._store.home / "studies" / f"{study_id}.lock"
        if not path.exists():
            return False
        lock = FileLock(path, thread_local=False)
        try:
            lock.acquire(timeout=_LOCK_TIMEOUT_S)
        except Timeout:
            return True
        lock.release()
        return False

    def study_ids_by_run(self) -> dict[str, list[str]]:
        """Return the studies and sweeps that each run belongs to, the newest first.

        Raises:
            StoreError: The database cannot be read.
        """
        found: dict[str, list[str]] = {}
        for row in self._store.query(
            "SELECT DISTINCT run_id, study_id, created_unix FROM study_runs "
            "JOIN studies USING (study_id) ORDER BY created_unix DESC"
        ):
            found.setdefault(row["run_id"], []).append(row["study_id"])
        return found

    def run_counts_by_study(self) -> dict[str, tuple[int, int]]:
        """Return for each study how many of its runs are there, and how many were deleted.

        Raises:
            StoreError: The database cannot be read.
        """
        rows = self._store.query(
            "SELECT study_id, count(runs.run_id) AS there, count(*) AS noted FROM study_runs "
            "LEFT JOIN runs USING (run_id) GROUP BY study_id"
        )
        return {row["study_id"]: (row["there"], row["noted"] - row["there"]) for row in rows}

    def deleted_run_ids(self, study_id: str) -> list[str]:
        """Return the runs of a study that were deleted since.

        Raises:
            StoreError: The database cannot be read.
        """
        rows = self._store.query(
            "SELECT run_id FROM study_runs WHERE study_id = ? "
            "AND run_id NOT IN (SELECT run_id FROM runs) ORDER BY run_id",
            study_id,
        )
        return [row["run_id"] for row in rows]

    def record_run(self, study_id: str, variant: str, seed: int, run_id: str) -> None:
        """Record which run is a cell, unless an equal one that ended is already.

        Raises:
            StoreError: The database cannot be written.
        """
        self._store.execute_write(
            "INSERT OR REPLACE INTO study_runs SELECT ?, ?, ?, ? WHERE NOT EXISTS ("
            "SELECT 1 FROM study_runs JOIN runs AS old USING (run_id) WHERE study_id = ? "
            "AND arm = ? AND seed = ? AND old.status IN (?, ?) AND NOT old.exploratory "
            "AND old.run_id NOT IN (SELECT id FROM imports) "
            "AND old.config = (SELECT config FROM runs WHERE run_id = ?))",
            *(study_id, variant, seed, run_id),
            *(study_id, variant, seed, RunStatus.FINISHED, RunStatus.FAILED, run_id),
        )

    def ended_runs(
        self, study_id: str, include_stopped: bool = False
    ) -> dict[tuple[str, int], StoredStudyRun]:
        """Return the runs by arm and seed that ran to their end here, unsteered.

        Args:
            study_id: The study.
            include_stopped: Whether those that were given up on their way are wanted, too.

        Raises:
            StoreError: The database cannot be read.
        """
        rows = self._store.query(
            "SELECT arm, seed, runs.run_id AS run_id, config FROM study_runs "
            "JOIN runs USING (run_id) WHERE study_id = ? AND status IN (?, ?, ?) "
            "AND NOT exploratory AND runs.run_id NOT IN (SELECT id FROM imports)",
            *(study_id, RunStatus.FINISHED, RunStatus.FAILED),
            RunStatus.STOPPED if include_stopped else RunStatus.FINISHED,
        )
        return {
            (row["arm"], int(row["seed"])): StoredStudyRun(row["run_id"], row["config"])
            for row in rows
        }
