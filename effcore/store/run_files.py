"""Files of one run: append-only tables, decisions, epoch records, the latest view, the lock.

All formats are little-endian and self-delimiting. A process killed in the middle of a write
leaves an incomplete last row, which readers ignore and do not remove. Reading and writing raise
``OSError`` if a file is missing, cannot be opened, or the disk is full.
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
from effcore.records.views import view_arrays, view_from_parts, view_header

STEPS_FILE, EVALS_FILE, POWER_FILE = "steps.f64", "evals.f64", "power.f64"
PHASES_FILE, DECISIONS_FILE, EPOCH_RECORDS_FILE = "phases.f64", "decisions.bin", "losses.bin"
VIEW_FILE = "view.npy"
#: Columns of each table file; a row is that many little-endian float64.
TABLE_COLUMNS = {
    STEPS_FILE: STEP_COLUMNS,
    EVALS_FILE: EVAL_COLUMNS,
    POWER_FILE: POWER_COLUMNS,
    PHASES_FILE: PHASE_COLUMNS,
}

# Header of a decision: mark, step, epoch, examples drawn, bytes of packed bits that follow.
_DECISION_HEADER = struct.Struct("<4sqqqq")
_DECISION_MARK = b"PASS"
# Header of an epoch record: mark, step, epoch, examples considered, number of examples, whether
# losses follow. One bit per example says whether it was trained on; the losses are float16.
_EPOCH_RECORD_HEADER = struct.Struct("<4sqqqqq")
_EPOCH_RECORD_MARK = b"LOSS"
_LOCK_TIMEOUT_S, _LOCK_POLL_S = 0.01, 0.002  # longer than is_run_locked of another process takes


class FileAppender:
    """Buffer of rows to append to a file.

    One thread queues, one flushes. A failed write keeps its rows for the next attempt, which
    overwrites any part of them that reached the file.

    Args:
        path: The file.
        start_length: Offset in bytes after which rows are appended; ``None`` creates the file.
    """

    def __init__(self, path: Path, start_length: int | None = None) -> None:
        self._file = path.open("xb" if start_length is None else "r+b", buffering=0)
        self._written_length = self.length_with_queued = start_length or 0
        self._pending: list[bytes] = []

    def queue(self, data: bytes) -> None:
        """Queue whole rows."""
        self._pending.append(data)
        self.length_with_queued += len(data)

    def truncate(self) -> None:
        """Cut the file back to the bytes that this object has written or started from."""
        self._file.truncate(self._written_length)

    def flush(self) -> None:
        """Write the queued rows to the operating system."""
        count = len(self._pending)
        data = memoryview(b"".join(self._pending[:count]))
        self._file.seek(self._written_length)  # overwrites the rows of a failed attempt
        written = 0
        while written < len(data):
            written += self._file.write(data[written:])
        self._written_length += written
        del self._pending[:count]

    def close(self) -> None:
        """Close the file; rows that are still queued are lost."""
        self._file.close()


class RunFiles:
    """Files of a run that is being written.

    Args:
        folder: An existing folder, without these files or with those named in ``file_lengths``.
        file_lengths: Length in bytes after which each file is continued.
    """

    def __init__(self, folder: Path, file_lengths: Mapping[str, int] | None = None) -> None:
        self.folder = folder
        start_lengths: Mapping[str, int] = file_lengths or {}
        self._appenders = {
            name: FileAppender(folder / name, start_lengths.get(name))
            for name in (*TABLE_COLUMNS, DECISIONS_FILE, EPOCH_RECORDS_FILE)
        }
        self._view: ViewEvent | None = None
        self._saved_view: ViewEvent | None = None

    def queue_rows(self, table_file: str, rows: FloatArray) -> None:
        """Queue ``rows`` of shape (columns, k) for ``table_file``.

        Raises:
            ValueError: The number of columns is not the table's.
        """
        columns = TABLE_COLUMNS[table_file]
        if rows.ndim != 2 or rows.shape[0] != len(columns):
            raise ValueError(
                f"rows of shape {rows.shape} do not fit {table_file}: expected "
                f"({len(columns)}, k), one row each for {', '.join(columns)}"
            )
        self._appenders[table_file].queue(np.ascontiguousarray(rows.T, dtype="<f8").tobytes())

    def queue_decision(self, event: EpochDrawEvent) -> None:
        """Queue the examples drawn for an epoch."""
        bits = event.drawn_bits.tobytes()
        head = _DECISION_HEADER.pack(
            _DECISION_MARK, event.step, event.epoch_index, event.n_drawn, len(bits)
        )
        self._appenders[DECISIONS_FILE].queue(head + bits)

    def queue_epoch_record(self, event: EpochRecord) -> None:
        """Queue the per-example record of an epoch."""
        self._appenders[EPOCH_RECORDS_FILE].queue(epoch_record_bytes(event))

    def file_lengths(self) -> dict[str, int]:
        """Return the length of each file in bytes, queued rows included."""
        return {name: appender.length_with_queued for name, appender in self._appenders.items()}

    def truncate(self) -> None:
        """Cut the files back to the bytes that this object has written or started from."""
        for appender in self._appenders.values():
            appender.truncate()

    def queue_view(self, event: ViewEvent) -> None:
        """Keep ``event`` as the latest view until the next flush."""
        self._view = event

    def flush(self) -> None:
        """Write everything queued."""
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
    """Return a table file as shape (columns, rows), read-only, without an incomplete last row."""
    return parse_table((folder / name).read_bytes(), name)


def parse_table(raw: bytes, name: str) -> FloatArray:
    """Parse the bytes of table file ``name``; see :func:`read_table`."""
    columns = len(TABLE_COLUMNS[name])
    rows = len(raw) // (8 * columns)
    flat = np.frombuffer(raw, dtype="<f8", count=rows * columns)
    table: FloatArray = np.ascontiguousarray(flat.reshape(rows, columns).T, dtype=np.float64)
    table.flags.writeable = False
    return table


def read_phase_table(folder: Path) -> FloatArray:
    """Return the phase table; without rows for runs of versions that had none."""
    if not (folder / PHASES_FILE).exists():
        return np.empty((len(PHASE_COLUMNS), 0))
    return read_table(folder, PHASES_FILE)


def read_decisions(folder: Path) -> tuple[EpochDrawEvent, ...]:
    """Return the complete decisions of a run."""
    return tuple(parse_decisions((folder / DECISIONS_FILE).read_bytes())[0])


def parse_decisions(raw: bytes) -> tuple[list[EpochDrawEvent], int]:
    """Parse decisions; return the complete ones and the offset at which the last one ends."""
    decisions = []
    position = 0
    while position + _DECISION_HEADER.size <= len(raw):
        mark, step, index, drawn, size = _DECISION_HEADER.unpack_from(raw, position)
        start = position + _DECISION_HEADER.size
        if mark != _DECISION_MARK or not 0 <= size <= len(raw) - start:
            break
        bits = np.frombuffer(raw, dtype=np.uint8, count=size, offset=start)
        decisions.append(EpochDrawEvent(step, index, bits, drawn))
        position = start + size
    return decisions, position


def epoch_record_bytes(event: EpochRecord) -> bytes:
    """Return the record of one epoch as bytes."""
    losses = b"" if event.losses_N is None else event.losses_N.astype("<f2").tobytes()
    header = (event.step, event.epoch_index, event.visited, event.n, int(bool(losses)))
    return (
        _EPOCH_RECORD_HEADER.pack(_EPOCH_RECORD_MARK, *header)
        + event.trained_bits.tobytes()
        + losses
    )


def parse_epoch_records(raw: bytes) -> tuple[list[EpochRecord], int]:
    """Parse epoch records; return the complete ones and the offset at which the last one ends."""
    records: list[EpochRecord] = []
    position = 0
    while position + _EPOCH_RECORD_HEADER.size <= len(raw):
        mark, step, index, visited, n, has_losses = _EPOCH_RECORD_HEADER.unpack_from(raw, position)
        start = position + _EPOCH_RECORD_HEADER.size
        if mark != _EPOCH_RECORD_MARK or has_losses not in (0, 1):
            break
        if not 0 < n <= 8 * (len(raw) - start):
            break
        bits = (n + 7) // 8
        end = start + bits + 2 * n * has_losses
        if end > len(raw):
            break
        trained = np.frombuffer(raw, np.uint8, bits, start)
        losses = np.frombuffer(raw, "<f2", n, start + bits) if has_losses else None
        records.append(EpochRecord(step, index, visited, trained, losses, n))
        position = end
    return records, position


def read_epoch_records(folder: Path) -> list[EpochRecord]:
    """Return the complete epoch records of a run; none for runs of versions without them."""
    try:
        raw = (folder / EPOCH_RECORDS_FILE).read_bytes()
    except FileNotFoundError:
        return []
    return parse_epoch_records(raw)[0]


def save_view(folder: Path, event: ViewEvent) -> bool:
    """Replace the stored view atomically; return whether the file could be replaced now.

    The file holds consecutive arrays: a JSON header as bytes, then the arrays of each item.
    """
    parts = {name: view_arrays(item) for name, item in event.items.items()}
    items = {
        name: {**view_header(item), "arrays": list(parts[name])}
        for name, item in event.items.items()
    }
    head = {"step": event.step, "items": items, "captions": dict(event.captions)}
    header = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    arrays = [header, *(array for named in parts.values() for array in named.values())]
    new_file = folder / (VIEW_FILE + ".new")
    with new_file.open("wb") as file:
        for array in arrays:
            np.save(file, array, allow_pickle=False)
    try:
        new_file.replace(folder / VIEW_FILE)
    except PermissionError:  # on Windows while the old file is open; the next flush retries
        return False
    return True


def load_view(folder: Path) -> ViewEvent | None:
    """Return the stored view; ``None`` if there is none.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        raw = (folder / VIEW_FILE).read_bytes()
    except FileNotFoundError:
        return None
    return parse_view(raw)


def parse_view(raw: bytes) -> ViewEvent:
    """Parse a view written by :func:`save_view`.

    Raises:
        ValueError: The bytes are damaged.
    """
    file = io.BytesIO(raw)
    try:
        head = json.loads(_load_view_array(file).tobytes())
        step, captions = head["step"], head["captions"]
        heads = head.get("items")
        if heads is None:  # written by an early version, which had pictures only
            heads = {name: {"kind": "picture", "arrays": ["pixels"]} for name in head["names"]}
        items = {
            str(name): view_from_parts(
                item, {str(part): _load_view_array(file) for part in item["arrays"]}
            )
            for name, item in heads.items()
        }
        return ViewEvent(int(step), items, {str(k): str(v) for k, v in captions.items()})
    except (KeyError, TypeError, AttributeError, EOFError) as error:
        raise ValueError(f"its view is damaged: {error!r}") from error


def _load_view_array(file: Any) -> NDArray[Any]:
    array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    if array.dtype not in (np.uint8, np.float32):
        raise ValueError(f"its view holds {array.dtype}, expected uint8 or float32")
    return array


def try_run_lock(folder: Path) -> FileLock | None:
    """Acquire a run's lock, for all threads of this process; ``None`` if it is held.

    The operating system releases the lock when the holder's process ends, however it ends.
    """
    return _try_lock(folder / "lock")


def is_run_locked(folder: Path) -> bool:
    """Return whether the run's lock is held, or cannot be opened by this process."""
    return is_locked(folder / "lock")


def is_locked(path: Path) -> bool:
    """Return whether a lock file is held, or cannot be opened by this process."""
    if not path.exists():
        return False
    try:
        lock = _try_lock(path)
    except OSError:
        return True
    if lock is None:
        return True
    lock.release()
    return False


def _try_lock(path: Path) -> FileLock | None:
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=_LOCK_TIMEOUT_S, poll_interval=_LOCK_POLL_S)
    except Timeout:
        return None
    return lock
