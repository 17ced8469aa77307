"""Labels of runs and studies: a name, tags and a note.

Labels are plain text, so that a page must escape markup. Invisible characters (control
characters, marks that change the direction of writing) are refused, since two different names
could look alike.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

#: Limits: characters of a name, of a tag and of a note, and number of tags.
MAX_NAME_LENGTH, MAX_TAG_LENGTH, MAX_NOTE_LENGTH, MAX_TAGS = 80, 30, 2000, 12


class LabelError(ValueError):
    """A name, tag or note is not allowed; the message says why."""


class Labels(NamedTuple):
    """Name, tags and note of a run or a study; empty by default."""

    name: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""


def validated_labels(name: str = "", tags: Sequence[str] = (), note: str = "") -> Labels:
    """Return normalized labels: trimmed, without duplicate tags, in Unicode's composed form.

    Raises:
        LabelError: A label is too long or holds invisible characters, a tag holds a comma, or
            there are too many tags.
    """
    lines = note.replace("\r\n", "\n").replace("\t", " ").split("\n")
    normalized_lines = [_normalized_text("note", line, MAX_NOTE_LENGTH) for line in lines]
    normalized_note = "\n".join(normalized_lines).strip()
    _check_length("note", normalized_note, MAX_NOTE_LENGTH)
    unique_tags = dict.fromkeys(
        text for tag in tags if (text := _normalized_text("tag", tag, MAX_TAG_LENGTH))
    )
    if len(unique_tags) > MAX_TAGS:
        raise LabelError(
            f"{len(unique_tags)} tags are not allowed: at most {MAX_TAGS}; remove some"
        )
    if any("," in tag for tag in unique_tags):
        raise LabelError("a tag with a comma is not allowed: commas separate tags")
    return Labels(
        _normalized_text("name", name, MAX_NAME_LENGTH), tuple(unique_tags), normalized_note
    )


def _normalized_text(what: str, text: str, max_length: int) -> str:
    composed = unicodedata.normalize("NFC", text).strip()
    _check_length(what, composed, max_length)
    if not composed.isprintable():
        raise LabelError(
            f"{what}={composed[:40]!r} is not allowed: it holds invisible characters; type it again"
        )
    return composed


def _check_length(what: str, text: str, max_length: int) -> None:
    if len(text) > max_length:
        raise LabelError(
            f"{what}={text[:40] + '…'!r} is not allowed: it has {len(text)} characters, at most "
            f"{max_length} are allowed; shorten it"
        )


def labels_from_row(row: sqlite3.Row) -> Labels:
    """Return the labels in a row with the columns ``name``, ``tags`` and ``note``."""
    return Labels(row["name"] or "", tuple((row["tags"] or "").splitlines()), row["note"] or "")
