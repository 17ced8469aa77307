"""The tables that come with scikit-learn, read once."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray


@functools.cache
def load_bundled_table(loader: str) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return a table's columns (N, D) and targets (N,), neither of which can be written to.

    Args:
        loader: scikit-learn's function that reads it, e.g. ``load_digits``.
    """
    from sklearn import datasets  # slow to import, and only needed now

    columns, target = getattr(datasets, loader)(return_X_y=True)
    for part in (columns, target):  # all runs of the process share them
        part.setflags(write=False)
    return columns, target
