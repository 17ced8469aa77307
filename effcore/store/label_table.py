"""Labels of runs and studies in the database."""

from __future__ import annotations

from effcore.store.labels import Labels, labels_from_row
from effcore.store.store import Store


class LabelTable:
    """The labels of a store; any thread may use it.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def all_labels(self) -> dict[str, Labels]:
        """Return all labels by the id of the run or study.

        Raises:
            StoreError: The database cannot be read.
        """
        rows = self._store.query("SELECT id, name, tags, note FROM labels")
        return {row["id"]: labels_from_row(row) for row in rows}

    def set_labels(self, owner_id: str, labels: Labels) -> None:
        """Say something else of a run or a study.

        Args:
            owner_id: Its id; labels of one that has gone meanwhile are not kept.
            labels: From :func:`validated_labels`.

        Raises:
            StoreError: The database cannot be written.
        """
        self._store.execute_write(
            "INSERT OR REPLACE INTO labels SELECT ?, ?, ?, ? WHERE EXISTS "
            "(SELECT 1 FROM runs WHERE run_id = ? UNION SELECT 1 FROM studies WHERE study_id = ?)",
            *(owner_id, labels.name, "\n".join(labels.tags), labels.note, owner_id, owner_id),
        )
