"""Binary messages of the live stream: a JSON header, then raw arrays.

Layout: the length of the header as little-endian uint32; the header in UTF-8, padded with spaces
to a multiple of eight; then the arrays, each padded likewise, so that a browser can read them in
place. Tables are float32 of shape (columns, rows).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from effcore.figures.snapshot_rows import (
    EVAL_ROWS,
    POWER_ROWS,
    STEP_ROWS,
    change_marks,
    histogram_rows,
)
from effcore.live.downsampling import Tables
from effcore.records import KnobChange, LossHistogram, Snapshot, ViewEvent
from effcore.records.views import view_arrays, view_header

Array = NDArray[Any]
#: Columns of the tables in a frame, by table; those of ``ref_`` tables are the same.
FRAME_COLUMNS: Final = {"steps": STEP_ROWS, "evals": EVAL_ROWS, "power": POWER_ROWS}


def encode_frame(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """Return one message; ``arrays`` in the header lists name, type and shape of each array."""
    described = [[name, a.dtype.str, a.shape] for name, a in arrays.items()]
    text = json.dumps({**header, "arrays": described}, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 4) % 8)
    parts = [len(text).to_bytes(4, "little"), text]
    for array in arrays.values():
        raw = np.ascontiguousarray(array).tobytes()
        parts += [raw, bytes(-len(raw) % 8)]
    return b"".join(parts)


def decode_frame(frame: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the header and the arrays of a message from :func:`encode_frame`."""
    offset = 4 + int.from_bytes(frame[:4], "little")
    header: dict[str, Any] = json.loads(frame[4:offset])
    arrays: dict[str, Array] = {}
    for name, dtype, shape in header["arrays"]:
        count = math.prod(shape)
        arrays[name] = np.frombuffer(frame, dtype, count, offset).reshape(shape)
        offset += arrays[name].nbytes + -arrays[name].nbytes % 8
    return header, arrays


def table_arrays(tables: Tables, prefix: str = "") -> dict[str, Array]:
    """Return tables as float32 arrays of shape (columns, rows), without the empty ones."""
    arrays: dict[str, Array] = {}
    for name, rows in tables.items():
        if rows["step"].size:
            matrix = np.stack([rows[column] for column in FRAME_COLUMNS[name]])
            arrays[prefix + name] = matrix.astype(np.float32)
    return arrays


def histogram_part(histogram: LossHistogram | None) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the header entry and the array of a loss histogram."""
    if histogram is None:
        return {}, {}
    bars = histogram_rows(histogram)
    threshold = float(histogram.threshold)
    header = {
        "step": histogram.step,
        "threshold": threshold if math.isfinite(threshold) and threshold > 0 else None,
        "unseen": int(histogram.n_unseen),
    }
    return {"histogram": header}, {"histogram": np.stack(bars).astype(np.float32)}


def view_part(
    view: ViewEvent | None, sent_view: ViewEvent | None = None
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the header entry and the arrays of a task's view, named ``view/item/array``.

    Arrays that are the same objects as in ``sent_view``, such as a constant target, are left out,
    and so are items without a new array.
    """
    if view is None:
        return {}, {}
    sent_arrays = {} if sent_view is None else _view_arrays(sent_view)
    arrays = {n: a for n, a in _view_arrays(view).items() if sent_arrays.get(n) is not a}
    new_items = {key.removeprefix("view/").rpartition("/")[0] for key in arrays}
    items = {name: view_header(item) for name, item in view.items.items() if name in new_items}
    header = {"step": view.step, "captions": dict(view.captions), "items": items}
    return {"view": header}, arrays


def _view_arrays(view: ViewEvent) -> dict[str, Array]:
    return {
        f"view/{name}/{part}": array
        for name, item in view.items.items()
        for part, array in view_arrays(item).items()
    }


def marks_part(snapshot: Snapshot, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the header entries of the knob changes.

    ``marks`` holds positions and texts; ``applied`` holds the step at which each knob last changed.
    """
    marks = [
        {
            "x": _nonfinite_as_null(mark.x),
            "text": _change_mark_text(mark.step, mark.name, mark.value_before, mark.value, labels),
        }
        for mark in change_marks(snapshot)
    ]
    latest: dict[str, KnobChange] = {change.name: change for change in snapshot.changes}
    return {"marks": marks, "applied": {name: c.step for name, c in latest.items()}}


def _nonfinite_as_null(values: Mapping[str, float]) -> dict[str, float | None]:
    return {k: v if math.isfinite(v) else None for k, v in values.items()}  # JSON has no NaN


def _change_mark_text(
    step: int, name: str, value_before: float | None, value: float, labels: Mapping[str, str]
) -> str:
    old = "" if value_before is None else f"{value_before:g} → "
    return f"{labels.get(name, name)} {old}{value:g}, from step {step:,}"
