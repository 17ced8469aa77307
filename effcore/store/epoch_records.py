"""File of per-example records, one for each epoch.

Records are consecutive, little-endian and self-delimiting. The header holds mark, step, epoch,
examples considered, number of examples, and whether losses follow. One bit per example says
whether it was trained on; the losses, if any, are one float16 per example.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

import numpy as np

from effcore.records.epoch_record import EpochRecord

EPOCH_RECORDS_FILE: Final = "losses.bin"

_RECORD_HEADER = struct.Struct("<4sqqqqq")
_RECORD_MARK = b"LOSS"


def epoch_record_bytes(event: EpochRecord) -> bytes:
    """Return the record of one epoch as bytes."""
    losses = b"" if event.losses_N is None else event.losses_N.astype("<f2").tobytes()
    header = (event.step, event.epoch_index, event.visited, event.n, int(bool(losses)))
    return _RECORD_HEADER.pack(_RECORD_MARK, *header) + event.trained_bits.tobytes() + losses


def parse_epoch_records(raw: bytes) -> tuple[list[EpochRecord], int]:
    """Parse epoch records; return the complete ones and the offset at which the last one ends."""
    records: list[EpochRecord] = []
    position = 0
    while position + _RECORD_HEADER.size <= len(raw):
        mark, step, index, visited, n, has_losses = _RECORD_HEADER.unpack_from(raw, position)
        start = position + _RECORD_HEADER.size
        if mark != _RECORD_MARK or has_losses not in (0, 1):
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
    """Return the complete epoch records of a run; none for runs of versions without them.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        raw = (folder / EPOCH_RECORDS_FILE).read_bytes()
    except FileNotFoundError:
        return []
    return parse_epoch_records(raw)[0]


def check_epoch_records(raw: bytes) -> None:
    """Check that the bytes are epoch records as a run writes them.

    Raises:
        ValueError: They are not.
    """
    records, end = parse_epoch_records(raw)
    if end != len(raw):
        raise ValueError(f"its {EPOCH_RECORDS_FILE} is damaged after {end} of {len(raw)} bytes")
    n = records[0].n if records else 0
    before = EpochRecord(0, 0, 0, np.empty(0, np.uint8), None, n)
    for record in records:
        if record.n != before.n:
            raise ValueError(
                f"its {EPOCH_RECORDS_FILE} has records of {before.n} and of {record.n} examples"
            )
        if record.step < before.step or record.epoch_index < before.epoch_index:
            raise ValueError(
                f"its {EPOCH_RECORDS_FILE} has records out of order, or a negative step or epoch"
            )
        if not 0 <= record.visited <= record.n:
            raise ValueError(
                f"its {EPOCH_RECORDS_FILE} considers {record.visited} of {record.n} examples"
            )
        if record.losses_N is not None and (record.losses_N < 0).any():
            raise ValueError(f"its {EPOCH_RECORDS_FILE} has a negative loss")
        before = record
