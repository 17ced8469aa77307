from __future__ import annotations

import threading

import numpy as np
import pytest

from effcore.series import Table


def test_rows_come_back_as_they_were_added_while_the_table_grows() -> None:
    table = Table(3, capacity=2)
    expected = np.arange(30.0).reshape(3, 10)
    table.append(*expected[:, 0])
    table.extend(expected[:, 1:2])
    table.extend(expected[:, 2:9])
    table.append(*expected[:, 9])
    assert len(table) == 10
    np.testing.assert_array_equal(table.view(), expected)


def test_a_view_never_changes_and_cannot_be_written() -> None:
    table = Table(1, capacity=4)
    table.append(1.0)
    view = table.view()
    for value in range(100):
        table.append(value)
    assert view.tolist() == [[1.0]]
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0] = 2
    table.append(5.0)  # the table itself still can be


def test_readers_never_see_half_a_row() -> None:
    table = Table(2, capacity=1)
    rows, over = 3000, threading.Event()
    wrong: list[object] = []

    def read() -> None:
        while not over.is_set():
            first, second = table.view()
            if not (
                np.array_equal(first, -second) and np.array_equal(first, np.arange(len(first)))
            ):
                wrong.append(first)

    reader = threading.Thread(target=read)
    reader.start()
    for value in range(rows):
        table.append(value, -value)
    over.set()
    reader.join()
    assert not wrong
    assert len(table) == rows
