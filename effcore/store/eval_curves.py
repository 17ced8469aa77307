"""Evaluations of stored runs, for lists of runs and overlaid curves.

Only the small file of evaluations is read, and it is cached until it grows.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import NamedTuple

from effcore.records import FloatArray
from effcore.store.db import StoreError
from effcore.store.run_files import EVALS_FILE, read_table
from effcore.store.store import Store


class RunEvalCurve(NamedTuple):
    """Evaluations of a run on the validation split.

    Attributes:
        evals: The evaluations, shape (columns, n), columns as in ``EVAL_COLUMNS``.
        n_train: Examples per epoch; ``None`` if the run never started.
    """

    evals: FloatArray
    n_train: int | None


def read_evals(store: Store, run_id: str) -> FloatArray | None:
    """Return a run's evaluations, shape (columns, n); ``None`` where they cannot be read."""
    path = store.home / "runs" / run_id / EVALS_FILE
    try:
        return _read_evals_of_size(path.parent, path.stat().st_size)
    except OSError:
        return None


@functools.lru_cache(maxsize=4096)
def _read_evals_of_size(folder: Path, size: int) -> FloatArray:
    """Read the evaluations; the size is part of the cache key, since rows are only appended."""
    return read_table(folder, EVALS_FILE)


def read_eval_curve(store: Store, run_id: str) -> RunEvalCurve | None:
    """Return a run's evaluations and epoch length; ``None`` where they cannot be read."""
    evals = read_evals(store, run_id)
    if evals is None:
        return None
    try:
        rows = store.query("SELECT data FROM events WHERE run_id = ? AND kind = 'start'", run_id)
        n_train = int(json.loads(rows[0]["data"])["n_train"]) if rows else None
    except (StoreError, ValueError, KeyError, TypeError):
        return RunEvalCurve(evals, None)
    return RunEvalCurve(evals, n_train)
