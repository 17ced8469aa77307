"""Tables bundled with scikit-learn, loaded once per process."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray


@functools.cache
def load_bundled_table(loader: str) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return a table's columns (N, D) and targets (N,), as read-only arrays.

    Args:
        loader: scikit-learn's function that reads it, e.g. ``load_digits``.
    """
    from sklearn import datasets  # slow to import

    columns, target = getattr(datasets, loader)(return_X_y=True)
    for part in (columns, target):  # shared by all runs of the process
        part.setflags(write=False)
    return columns, target
