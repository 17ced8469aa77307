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

from effcore.store.db import StoreError, translate_storage_errors
from effcore.store.run_records import delete_run_rows
from effcore.store.store import Store
from effcore.store.study_table import StudyTable

#: What was deleted is kept for a day at least: the first start of the app after that ends it.
RETENTION_S = 24 * 3600.0
RUN_KIND, STUDY_KIND = "run", "study"
#: Table and column of the id, by kind.
_TABLE_AND_ID_COLUMN = {RUN_KIND: ("runs", "run_id"), STUDY_KIND: ("studies", "study_id")}


class TrashedItem(NamedTuple):
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
        self._studies = StudyTable(store)

    def add_runs(self, run_ids: Sequence[str]) -> dict[str, str]:
        """Delete runs, each that is not live and belongs to no study that is under way.

        Returns:
            Why the others stay, by their ids.

        Raises:
            StoreError: The database cannot be read.
        """
        studies = self._studies.study_ids_by_run()
        asked = {study for run_id in run_ids for study in studies.get(run_id, [])}
        busy = {study for study in asked if self._studies.is_running(study)}
        return self._add_each(run_ids, lambda run_id: self._add_run(run_id, studies, busy))

    def add_studies(self, study_ids: Sequence[str]) -> dict[str, str]:
        """Delete studies or sweeps that are not under way; their runs stay.

        Returns:
            Why the others stay, by their ids.
        """
        return self._add_each(study_ids, self._add_study)

    def list_items(self) -> list[TrashedItem]:
        """Return what is in the trash, the newest first.

        Raises:
            StoreError: The database cannot be read.
        """
        rows = self._store.query("SELECT * FROM trash ORDER BY deleted_unix DESC, id")
        return [
            TrashedItem(r["id"], r["kind"], r["deleted_unix"], json.loads(r["data"])) for r in rows
        ]

    def restore(self, ids: Sequence[str]) -> None:
        """Bring back what was deleted, as it was; all of it or, where that fails, nothing.

        Args:
            ids: What to restore; what is not in the trash any more is left out.

        Raises:
            StoreError: The database cannot be written, or has another run of that id.
        """
        wanted = [each for each in self.list_items() if each.id in set(ids)]
        with self._store.write_transaction() as connection:
            for each in wanted:
                table, _ = _TABLE_AND_ID_COLUMN[each.kind]
                columns, marks = ", ".join(each.row), ", ".join("?" * len(each.row))
                values = tuple(each.row.values())
                connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)
                connection.execute("DELETE FROM trash WHERE id = ?", (each.id,))

    def purge(self, ids: Sequence[str] | None = None, *, older_than_s: float = 0.0) -> int:
        """Delete for good what is in the trash; returns how many that were.

        Args:
            ids: Only these; all where not given.
            older_than_s: Only what was deleted so long ago.

        Raises:
            StoreError: The store cannot be written.
        """
        until = time.time() - older_than_s
        gone = [each for each in self.list_items() if each.deleted_unix <= until]
        gone = [each for each in gone if ids is None or each.id in set(ids)]
        for each in gone:
            self._purge_item(each)
        return len(gone)

    @staticmethod
    def _add_each(ids: Sequence[str], add_item: Callable[[str], None]) -> dict[str, str]:
        refused = {}
        for one in ids:
            try:
                add_item(one)
            except StoreError as error:
                refused[one] = str(error)
        return refused

    def _add_run(
        self, run_id: str, studies: dict[str, list[str]], running_study_ids: set[str]
    ) -> None:
        for study_id in studies.get(run_id, []):
            if study_id in running_study_ids:
                raise StoreError(
                    f"run {run_id} belongs to study {study_id}, which is under way: cancel it or "
                    "wait for its end"
                )
        with self._store.lock_run_folder(run_id):
            self._move_row_to_trash(RUN_KIND, run_id)

    def _add_study(self, study_id: str) -> None:
        if self._studies.is_running(study_id):
            raise StoreError(f"study {study_id} is under way: cancel it or wait for its end")
        self._move_row_to_trash(STUDY_KIND, study_id)

    def _move_row_to_trash(self, kind: str, item_id: str) -> None:
        table, column = _TABLE_AND_ID_COLUMN[kind]
        with self._store.write_transaction() as connection:
            row = connection.execute(
                f"SELECT * FROM {table} WHERE {column} = ?", (item_id,)
            ).fetchone()
            if row is None:
                raise StoreError(f"there is no {kind} {item_id}: it may have been deleted already")
            data = json.dumps(dict(row))
            connection.execute(
                "INSERT OR REPLACE INTO trash VALUES (?, ?, ?, ?)",
                (item_id, kind, time.time(), data),
            )
            connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (item_id,))

    def _purge_item(self, item: TrashedItem) -> None:
        with self._store.write_transaction() as connection:
            delete_run_rows(connection, item.id)
            if item.kind == STUDY_KIND:
                connection.execute("DELETE FROM study_runs WHERE study_id = ?", (item.id,))
            connection.execute("DELETE FROM trash WHERE id = ?", (item.id,))
        if item.kind == RUN_KIND:
            with self._store.lock_run_folder(item.id) as folder:
                pass  # nobody writes there; on Windows a lock that is held could not be removed
            with translate_storage_errors("the store", f"runs/{item.id}"):
                if folder.exists():
                    shutil.rmtree(folder)
