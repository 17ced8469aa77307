"""Studies in the store: their plans, and the run of each variant and seed.

The runs are stored like any others; a study only refers to them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from effcore.records import RunStatus
from effcore.store.db import StoreError
from effcore.store.run_files import is_locked
from effcore.store.store import Store, new_run_id

_STUDY_COLUMNS = "study_id, created_unix, key, plan"
#: Prefix of the keys of sweeps, which are stored as studies.
SWEEP_KEY_PREFIX = "sweep:"
#: Prefix of the keys of a bench's runs, which the bench compares.
BENCH_KEY_PREFIX = "bench:"
_ORDER_NEWEST_FIRST = "ORDER BY created_unix DESC, rowid DESC"


class StoredStudy(NamedTuple):
    """A study as stored."""

    study_id: str  # in the form of a run's id
    created_unix: float  # seconds since 1970
    key: str  # equal for plans that continue the same study
    plan: str  # JSON


class StoredStudyRun(NamedTuple):
    """A run of a study: its id, and its configuration as JSON."""

    run_id: str
    config: str


def study_in_use_error(study_id: str) -> StoreError:
    """Return the error that another process is running a study."""
    return StoreError(
        f"study {study_id} is running in another process: wait for its end, or cancel it there; "
        "its finished runs are kept"
    )


class StudyTable:
    """The studies of a store; any thread may use it.

    Methods raise :class:`StoreError` if the database cannot be read or written.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def list_studies(self, *, sweeps: bool = False) -> list[StoredStudy]:
        """Return all comparisons, newest first; or all sweeps."""
        rows = self._store.query(f"SELECT {_STUDY_COLUMNS} FROM studies {_ORDER_NEWEST_FIRST}")
        studies = [StoredStudy(*row) for row in rows]
        return [
            study
            for study in studies
            if study.key.startswith(SWEEP_KEY_PREFIX) is sweeps
            and not study.key.startswith(BENCH_KEY_PREFIX)
        ]

    def create_or_replan_study(
        self, key: str, make_plan: Callable[[str | None], str]
    ) -> StoredStudy:
        """Return the study with a key, created if there is none, and no longer cancelled.

        ``make_plan`` makes the new plan from the stored one, or from ``None``. Reading and writing
        the plan is one transaction.

        Raises:
            StoreError: The study is running: a plan is never changed while a process works on it.
        """
        with self._store.write_transaction() as connection:
            row = connection.execute(
                f"SELECT {_STUDY_COLUMNS} FROM studies WHERE key = ? {_ORDER_NEWEST_FIRST} LIMIT 1",
                (key,),
            ).fetchone()
            stored = StoredStudy(*row) if row else None
            if stored is not None and self.is_running(stored.study_id):
                raise study_in_use_error(stored.study_id)
            plan = make_plan(stored.plan if stored else None)
            if stored is None:
                study = StoredStudy(new_run_id(), time.time(), key, plan)
                marks = ", ".join("?" * len(study))
                connection.execute(
                    f"INSERT INTO studies ({_STUDY_COLUMNS}) VALUES ({marks})", study
                )
                return study
            connection.execute(
                "UPDATE studies SET plan = ?, cancelled = 0 WHERE study_id = ?",
                (plan, stored.study_id),
            )
            return stored._replace(plan=plan)

    def has_recorded_runs(self, key: str) -> bool:
        """Return whether a study with this key ever recorded a run, deleted runs included."""
        sql = "SELECT 1 FROM study_runs JOIN studies USING (study_id) WHERE key = ? LIMIT 1"
        return bool(self._store.query(sql, key))

    def cancel(self, study_id: str) -> None:
        """Cancel a study in all processes that run it, until it is opened again."""
        self._store.execute_write("UPDATE studies SET cancelled = 1 WHERE study_id = ?", study_id)

    def is_cancelled(self, study_id: str) -> bool:
        """Return whether a study was cancelled."""
        rows = self._store.query("SELECT cancelled FROM studies WHERE study_id = ?", study_id)
        return bool(rows and rows[0]["cancelled"])

    def is_running(self, study_id: str) -> bool:
        """Return whether this process or another is running the study."""
        return is_locked(self._store.home / "studies" / f"{study_id}.lock")

    def study_ids_by_run(self) -> dict[str, list[str]]:
        """Return the ids of the studies and sweeps of each run, newest first."""
        study_ids: dict[str, list[str]] = {}
        for row in self._store.query(
            "SELECT DISTINCT run_id, study_id, created_unix FROM study_runs "
            "JOIN studies USING (study_id) ORDER BY created_unix DESC"
        ):
            study_ids.setdefault(row["run_id"], []).append(row["study_id"])
        return study_ids

    def run_counts_by_study(self) -> dict[str, tuple[int, int]]:
        """Return for each study the number of its runs and the number of deleted ones."""
        rows = self._store.query(
            "SELECT study_id, count(runs.run_id) AS existing, count(*) AS recorded FROM study_runs "
            "LEFT JOIN runs USING (run_id) GROUP BY study_id"
        )
        return {
            row["study_id"]: (row["existing"], row["recorded"] - row["existing"]) for row in rows
        }

    def deleted_run_ids(self, study_id: str) -> list[str]:
        """Return the ids of a study's deleted runs."""
        rows = self._store.query(
            "SELECT run_id FROM study_runs WHERE study_id = ? "
            "AND run_id NOT IN (SELECT run_id FROM runs) ORDER BY run_id",
            study_id,
        )
        return [row["run_id"] for row in rows]

    def record_run(self, study_id: str, variant: str, seed: int, run_id: str) -> None:
        """Record the run of a variant and seed, unless an equal run that ended is recorded."""
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
        """Return the ended runs by variant and seed, without steered and imported ones.

        Runs that were stopped early are left out unless ``include_stopped``.
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
