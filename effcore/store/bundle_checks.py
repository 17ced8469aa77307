"""Whether the files of a run that came from elsewhere are what a run writes."""

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
from effcore.records.views import Scatter, ShadedText
from effcore.store.epoch_records import EPOCH_RECORDS_FILE, check_epoch_records
from effcore.store.run_files import (
    DECISIONS_FILE,
    EVALS_FILE,
    PHASES_FILE,
    POWER_FILE,
    STEPS_FILE,
    TABLE_COLUMNS,
    parse_decisions,
    parse_table,
    parse_view,
)

#: Columns that count something: numbers, not negative, never less than in the row before.
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
#: What :func:`numpy.save` writes before an array of a type that a view may have.
_NPY_HEADER_PATTERN: Final = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(\|u1|<f4)', 'fortran_order': (?:True|False), "
    rb"'shape': \(([0-9, ]{0,60})\), \} *\n",
    re.DOTALL,
)


def check_bundle_files(files: Mapping[str, bytes]) -> None:
    """Return if tables, decisions and losses are such as a run writes.

    Args:
        files: Their bytes, by name.

    Raises:
        ValueError: One is not; the message says which and why.
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
        raise ValueError(f"its {name} has {len(raw)} bytes: expected rows of {width}")
    table = parse_table(raw, name)
    for column in _NONDECREASING_COLUMNS[name]:
        values = table[_COLUMNS_BY_TABLE_FILE[name].index(column)]
        if not _is_nondecreasing(values):
            raise ValueError(f"its {name} has a column {column} that does not count upwards from 0")
    if name == POWER_FILE and (table[1:] < 0).any():
        raise ValueError(f"its {name} has less than nothing for power or energy")


def _is_nondecreasing(values: FloatArray) -> bool:
    """Return whether values are numbers from 0 on that never fall."""
    if not len(values):
        return True
    return bool(np.isfinite(values).all() and values[0] >= 0 and (np.diff(values) >= 0).all())


def _check_decisions(raw: bytes) -> None:
    found, end = parse_decisions(raw)
    if end != len(raw):
        raise ValueError(f"its {DECISIONS_FILE} is damaged after {end} of {len(raw)} bytes")
    for each in found:
        if min(each.step, each.epoch_index, each.n_drawn) < 0:
            raise ValueError(f"its {DECISIONS_FILE} counts less than nothing")
        if each.n_drawn > 8 * each.drawn_bits.size:
            raise ValueError(f"its {DECISIONS_FILE} draws more examples than there are")


def parse_checked_view(raw: bytes) -> ViewEvent:
    """Return a view whose arrays are of the types and sizes that they say.

    Raises:
        ValueError: They are not.
    """
    sizes = list(_view_array_sizes(raw))
    if len(sizes) > 4 * _MAX_VIEW_ITEMS:
        raise ValueError("its view holds too much")
    try:
        view = parse_view(raw)
    except (OverflowError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"its view is not as written: {error}") from error
    if view.step < 0 or len(view.items) > _MAX_VIEW_ITEMS:
        raise ValueError("its view holds too much, or is from before the first step")
    for name, item in view.items.items():
        if problem := _view_item_problem(item):
            raise ValueError(f"its view {name[:40]!r} {problem}")
    return view


def _view_array_sizes(raw: bytes) -> Iterator[int]:
    """Yield the bytes of each array; no header is evaluated, and none may claim more than is."""
    place = 0
    while place < len(raw):
        head = _NPY_HEADER_PATTERN.match(raw, place)
        if head is None:
            raise ValueError("its view holds what is no array of bytes or of short numbers")
        shape = [int(size) for size in head[2].decode().replace(" ", "").split(",") if size]
        size = math.prod(shape) * (1 if head[1] == b"|u1" else 4)
        place = head.end() + size
        if place > len(raw):
            raise ValueError("its view announces larger arrays than it holds")
        yield size


def _view_item_problem(item: Any) -> str:
    if isinstance(item, ShadedText):
        right = item.shade_T.dtype == item.dim_T.dtype == np.uint8
        return "" if right else "has shades of another type"
    if isinstance(item, Scatter):
        points = item.xy_N2.dtype == np.float32 and item.xy_N2.shape == (len(item.group_N), 2)
        marks = item.group_N.dtype == item.state_N.dtype == np.uint8
        if not (points and marks and np.isfinite(item.xy_N2).all()):
            return "is no map of points"
        named = not len(item.group_N) or int(item.group_N.max()) < len(item.groups)
        return "" if named else "has points of a group without a name"
    colours = item.ndim == 3 and item.shape[2] == 3
    return "" if item.dtype == np.uint8 and (item.ndim == 2 or colours) else "is no picture"
