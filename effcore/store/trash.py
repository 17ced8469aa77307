"""What was deleted and can be restored, complete, until it is deleted for good.

Deleting moves the row of a run or a study into the trash, so that whatever lists, loads,
compares or searches knows nothing of it, and leaves all else where it is. A study lists its
runs without those in the trash: gone on with, it trains them anew.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from effcore.store.db import StoreError, guarded
from effcore.store.rows import forget_run
from effcore.store.store import Store
from effcore.store.studies import Studies

#: What was deleted is kept for a day at least: the first start of the app after that ends it.
KEPT_S = 24 * 3600.0
RUN, STUDY = "run", "study"
#: Table and column of the id, by kind.
_PLACES = {RUN: ("runs", "run_id"), STUDY: ("studies", "study_id")}


class Trashed(NamedTuple):
    """Something in the trash.

    Attributes:
        id: Its id.
        kind: ``run`` or ``study``.
        deleted_unix: When it was deleted.
        row: Its row, by column.
    """

    id: str
    kind: str
    deleted_unix: float
    row: dict[str, Any]


class Trash:
    """The trash of a store; any thread may use it.

    Args:
        store: Where it is.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._studies = Studies(store)

    def put(self, run_ids: Sequence[str]) -> dict[str, str]:
        """Delete runs, each that is not live and belongs to no study that is under way.

        Returns:
            Why the others stay, by their ids.

        Raises:
            StoreError: The database cannot be read.
        """
        studies = self._studies.of_runs()
        asked = {study for run_id in run_ids for study in studies.get(run_id, [])}
        busy = {study for study in asked if self._studies.under_way(study)}
        return self._each(run_ids, lambda run_id: self._put_run(run_id, studies, busy))

    def put_studies(self, study_ids: Sequence[str]) -> dict[str, str]:
        """Delete studies or sweeps that are not under way; their runs stay.

        Returns:
            Why the others stay, by their ids.
        """
        return self._each(study_ids, self._put_study)

    def all(self) -> list[Trashed]:
        """Return what is in the trash, the newest first.

        Raises:
            StoreError: The database cannot be read.
        """
        rows = self._store.query("SELECT * FROM trash ORDER BY deleted_unix DESC, id")
        return [Trashed(r["id"], r["kind"], r["deleted_unix"], json.loads(r["data"])) for r in rows]

    def restore(self, ids: Sequence[str]) -> None:
        """Bring back what was deleted, as it was; all of it or, where that fails, nothing.

        Args:
            ids: What to restore; what is not in the trash any more is left out.

        Raises:
            StoreError: The database cannot be written, or has another run of that id.
        """
        wanted = [each for each in self.all() if each.id in set(ids)]
        with self._store.changing() as connection:
            for each in wanted:
                table, _ = _PLACES[each.kind]
                columns, marks = ", ".join(each.row), ", ".join("?" * len(each.row))
                values = tuple(each.row.values())
                connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)
                connection.execute("DELETE FROM trash WHERE id = ?", (each.id,))

    def empty(self, ids: Sequence[str] | None = None, *, older_than_s: float = 0.0) -> int:
        """Delete for good what is in the trash; returns how many that were.

        Args:
            ids: Only these; all where not given.
            older_than_s: Only what was deleted so long ago.

        Raises:
            StoreError: The store cannot be written.
        """
        until = time.time() - older_than_s
        gone = [each for each in self.all() if each.deleted_unix <= until]
        gone = [each for each in gone if ids is None or each.id in set(ids)]
        for each in gone:
            self._purge(each)
        return len(gone)

    @staticmethod
    def _each(ids: Sequence[str], put: Callable[[str], None]) -> dict[str, str]:
        refused = {}
        for one in ids:
            try:
                put(one)
            except StoreError as error:
                refused[one] = str(error)
        return refused

    def _put_run(self, run_id: str, studies: dict[str, list[str]], busy: set[str]) -> None:
        for study_id in studies.get(run_id, []):
            if study_id in busy:
                raise StoreError(
                    f"run {run_id} belongs to study {study_id}, which is under way: cancel it or "
                    "wait for its end"
                )
        with self._store.held(run_id):
            self._move(RUN, run_id)

    def _put_study(self, study_id: str) -> None:
        if self._studies.under_way(study_id):
            raise StoreError(f"study {study_id} is under way: cancel it or wait for its end")
        self._move(STUDY, study_id)

    def _move(self, kind: str, one: str) -> None:
        table, column = _PLACES[kind]
        with self._store.changing() as connection:
            row = connection.execute(f"SELECT * FROM {table} WHERE {column} = ?", (one,)).fetchone()
            if row is None:
                raise StoreError(f"there is no {kind} {one}: it may have been deleted already")
            data = json.dumps(dict(row))
            connection.execute(
                "INSERT OR REPLACE INTO trash VALUES (?, ?, ?, ?)", (one, kind, time.time(), data)
            )
            connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (one,))

    def _purge(self, each: Trashed) -> None:
        with self._store.changing() as connection:
            forget_run(connection, each.id)
            if each.kind == STUDY:
                connection.execute("DELETE FROM study_runs WHERE study_id = ?", (each.id,))
            connection.execute("DELETE FROM trash WHERE id = ?", (each.id,))
        if each.kind == RUN:
            with self._store.held(each.id) as folder:
                pass  # nobody writes there; on Windows a lock that is held could not be removed
            with guarded("the store", f"runs/{each.id}"):
                if folder.exists():
                    shutil.rmtree(folder)
