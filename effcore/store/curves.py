"""A run's evaluations without the rest of it: for lists of many runs, and for laying runs over.

Only the small file of evaluations is read, and read again only once it has grown.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import NamedTuple

from effcore.records import FloatArray
from effcore.store.db import StoreError
from effcore.store.files import EVALS, read_table
from effcore.store.store import Store


class Curve(NamedTuple):
    """What was seen of a run on the validation split.

    Attributes:
        evals: Its evaluations, shape (columns, n), columns as in ``EVAL_COLUMNS``.
        n_train: Examples in a pass; ``None`` where the run never began.
    """

    evals: FloatArray
    n_train: int | None


def evals_of(store: Store, run_id: str) -> FloatArray | None:
    """Return a run's evaluations, shape (columns, n); ``None`` where they cannot be read."""
    path = store.home / "runs" / run_id / EVALS
    try:
        return _read(path.parent, path.stat().st_size)
    except OSError:
        return None


@functools.lru_cache(maxsize=4096)
def _read(folder: Path, size: int) -> FloatArray:
    """Read the file again only where it has another size: rows are only ever appended."""
    return read_table(folder, EVALS)


def curve_of(store: Store, run_id: str) -> Curve | None:
    """Return what is drawn of a run beside others; ``None`` where it cannot be read."""
    evals = evals_of(store, run_id)
    if evals is None:
        return None
    try:
        rows = store.query("SELECT data FROM events WHERE run_id = ? AND kind = 'start'", run_id)
        n_train = int(json.loads(rows[0]["data"])["n_train"]) if rows else None
    except (StoreError, ValueError, KeyError, TypeError):
        return Curve(evals, None)
    return Curve(evals, n_train)
