"""Trash: deleted runs and studies, which can be restored until they are purged.

Deleting moves the row of a run or a study into the trash table, so that no list, comparison or
search sees it; its files and other rows stay in place. A study that continues trains its deleted
runs again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from effcore.store.db import StoreError
from effcore.store.run_records import delete_run_rows
from effcore.store.store import Store
from effcore.store.study_table import StudyTable

#: Deleted items are kept at least this long, seconds; the first start of the app after that
#: purges them.
RETENTION_S = 24 * 3600.0
RUN_KIND, STUDY_KIND = "run", "study"
#: Table and column of the id, by kind.
_TABLE_AND_ID_COLUMN = {RUN_KIND: ("runs", "run_id"), STUDY_KIND: ("studies", "study_id")}


class TrashedItem(NamedTuple):
    """A run or a study in the trash."""

    id: str
    kind: str  # RUN_KIND or STUDY_KIND
    deleted_unix: float  # seconds since 1970
    row: dict[str, Any]  # database row by column


class Trash:
    """The trash of a store; any thread may use it.

    Methods raise :class:`StoreError` if the store cannot be read or written.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._studies = StudyTable(store)

    def add_runs(self, run_ids: Sequence[str]) -> dict[str, str]:
        """Move runs to the trash; return the reason for each that was not moved, by id.

        Live runs and those of a study that is running are not moved.
        """
        studies = self._studies.study_ids_by_run()
        affected = {study for run_id in run_ids for study in studies.get(run_id, [])}
        running = {study for study in affected if self._studies.is_running(study)}

        def add_run(run_id: str) -> None:
            for study_id in studies.get(run_id, []):
                if study_id in running:
                    raise StoreError(
                        f"run {run_id} belongs to study {study_id}, which is running: cancel the "
                        "study or wait for its end"
                    )
            with self._store.lock_run_folder(run_id):
                self._move_row_to_trash(RUN_KIND, run_id)

        return _reasons_of_refusals(add_run, run_ids)

    def add_studies(self, study_ids: Sequence[str]) -> dict[str, str]:
        """Move studies or sweeps to the trash; return the reason for each that was not moved.

        Running ones are not moved. Their runs stay.
        """

        def add_study(study_id: str) -> None:
            if self._studies.is_running(study_id):
                raise StoreError(f"study {study_id} is running: cancel it or wait for its end")
            self._move_row_to_trash(STUDY_KIND, study_id)

        return _reasons_of_refusals(add_study, study_ids)

    def list_items(self) -> list[TrashedItem]:
        """Return the items in the trash, newest first."""
        rows = self._store.query("SELECT * FROM trash ORDER BY deleted_unix DESC, id")
        return [
            TrashedItem(r["id"], r["kind"], r["deleted_unix"], json.loads(r["data"])) for r in rows
        ]

    def restore(self, ids: Sequence[str]) -> None:
        """Restore deleted items, all or none; those no longer in the trash are ignored.

        Raises:
            StoreError: The database cannot be written, or has another run of that id.
        """
        items = [item for item in self.list_items() if item.id in set(ids)]
        with self._store.write_transaction() as connection:
            for item in items:
                table, _ = _TABLE_AND_ID_COLUMN[item.kind]
                columns, marks = ", ".join(item.row), ", ".join("?" * len(item.row))
                values = tuple(item.row.values())
                connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)
                connection.execute("DELETE FROM trash WHERE id = ?", (item.id,))

    def purge(self, ids: Sequence[str] | None = None, *, older_than_s: float = 0.0) -> int:
        """Delete items in the trash permanently; return how many.

        Args:
            ids: Only these items; all if not given.
            older_than_s: Only items deleted at least this many seconds ago.
        """
        until = time.time() - older_than_s
        items = [item for item in self.list_items() if item.deleted_unix <= until]
        items = [item for item in items if ids is None or item.id in set(ids)]
        for item in items:
            with self._store.write_transaction() as connection:
                delete_run_rows(connection, item.id)
                if item.kind == STUDY_KIND:
                    connection.execute("DELETE FROM study_runs WHERE study_id = ?", (item.id,))
                connection.execute("DELETE FROM trash WHERE id = ?", (item.id,))
            if item.kind == RUN_KIND:
                self._store.delete_run_folder(item.id)
        return len(items)

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


def _reasons_of_refusals(move: Callable[[str], None], ids: Sequence[str]) -> dict[str, str]:
    reasons = {}
    for item_id in ids:
        try:
            move(item_id)
        except StoreError as error:
            reasons[item_id] = str(error)
    return reasons
