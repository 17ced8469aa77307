from __future__ import annotations

import threading

import numpy as np
import pytest

from effcore.records.append_only_table import AppendOnlyTable


def test_rows_come_back_as_they_were_added_while_the_table_grows() -> None:
    table = AppendOnlyTable(3, capacity=2)
    expected = np.arange(30.0).reshape(3, 10)
    table.append(*expected[:, 0])
    table.extend(expected[:, 1:2])
    table.extend(expected[:, 2:9])
    table.append(*expected[:, 9])
    assert len(table) == 10
    np.testing.assert_array_equal(table.view(), expected)


def test_a_view_never_changes_and_cannot_be_written() -> None:
    table = AppendOnlyTable(1, capacity=4)
    table.append(1.0)
    view = table.view()
    for value in range(100):
        table.append(value)
    assert view.tolist() == [[1.0]]
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0] = 2
    table.append(5.0)  # the table itself still can be


def test_readers_never_see_half_a_row() -> None:
    table = AppendOnlyTable(2, capacity=1)
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


def filled(limit: int, rows: int) -> AppendOnlyTable:
    """Return a table with rows every tenth of a second, and their number beside the time."""
    table = AppendOnlyTable(2, capacity=2, limit=limit)
    for row in range(rows):
        table.append(row / 10, row)
    return table


@pytest.mark.parametrize("rows", [64, 65, 1000])
def test_a_table_with_a_limit_keeps_the_newer_half_whole_and_the_rest_evenly(rows: int) -> None:
    table = filled(64, rows)
    times, numbers = table.view()
    assert len(table) <= 64
    assert numbers[-32:].tolist() == list(range(rows - 32, rows))
    assert (times[0], numbers[0]) == (0.0, 0.0)
    np.testing.assert_allclose(times, numbers / 10)
    assert np.diff(times).max() <= 3 * times[-1] / 16


def test_rows_beyond_the_limit_may_come_at_once_and_at_one_time() -> None:
    rows = np.stack([np.zeros(500), np.arange(500.0)])
    table = AppendOnlyTable(2, limit=8)
    table.extend(rows)
    assert table.view()[1].tolist() == [0.0, 496.0, 497.0, 498.0, 499.0]
    table.extend(rows[:, :1])
    assert (len(table), table.rows_since(0)[1]) == (6, 501)


def test_a_view_outlives_what_is_thinned() -> None:
    table = filled(16, 16)
    view = table.view()
    for row in range(16, 60):
        table.append(row / 10, row)
    assert view[1].tolist() == list(range(16))


def test_whoever_asks_often_enough_misses_no_row() -> None:
    table, had, asked = AppendOnlyTable(2, limit=16), [], 0
    for row in range(300):
        table.append(row / 10, row)
        if row % 7 == 0:
            rows, asked = table.rows_since(asked)
            had += rows[1].tolist()
    assert had == list(range(295))
    assert table.rows_since(asked)[0][1].tolist() == [295.0, 296.0, 297.0, 298.0, 299.0]
    assert table.rows_since(300)[0].shape == (2, 0)
