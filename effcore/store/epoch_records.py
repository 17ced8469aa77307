"""The file of what is known of each example by the end of each pass.

Records follow each other, little-endian and self-delimiting: mark, step, pass, examples
considered, examples, whether losses follow; then one bit per example, and one float16 where
they do.
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
    """Return the bytes of one pass."""
    losses = b"" if event.losses_N is None else event.losses_N.astype("<f2").tobytes()
    given = (event.step, event.epoch_index, event.visited, event.n, int(bool(losses)))
    return _RECORD_HEADER.pack(_RECORD_MARK, *given) + event.trained_bits.tobytes() + losses


def parse_epoch_records(raw: bytes) -> tuple[list[EpochRecord], int]:
    """Return the passes at the start of some bytes, and where the last whole one ends."""
    found: list[EpochRecord] = []
    position = 0
    while position + _RECORD_HEADER.size <= len(raw):
        mark, step, index, visited, n, kept = _RECORD_HEADER.unpack_from(raw, position)
        start = position + _RECORD_HEADER.size
        if mark != _RECORD_MARK or kept not in (0, 1) or not 0 < n <= 8 * (len(raw) - start):
            break
        bits = (n + 7) // 8
        end = start + bits + 2 * n * kept
        if end > len(raw):
            break
        trained = np.frombuffer(raw, np.uint8, bits, start)
        losses = np.frombuffer(raw, "<f2", n, start + bits) if kept else None
        found.append(EpochRecord(step, index, visited, trained, losses, n))
        position = end
    return found, position


def read_epoch_records(folder: Path) -> list[EpochRecord]:
    """Return the passes up to a torn one; none for a run from before they were kept.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        raw = (folder / EPOCH_RECORDS_FILE).read_bytes()
    except FileNotFoundError:
        return []
    return parse_epoch_records(raw)[0]


def check_epoch_records(raw: bytes) -> None:
    """Return if the bytes are such as a run writes.

    Raises:
        ValueError: They are not; the message says why.
    """
    found, end = parse_epoch_records(raw)
    if end != len(raw):
        raise ValueError(f"its {EPOCH_RECORDS_FILE} is damaged after {end} of {len(raw)} bytes")
    before = EpochRecord(0, 0, 0, np.empty(0, np.uint8), None, found[0].n if found else 0)
    for each in found:
        if each.n != before.n:
            raise ValueError(
                f"its {EPOCH_RECORDS_FILE} is of {before.n} examples, then of {each.n}"
            )
        if each.step < before.step or each.epoch_index < before.epoch_index:
            raise ValueError(
                f"its {EPOCH_RECORDS_FILE} goes backwards, or starts before the first pass"
            )
        if not 0 <= each.visited <= each.n:
            raise ValueError(
                f"its {EPOCH_RECORDS_FILE} considers {each.visited} of {each.n} examples"
            )
        if each.losses_N is not None and (each.losses_N < 0).any():
            raise ValueError(f"its {EPOCH_RECORDS_FILE} has a loss below nothing")
        before = each
