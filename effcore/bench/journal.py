"""Results of long measurements, appended to a file, so that an interrupted one can go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Journal:
    """Records by key in an append-only file, one JSON line each.

    A line that a kill cut short is ignored, so its measurement is repeated.

    Args:
        path: The file; :meth:`create_file` creates it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        text = _read_journal(path)
        self._records = dict(_parse_records(text))
        self._last_line_is_cut = bool(text) and not text.endswith("\n")

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the record of a key, ``None`` if there is none."""
        return self._records.get(key)

    def create_file(self) -> None:
        """Create the file; call it before measuring anything that has to be kept.

        Raises:
            ValueError: The file cannot be written; the message has a remedy.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.open("a", encoding="utf-8").close()
        except OSError as error:
            raise _unusable_journal(self._path, f"cannot be written ({error.strerror})") from None

    def append(self, key: str, record: dict[str, Any]) -> None:
        """Write a record at once."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(("\n" if self._last_line_is_cut else "") + json.dumps([key, record]) + "\n")
        self._last_line_is_cut = False
        self._records[key] = record


def _read_journal(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.exists() else ""
    except UnicodeDecodeError:
        why = "is no text"
    except OSError as error:
        why = f"cannot be read ({error.strerror})"
    raise _unusable_journal(path, why)


def _unusable_journal(path: Path, why: str) -> ValueError:
    return ValueError(f"journal {path.name!r} {why}: name another folder with --journal")


def _parse_records(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the records of all complete lines."""
    for line in text.splitlines():
        try:
            key, record = json.loads(line)
        except (ValueError, TypeError):
            continue
        if isinstance(key, str) and isinstance(record, dict):
            yield key, record
