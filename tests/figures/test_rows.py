from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effcore.figures.snapshot_rows import (
    AXES,
    EVAL_ROWS,
    POWER_ROWS,
    STEP_ROWS,
    change_marks,
    eval_rows,
    histogram_rows,
    joules_at,
    power_rows,
    skipped_rows,
    step_rows,
)
from effcore.records import KnobChange
from tests.fakes import N_TRAIN, PER_EXAMPLE, config, histogram, snapshot, step_table


@given(st.floats(0.0, 0.9), st.floats(0.0, 0.5))
def test_skipped_is_what_was_not_spent_with_selection_billed(skip: float, cost: float) -> None:
    rows = skipped_rows(step_table(30, skip, cost), PER_EXAMPLE, N_TRAIN)
    spent = (1 - skip) * (1 + cost)  # of the dense cost of an example considered
    for name in ("skipped", "skipped_now"):
        np.testing.assert_allclose(rows[name], 1 - spent, atol=1e-12)
    np.testing.assert_allclose(rows["selection"], (1 - skip) * cost, atol=1e-12)
    np.testing.assert_allclose(rows["skipped_gross"], skip, atol=1e-12)


def test_skipped_now_forgets_what_lies_more_than_half_a_pass_back() -> None:
    dense, half = step_table(100, skip=0.0, selection=0.0), step_table(100, 0.5, 0.0)
    both = np.hstack([dense, half + dense[:, -1:]])
    rows = skipped_rows(both, PER_EXAMPLE, N_TRAIN)
    assert rows["skipped_now"][99] == pytest.approx(0.0)
    assert rows["skipped_now"][-1] == pytest.approx(0.5)
    assert rows["skipped"][-1] == pytest.approx(1 - 200 / 300)


def test_skipped_rows_at_some_rows_equal_those_of_all_rows() -> None:
    steps, at = step_table(50), np.array([3, 17, 49])
    some, every = (skipped_rows(steps, PER_EXAMPLE, N_TRAIN, rows) for rows in (at, None))
    for name, values in every.items():
        np.testing.assert_array_equal(some[name], values[at])


def test_series_have_the_columns_that_are_streamed() -> None:
    look = snapshot()
    assert tuple(step_rows(look)) == STEP_ROWS
    assert tuple(eval_rows(look)) == EVAL_ROWS
    assert tuple(power_rows(look)) == POWER_ROWS
    assert {a.size for a in step_rows(look).values()} == {20}


def test_axes_say_the_same_position_in_five_units() -> None:
    rows = step_rows(snapshot())
    last = {axis: float(rows[axis][-1]) for axis in AXES}
    expected = {"step": 20, "epochs": 4.0, "seconds": 2.0, "flops": 110_000.0, "joules": 2.0}
    assert last == pytest.approx(expected)
    power = power_rows(snapshot())
    np.testing.assert_allclose(power["flops"][1:], rows["flops"], rtol=1e-9)


def test_mean_loss_of_thinned_rows_covers_every_step_once() -> None:
    look, at = snapshot(20), np.array([4, 9, 19])
    means = step_rows(look, at)["loss_mean"]
    loss = look.column("loss")
    np.testing.assert_allclose(means, [loss[:5].mean(), loss[5:10].mean(), loss[10:].mean()])
    late = step_rows(look, np.array([19]), since=10)["loss_mean"]
    np.testing.assert_allclose(late, loss[10:].mean())


def test_joules_go_on_at_the_last_power_and_are_unknown_without_a_sample() -> None:
    power = snapshot(20).power
    np.testing.assert_allclose(joules_at(power, np.array([0.5, 3.0])), [0.5, 3.0])
    assert np.isnan(joules_at(np.empty((7, 0)), np.array([1.0]))).all()


def test_an_estimate_gives_joules_from_the_geometric_middle_of_its_interval() -> None:
    power = snapshot(20).power.copy()
    power[5], power[6] = power[4] / 2, power[4] * 2
    power[4] = math.nan
    np.testing.assert_allclose(joules_at(power, np.array([1.0])), [1.0])


def test_two_samples_close_together_are_not_extrapolated() -> None:
    power = np.full((7, 2), math.nan)
    power[0], power[4] = [0.01, 0.02], [0.0, 5.0]
    assert joules_at(power, np.array([10.0]))[0] == pytest.approx(5.0)


def test_a_run_without_a_step_has_empty_series() -> None:
    empty = snapshot(0, start=None, steps=np.empty((8, 0)), power=np.empty((7, 0)))
    assert step_rows(empty)["loss"].size == 0
    assert power_rows(empty)["power_w"].size == 0
    assert change_marks(empty) == ()


def test_a_drag_is_one_mark_and_stands_where_it_ended() -> None:
    drag = tuple(KnobChange(s, "mass", v) for s, v in ((2, 0.4), (3, 0.3), (4, 0.2)))
    later = (KnobChange(5, "revisit", 4), KnobChange(18, "revisit", 2))
    first, second, third = change_marks(snapshot(changes=(*drag, *later)))
    assert (first.step, first.value_before, first.value, first.change_count) == (4, 0.5, 0.2, 3)
    assert first.x == pytest.approx(
        {"step": 4, "epochs": 0.8, "seconds": 0.4, "flops": 22_000.0, "joules": 0.4}
    )
    assert (second.value, third.value_before, third.change_count) == (4, 4, 1)


def test_a_change_before_the_first_batch_stands_at_the_origin() -> None:
    look = snapshot(changes=(KnobChange(0, "mass", 0.1),), config=config(knobs={}))
    (mark,) = change_marks(look)
    assert mark.value_before is None
    assert set(mark.x.values()) == {0.0}


def test_the_bin_at_the_threshold_is_divided_there() -> None:
    bars = histogram_rows(histogram(threshold=0.05))
    np.testing.assert_allclose(bars.examples, [1, 2, 3, 3, 4])
    np.testing.assert_array_equal(bars.cut, [True, True, True, False, False])
    ends = bars.centre + bars.width / 2
    np.testing.assert_allclose(ends[2], np.log10(0.05))
    # Each half says the range of the examples it shows: those of the whole bin.
    np.testing.assert_allclose(bars.lo[2:4], 0.01)
    np.testing.assert_allclose(bars.hi[2:4], 0.1)
    assert bars.width.sum() == pytest.approx(4.0)  # decades, as before the division


@pytest.mark.parametrize(("threshold", "cut"), [(math.nan, 0), (1e-9, 0), (0.01, 2), (9.0, 3)])
def test_a_threshold_between_or_beyond_the_bins_divides_none(threshold: float, cut: int) -> None:
    bars = histogram_rows(histogram(threshold))
    assert bars.examples.size == 4
    assert bars.cut.sum() == cut


def test_no_distribution_gives_no_bars() -> None:
    assert histogram_rows(None).examples.size == 0
