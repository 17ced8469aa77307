"""A table that one thread appends to while any number of others read.

Rows are written first and the length is published after, so that a reader who takes
``n`` once never sees a row that is half there, without a lock and without a copy.
"""

from __future__ import annotations

import numpy as np

from effcore.events import FloatArray


class Table:
    """Float64 columns of equal length that only ever grow.

    Args:
        n_columns: Number of columns.
        capacity: Rows to make room for at first.
    """

    def __init__(self, n_columns: int, capacity: int = 1024) -> None:
        self._data: FloatArray = np.empty((n_columns, capacity))
        self._n = 0

    def __len__(self) -> int:
        """Return the number of published rows."""
        return self._n

    def extend(self, rows: FloatArray) -> None:
        """Append ``rows`` of shape (columns, k)."""
        end = self._n + rows.shape[1]
        if end > self._data.shape[1]:
            grown = np.empty((self._data.shape[0], max(end, 2 * self._data.shape[1])))
            grown[:, : self._n] = self._data[:, : self._n]
            self._data = grown  # readers keep the old array until they look again
        self._data[:, self._n : end] = rows
        self._n = end

    def append(self, *row: float) -> None:
        """Append one row."""
        self.extend(np.array(row, dtype=np.float64)[:, None])

    def view(self) -> FloatArray:
        """Return the published rows, shape (columns, n), read-only and never changing."""
        n = self._n  # take the length first: the array may be replaced, never shortened
        view: FloatArray = self._data[:, :n]
        view.flags.writeable = False
        return view
