"""What people say of runs and studies: a name, tags and a note, kept beside the record.

They are plain text: whatever shows them must escape what its own language would take for
markup. What cannot be seen (control characters, marks that turn the direction of writing)
is refused, since such a name could pass for another.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

#: Most characters of a name, a tag and a note, and most tags.
MAX_NAME_LENGTH, MAX_TAG_LENGTH, MAX_NOTE_LENGTH, MAX_TAGS = 80, 30, 2000, 12


class LabelError(ValueError):
    """A name, tag or note that cannot be kept; the message says why."""


class Labels(NamedTuple):
    """What was said of a run or a study; all of it empty where nothing was."""

    name: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""


def validated_labels(name: str = "", tags: Sequence[str] = (), note: str = "") -> Labels:
    """Return labels as they are kept: trimmed, each tag once, in Unicode's composed form.

    Raises:
        LabelError: One is too long, holds what cannot be seen, or there are too many tags.
    """
    lines = note.replace("\r\n", "\n").replace("\t", " ").split("\n")
    kept = "\n".join(_normalized_text("note", line, MAX_NOTE_LENGTH) for line in lines).strip()
    _check_length("note", kept, MAX_NOTE_LENGTH)
    each = dict.fromkeys(
        text for tag in tags if (text := _normalized_text("tag", tag, MAX_TAG_LENGTH))
    )
    if len(each) > MAX_TAGS:
        raise LabelError(f"{len(each)} tags are not allowed: at most {MAX_TAGS}; take some away")
    if any("," in tag for tag in each):
        raise LabelError("a tag with a comma is not allowed: commas stand between tags")
    return Labels(_normalized_text("name", name, MAX_NAME_LENGTH), tuple(each), kept)


def _normalized_text(what: str, text: str, max_length: int) -> str:
    composed = unicodedata.normalize("NFC", text).strip()
    _check_length(what, composed, max_length)
    if not composed.isprintable():
        raise LabelError(
            f"{what}={composed[:40]!r} is not allowed: it holds characters that cannot be seen; "
            "type it anew"
        )
    return composed


def _check_length(what: str, text: str, max_length: int) -> None:
    if len(text) > max_length:
        raise LabelError(
            f"{what}={text[:40] + '…'!r} is not allowed: it has {len(text)} characters, and "
            f"{max_length} fit; shorten it"
        )


def labels_from_row(row: sqlite3.Row) -> Labels:
    """Return the labels in a row with the columns ``name``, ``tags`` and ``note``."""
    return Labels(row["name"] or "", tuple((row["tags"] or "").splitlines()), row["note"] or "")
