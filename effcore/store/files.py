"""The raw files of one run: append-only tables, decisions, losses, the latest view, the lock.

Everything is little-endian and self-delimiting. A process killed in the middle of a write
leaves a torn last row, which readers ignore and never cut off.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from effcore.records import (
    EVAL_COLUMNS,
    PHASE_COLUMNS,
    POWER_COLUMNS,
    STEP_COLUMNS,
    EpochDrawEvent,
    FloatArray,
    ViewEvent,
)
from effcore.records.epoch_record import EpochRecord
from effcore.records.views import ViewItem, view_arrays, view_from_parts, view_header
from effcore.store.losses import LOSSES, record_of

STEPS, EVALS, POWER, PHASES, PASSES, VIEW = (
    "steps.f64",
    "evals.f64",
    "power.f64",
    "phases.f64",
    "decisions.bin",
    "view.npy",
)
#: Columns of each table file; a row is that many little-endian float64.
TABLES = {
    STEPS: STEP_COLUMNS,
    EVALS: EVAL_COLUMNS,
    POWER: POWER_COLUMNS,
    PHASES: PHASE_COLUMNS,
}

# A decision: mark, step, pass, examples drawn, bytes of packed bits that follow.
_HEADER = struct.Struct("<4sqqqq")
_MARK = b"PASS"
_LOCK_S, _POLL_S = 0.01, 0.002  # outlasts another process that only asks


class Appender:
    """Rows waiting in memory for the end of a file.

    One thread adds, one flushes. A write that fails keeps its rows for the next attempt,
    which writes over whatever part of them had reached the file.

    Args:
        path: The file.
        size: Bytes of it to go on after; ``None`` creates it.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        self._file = path.open("xb" if size is None else "r+b", buffering=0)
        self._size = self.length = size or 0  # written, and with what is queued
        self._pending: list[bytes] = []

    def add(self, data: bytes) -> None:
        """Queue whole rows."""
        self._pending.append(data)
        self.length += len(data)

    def cut(self) -> None:
        """Drop what the file holds beyond what this object goes on after.

        Raises:
            OSError: The file cannot be written.
        """
        self._file.truncate(self._size)

    def flush(self) -> None:
        """Hand the queued rows to the operating system.

        Raises:
            OSError: The disk is full or the file cannot be written.
        """
        count = len(self._pending)
        if count == 0:
            return
        data = memoryview(b"".join(self._pending[:count]))
        self._file.seek(self._size)  # over whatever a failed attempt has left
        written = 0
        while written < len(data):
            written += self._file.write(data[written:])
        self._size += written
        del self._pending[:count]

    def close(self) -> None:
        """Close the file; what is still queued is lost."""
        self._file.close()


class RunFiles:
    """The files of a run being written.

    Args:
        folder: An existing folder without any of them, or with those that ``lengths`` names.
        lengths: Bytes of each to go on after.
    """

    def __init__(self, folder: Path, lengths: Mapping[str, int] | None = None) -> None:
        self.folder = folder
        sizes: Mapping[str, int] = lengths or {}
        self._appenders = {
            name: Appender(folder / name, sizes.get(name)) for name in (*TABLES, PASSES, LOSSES)
        }
        self._view: ViewEvent | None = None
        self._saved_view: ViewEvent | None = None

    def add_rows(self, name: str, rows: FloatArray) -> None:
        """Queue ``rows`` of shape (columns, k) for table file ``name``.

        Raises:
            ValueError: The number of columns is not the table's.
        """
        columns = TABLES[name]
        if rows.ndim != 2 or rows.shape[0] != len(columns):
            raise ValueError(
                f"rows of shape {rows.shape} do not fit {name}: expected ({len(columns)}, k), "
                f"one row each for {', '.join(columns)}"
            )
        self._appenders[name].add(np.ascontiguousarray(rows.T, dtype="<f8").tobytes())

    def add_pass(self, event: EpochDrawEvent) -> None:
        """Queue a decision."""
        bits = event.drawn_bits.tobytes()
        head = _HEADER.pack(_MARK, event.step, event.epoch_index, event.n_drawn, len(bits))
        self._appenders[PASSES].add(head + bits)

    def add_losses(self, event: EpochRecord) -> None:
        """Queue what is known of each example by the end of a pass."""
        self._appenders[LOSSES].add(record_of(event))

    def lengths(self) -> dict[str, int]:
        """Return the bytes of each file, once what is queued is written."""
        return {name: appender.length for name, appender in self._appenders.items()}

    def cut(self) -> None:
        """Drop what the files hold beyond what this object goes on after.

        Raises:
            OSError: A file cannot be written.
        """
        for appender in self._appenders.values():
            appender.cut()

    def set_view(self, event: ViewEvent) -> None:
        """Keep ``event`` as the latest view until the next flush."""
        self._view = event

    def flush(self) -> None:
        """Write what is queued.

        Raises:
            OSError: A file cannot be written.
        """
        for appender in self._appenders.values():
            appender.flush()
        view = self._view
        if view is not None and view is not self._saved_view and save_view(self.folder, view):
            self._saved_view = view

    def close(self) -> None:
        """Close all files."""
        for appender in self._appenders.values():
            appender.close()


def read_table(folder: Path, name: str) -> FloatArray:
    """Return a table file as shape (columns, rows), read-only, without a torn last row.

    Raises:
        OSError: The file is missing or cannot be read.
    """
    return table_in((folder / name).read_bytes(), name)


def table_in(raw: bytes, name: str) -> FloatArray:
    """Return the bytes of table file ``name`` as :func:`read_table` does."""
    columns = len(TABLES[name])
    rows = len(raw) // (8 * columns)
    flat = np.frombuffer(raw, dtype="<f8", count=rows * columns)
    table: FloatArray = np.ascontiguousarray(flat.reshape(rows, columns).T, dtype=np.float64)
    table.flags.writeable = False
    return table


def read_phases(folder: Path) -> FloatArray:
    """Return the phase table; without rows for a run from before there was one.

    Raises:
        OSError: The file cannot be read.
    """
    if not (folder / PHASES).exists():
        return np.empty((len(PHASE_COLUMNS), 0))
    return read_table(folder, PHASES)


def read_passes(folder: Path) -> tuple[EpochDrawEvent, ...]:
    """Return the decisions up to a torn one.

    Raises:
        OSError: The file is missing or cannot be read.
    """
    return tuple(decisions_in((folder / PASSES).read_bytes())[0])


def decisions_in(raw: bytes) -> tuple[list[EpochDrawEvent], int]:
    """Return the decisions at the start of some bytes, and where the last whole one ends."""
    found = []
    position = 0
    while position + _HEADER.size <= len(raw):
        mark, step, index, drawn, size = _HEADER.unpack_from(raw, position)
        start = position + _HEADER.size
        if mark != _MARK or not 0 <= size <= len(raw) - start:
            break
        bits = np.frombuffer(raw, dtype=np.uint8, count=size, offset=start)
        found.append(EpochDrawEvent(step, index, bits, drawn))
        position = start + size
    return found, position


def save_view(folder: Path, event: ViewEvent) -> bool:
    """Replace the stored view in one piece; return whether that was possible now.

    The file holds consecutive arrays: a JSON header as bytes, then those of each item.

    Raises:
        OSError: The folder cannot be written.
    """
    parts = {name: view_arrays(item) for name, item in event.items.items()}
    items = {
        name: {**view_header(item), "arrays": list(parts[name])}
        for name, item in event.items.items()
    }
    head = {"step": event.step, "items": items, "captions": dict(event.captions)}
    header = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    arrays = [header, *(array for named in parts.values() for array in named.values())]
    fresh = folder / (VIEW + ".new")
    with fresh.open("wb") as file:
        for array in arrays:
            np.save(file, array, allow_pickle=False)
    try:
        fresh.replace(folder / VIEW)
    except PermissionError:  # Windows: somebody is reading the old one; next time, then
        return False
    return True


def load_view(folder: Path) -> ViewEvent | None:
    """Return the stored view, ``None`` where there is none.

    Raises:
        ValueError: The file is damaged.
        OSError: The file cannot be read.
    """
    try:
        raw = (folder / VIEW).read_bytes()
    except FileNotFoundError:
        return None
    return view_in(raw)


def view_in(raw: bytes) -> ViewEvent:
    """Return the view that :func:`save_view` wrote.

    Raises:
        ValueError: The bytes are not as written.
    """
    file = io.BytesIO(raw)
    try:
        head = json.loads(_load_array(file).tobytes())
        step, captions = head["step"], head["captions"]
        heads = head["items"] if "items" in head else _only_pictures(head["names"])
        items = {str(n): _load_item(file, item) for n, item in heads.items()}
        return ViewEvent(int(step), items, {str(k): str(v) for k, v in captions.items()})
    except (KeyError, TypeError, AttributeError, EOFError) as error:
        raise ValueError(f"its view is not as written: {error!r}") from error


def _only_pictures(names: list[str]) -> dict[str, dict[str, Any]]:
    """Return the heads of items as they were understood before there were others."""
    return {name: {"kind": "picture", "arrays": ["pixels"]} for name in names}


def _load_item(file: Any, head: dict[str, Any]) -> ViewItem:
    return view_from_parts(head, {str(name): _load_array(file) for name in head["arrays"]})


def _load_array(file: Any) -> NDArray[Any]:
    array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    if array.dtype not in (np.uint8, np.float32):
        raise ValueError(f"its view holds {array.dtype}, expected uint8 or float32")
    return array


def try_lock(folder: Path) -> FileLock | None:
    """Take a run's lock for this object, whichever thread; ``None`` if it is held.

    The operating system frees it when the holder dies, however it dies.

    Raises:
        OSError: The lock file cannot be opened.
    """
    lock = FileLock(folder / "lock", thread_local=False)
    try:
        lock.acquire(timeout=_LOCK_S, poll_interval=_POLL_S)
    except Timeout:
        return None
    return lock


def is_live(folder: Path) -> bool:
    """Return whether somebody holds the run's lock, or this process may not ask."""
    if not (folder / "lock").exists():
        return False
    try:
        lock = try_lock(folder)
    except OSError:
        return True
    if lock is None:
        return True
    lock.release()
    return False
