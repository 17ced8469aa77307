from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effcore.live.protocol import (
    MAX_POINTS,
    MAX_POINTS_PER_FRAME,
    RowCursor,
    cursor_at_end,
    downsampled_tables,
    new_row_tables,
    pick_new_rows,
    pick_rows,
)
from effcore.live.protocol import window_tables as window_of
from tests.fakes import snapshot


@given(st.integers(1, 5000), st.integers(0, 2**32 - 1))
def test_picked_rows_increase_and_keep_ends_and_extremes(n: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(n)
    rows = pick_rows(values, 100)
    assert rows.size <= 100
    assert (np.diff(rows) > 0).all()
    assert {0, n - 1} <= set(rows.tolist())
    if n <= 100:
        assert rows.size == n


def test_a_single_peak_among_many_survives() -> None:
    values = np.zeros(100_000)
    values[54_321] = 1.0
    assert 54_321 in pick_rows(values, 200)


def test_a_break_in_the_line_survives() -> None:
    values = np.linspace(0, 1, 10_000)
    values[4_000] = np.nan
    assert 4_000 in pick_rows(values, 200)
    assert 4_000 in pick_new_rows(values, 3_900, 50)
    assert pick_rows(np.full(300, np.nan), 100).size <= 100


@given(st.integers(1, 3000), st.data())
def test_new_rows_are_few_and_end_at_the_newest(n: int, data: st.DataObject) -> None:
    since = data.draw(st.integers(0, n))
    rows = pick_new_rows(np.sin(np.arange(n)), since)
    assert rows.size <= MAX_POINTS_PER_FRAME
    if since < n:
        assert rows[-1] == n - 1
        assert rows[0] >= since
    else:
        assert rows.size == 0


def test_new_rows_are_no_denser_than_the_whole_would_be() -> None:
    assert pick_new_rows(np.random.default_rng(0).random(100_000), 99_900).size <= 4


def test_tables_hold_every_series_thinned() -> None:
    look = snapshot(4000)
    found = downsampled_tables(look)
    assert found["steps"]["step"].size <= MAX_POINTS < 4000
    assert found["evals"]["step"].size == 2
    assert found["power"]["step"].size <= MAX_POINTS


def test_nothing_is_new_to_who_has_everything() -> None:
    look = snapshot()
    assert cursor_at_end(look) == RowCursor(20, 2, 21)
    assert new_row_tables(look, cursor_at_end(look)) == {}
    behind = new_row_tables(look, RowCursor(18, 1, 20))
    assert behind["steps"]["step"].tolist() == [19, 20]
    assert behind["evals"]["step"].size == behind["power"]["step"].size == 1


@pytest.mark.parametrize(
    ("axis", "x0", "x1"),
    [("step", 100, 200), ("epochs", 20, 40), ("seconds", 10, 20), ("joules", 10, 20)],
)
def test_a_window_shows_every_row_of_its_range(axis: str, x0: float, x1: float) -> None:
    found = window_of(snapshot(4000), axis, x0, x1)
    assert set(range(100, 201)) <= set(found["steps"]["step"].tolist())
    assert found["steps"]["step"].size <= 104
    power = found["power"][axis]
    assert power[1] <= x0 * 1.02
    assert power[-2] >= x1 * 0.98
    assert power.size <= 104


def test_a_window_on_an_unknown_axis_names_the_axes() -> None:
    with pytest.raises(ValueError, match="'miles' is not one of step, epochs"):
        window_of(snapshot(), "miles", 0, 1)


def test_who_has_rows_that_are_kept_no_more_gets_those_since() -> None:
    look = replace(snapshot(), power_left_out=1000)
    assert cursor_at_end(look) == RowCursor(20, 2, 1021)
    assert new_row_tables(look, RowCursor(20, 2, 1021)) == {}
    assert new_row_tables(look, RowCursor(20, 2, 1019))["power"]["seconds"].size == 2
    assert new_row_tables(look, RowCursor(20, 2, 3))["power"]["seconds"].size == 21
