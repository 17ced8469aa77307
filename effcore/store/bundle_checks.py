"""Validation of the binary files in a bundle."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from effcore.records import (
    EVAL_COLUMNS,
    PHASE_COLUMNS,
    POWER_COLUMNS,
    STEP_COLUMNS,
    FloatArray,
    ViewEvent,
)
from effcore.records.epoch_record import EpochRecord
from effcore.records.views import Scatter, ShadedText
from effcore.store.run_files import (
    DECISIONS_FILE,
    EPOCH_RECORDS_FILE,
    EVALS_FILE,
    PHASES_FILE,
    POWER_FILE,
    STEPS_FILE,
    TABLE_COLUMNS,
    parse_decisions,
    parse_epoch_records,
    parse_table,
    parse_view,
)

#: Columns whose values are finite, not negative and never fall from one row to the next.
_NONDECREASING_COLUMNS: Final = {
    STEPS_FILE: ("step", "considered", "trained", "seconds", "flops", "selection_flops"),
    EVALS_FILE: ("step", "considered", "seconds", "flops"),
    POWER_FILE: ("seconds",),
    PHASES_FILE: PHASE_COLUMNS,
}
_COLUMNS_BY_TABLE_FILE: Final = {
    STEPS_FILE: STEP_COLUMNS,
    EVALS_FILE: EVAL_COLUMNS,
    POWER_FILE: POWER_COLUMNS,
    PHASES_FILE: PHASE_COLUMNS,
}
_MAX_VIEW_ITEMS: Final = 16
#: Header that :func:`numpy.save` writes for the array types of a view.
_NPY_HEADER_PATTERN: Final = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(\|u1|<f4)', 'fortran_order': (?:True|False), "
    rb"'shape': \(([0-9, ]{0,60})\), \} *\n",
    re.DOTALL,
)


def check_bundle_files(files: Mapping[str, bytes]) -> None:
    """Check tables, decisions and epoch records.

    Args:
        files: File contents by name.

    Raises:
        ValueError: A file is invalid; the message says which and why.
    """
    for name, raw in files.items():
        if name == DECISIONS_FILE:
            _check_decisions(raw)
        elif name == EPOCH_RECORDS_FILE:
            check_epoch_records(raw)
        else:
            _check_table(name, raw)


def _check_table(name: str, raw: bytes) -> None:
    width = 8 * len(TABLE_COLUMNS[name])
    if len(raw) % width:
        raise ValueError(
            f"its {name} has {len(raw)} bytes: expected complete rows of {width} bytes"
        )
    table = parse_table(raw, name)
    for column in _NONDECREASING_COLUMNS[name]:
        values = table[_COLUMNS_BY_TABLE_FILE[name].index(column)]
        if not _is_nondecreasing(values):
            raise ValueError(
                f"its {name} has a column {column} that falls, is negative or is not finite"
            )
    if name == POWER_FILE and (table[1:] < 0).any():
        raise ValueError(f"its {name} has negative power or energy")


def _is_nondecreasing(values: FloatArray) -> bool:
    if not len(values):
        return True
    return bool(np.isfinite(values).all() and values[0] >= 0 and (np.diff(values) >= 0).all())


def _check_decisions(raw: bytes) -> None:
    decisions, end = parse_decisions(raw)
    if end != len(raw):
        raise ValueError(f"its {DECISIONS_FILE} is damaged after {end} of {len(raw)} bytes")
    for decision in decisions:
        if min(decision.step, decision.epoch_index, decision.n_drawn) < 0:
            raise ValueError(f"its {DECISIONS_FILE} has negative counts")
        if decision.n_drawn > 8 * decision.drawn_bits.size:
            raise ValueError(f"its {DECISIONS_FILE} draws more examples than the run has")


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


def parse_checked_view(raw: bytes) -> ViewEvent:
    """Parse a view after checking the headers, types and sizes of its arrays.

    Raises:
        ValueError: The view is invalid.
    """
    sizes = list(_view_array_sizes(raw))
    if len(sizes) > 4 * _MAX_VIEW_ITEMS:
        raise ValueError("its view holds too many arrays")
    try:
        view = parse_view(raw)
    except (OverflowError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"its view is damaged: {error}") from error
    if view.step < 0 or len(view.items) > _MAX_VIEW_ITEMS:
        raise ValueError("its view holds too many items, or has a negative step")
    for name, item in view.items.items():
        if problem := _view_item_problem(item):
            raise ValueError(f"its view {name[:40]!r} {problem}")
    return view


def _view_array_sizes(raw: bytes) -> Iterator[int]:
    """Yield the size of each array in bytes, by a regular expression instead of ``eval``."""
    position = 0
    while position < len(raw):
        header = _NPY_HEADER_PATTERN.match(raw, position)
        if header is None:
            raise ValueError("its view holds an array that is neither uint8 nor float32")
        shape = [int(size) for size in header[2].decode().replace(" ", "").split(",") if size]
        size = math.prod(shape) * (1 if header[1] == b"|u1" else 4)
        position = header.end() + size
        if position > len(raw):
            raise ValueError("its view announces larger arrays than it holds")
        yield size


def _view_item_problem(item: Any) -> str:
    if isinstance(item, ShadedText):
        valid = item.shade_T.dtype == item.dim_T.dtype == np.uint8
        return "" if valid else "has shades that are not uint8"
    if isinstance(item, Scatter):
        points = item.xy_N2.dtype == np.float32 and item.xy_N2.shape == (len(item.group_N), 2)
        marks = item.group_N.dtype == item.state_N.dtype == np.uint8
        if not (points and marks and np.isfinite(item.xy_N2).all()):
            return "is not a scatter plot of finite points"
        all_named = not len(item.group_N) or int(item.group_N.max()) < len(item.groups)
        return "" if all_named else "has points of a group without a name"
    is_rgb = item.ndim == 3 and item.shape[2] == 3
    return "" if item.dtype == np.uint8 and (item.ndim == 2 or is_rgb) else "is not a picture"
