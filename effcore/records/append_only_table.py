"""A table that one thread appends to while any number of others read.

Rows are written first and their number is published after, so that a reader never sees a
row that is half there, without a lock and without a copy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from effcore.records import FloatArray


class _PublishedRows(NamedTuple):
    """What readers see, replaced as a whole."""

    data: FloatArray
    n: int  # rows of it that are there
    ever: int  # rows that were ever appended


class AppendOnlyTable:
    """Float64 columns of equal length.

    Without a limit all rows stay. With one, the first column is a time that never falls, and
    whenever there is no more room the older half is thinned to rows evenly in time: the whole
    of it stays in sight, more coarsely the longer it is. The newer half is always complete.

    Args:
        n_columns: Number of columns.
        capacity: Rows to make room for at first.
        limit: Rows to keep at most, 4 or more; all by default.
    """

    def __init__(self, n_columns: int, capacity: int = 1024, limit: int | None = None) -> None:
        self._limit = limit
        self._published = _PublishedRows(np.empty((n_columns, capacity)), 0, 0)

    def __len__(self) -> int:
        """Return the number of rows that are kept."""
        return self._published.n

    def extend(self, rows: FloatArray) -> None:
        """Append ``rows`` of shape (columns, k)."""
        data, n, ever = self._published
        ever += rows.shape[1]
        if self._limit is not None and n + rows.shape[1] > self._limit:
            # Never in place: readers keep the old array until they look again.
            data = _thin_older_half(np.hstack([data[:, :n], rows]), self._limit)
            self._published = _PublishedRows(data, data.shape[1], ever)
            return
        end = n + rows.shape[1]
        if end > data.shape[1]:
            grown = np.empty((data.shape[0], max(end, 2 * data.shape[1])))
            grown[:, :n] = data[:, :n]
            data = grown
        data[:, n:end] = rows
        self._published = _PublishedRows(data, end, ever)

    def append(self, *row: float) -> None:
        """Append one row."""
        self.extend(np.array(row, dtype=np.float64)[:, None])

    def view(self) -> FloatArray:
        """Return the rows that are kept, shape (columns, n), read-only and never changing."""
        return self.rows_since(0)[0]

    def rows_since(self, row: int) -> tuple[FloatArray, int]:
        """Return the rows from the ``row``-th on that was ever appended, and how many those were.

        Args:
            row: Counted from 0: what the call before returned, for the rows since.

        Returns:
            The rows, shape (columns, n), as far as they are kept, and the number of rows that
            were ever appended.
        """
        data, n, ever = self._published  # once: it may be replaced between two looks
        view: FloatArray = data[:, max(n - (ever - row), 0) : n]
        view.flags.writeable = False
        return view, ever


def _thin_older_half(rows: FloatArray, limit: int) -> FloatArray:
    """Return the newest ``limit // 2`` rows, and of others the first in each stretch of time."""
    older, newer = np.split(rows, [rows.shape[1] - limit // 2], axis=1)
    passed = older[0] - older[0, 0]
    stretch = np.floor(passed * (limit // 4) / max(passed[-1], np.finfo(float).tiny))
    kept = np.diff(stretch, prepend=-1.0) > 0
    return np.hstack([older[:, kept], newer])
