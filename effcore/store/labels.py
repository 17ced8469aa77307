"""What people say of runs and studies: a name, tags and a note, kept beside the record.

They are plain text: whatever shows them must escape what its own language would take for
markup. What cannot be seen (control characters, marks that turn the direction of writing)
is refused, since such a name could pass for another.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from effcore.store.store import Store

#: Most characters of a name, a tag and a note, and most tags.
MOST_NAME, MOST_TAG, MOST_NOTE, MOST_TAGS = 80, 30, 2000, 12


class LabelError(ValueError):
    """A name, tag or note that cannot be kept; the message says why."""


class Labels(NamedTuple):
    """What was said of a run or a study; all of it empty where nothing was."""

    name: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""


def checked(name: str = "", tags: Sequence[str] = (), note: str = "") -> Labels:
    """Return labels as they are kept: trimmed, each tag once, in Unicode's composed form.

    Raises:
        LabelError: One is too long, holds what cannot be seen, or there are too many tags.
    """
    lines = note.replace("\r\n", "\n").replace("\t", " ").split("\n")
    kept = "\n".join(_text("note", line, MOST_NOTE) for line in lines).strip()
    _short("note", kept, MOST_NOTE)
    each = dict.fromkeys(text for tag in tags if (text := _text("tag", tag, MOST_TAG)))
    if len(each) > MOST_TAGS:
        raise LabelError(f"{len(each)} tags are not allowed: at most {MOST_TAGS}; take some away")
    if any("," in tag for tag in each):
        raise LabelError("a tag with a comma is not allowed: commas stand between tags")
    return Labels(_text("name", name, MOST_NAME), tuple(each), kept)


def _text(what: str, text: str, most: int) -> str:
    composed = unicodedata.normalize("NFC", text).strip()
    _short(what, composed, most)
    if not composed.isprintable():
        raise LabelError(
            f"{what}={composed[:40]!r} is not allowed: it holds characters that cannot be seen; "
            "type it anew"
        )
    return composed


def _short(what: str, text: str, most: int) -> None:
    if len(text) > most:
        raise LabelError(
            f"{what}={text[:40] + '…'!r} is not allowed: it has {len(text)} characters, and "
            f"{most} fit; shorten it"
        )


def labels_of(row: sqlite3.Row) -> Labels:
    """Return the labels in a row with the columns ``name``, ``tags`` and ``note``."""
    return Labels(row["name"] or "", tuple((row["tags"] or "").splitlines()), row["note"] or "")


class LabelBook:
    """The labels of a store; any thread may use it.

    Args:
        store: Where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def all(self) -> dict[str, Labels]:
        """Return all labels by the id of the run or study.

        Raises:
            StoreError: The database cannot be read.
        """
        rows = self._store.query("SELECT id, name, tags, note FROM labels")
        return {row["id"]: labels_of(row) for row in rows}

    def put(self, owner: str, labels: Labels) -> None:
        """Say something else of a run or a study.

        Args:
            owner: Its id; labels of one that has gone meanwhile are not kept.
            labels: From :func:`checked`.

        Raises:
            StoreError: The database cannot be written.
        """
        self._store.change(
            "INSERT OR REPLACE INTO labels SELECT ?, ?, ?, ? WHERE EXISTS "
            "(SELECT 1 FROM runs WHERE run_id = ? UNION SELECT 1 FROM studies WHERE study_id = ?)",
            *(owner, labels.name, "\n".join(labels.tags), labels.note, owner, owner),
        )
