from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effcore.tasks.data_faults import (
    class_counts,
    class_shares,
    duplicate_examples,
    flip_labels,
    pick_per_class,
)

SEEDS = st.integers(0, 2**32 - 1)


@given(st.integers(20, 500), st.integers(2, 10), st.floats(0, 0.5), SEEDS)
def test_so_many_labels_are_wrong_and_no_others(
    n: int, n_classes: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    flipped, wrong = flip_labels(labels, share, n_classes, rng)
    assert wrong.sum() == round(share * n)
    np.testing.assert_array_equal(flipped != labels, wrong)
    assert set(flipped) <= set(range(n_classes))


def test_a_wrong_label_is_any_of_the_others_alike() -> None:
    labels = np.zeros(30_000, dtype=np.int64)
    flipped, _ = flip_labels(labels, 0.5, 4, np.random.default_rng(0))
    counts = np.bincount(flipped, minlength=4)
    assert counts[0] == 15_000
    np.testing.assert_allclose(counts[1:], 5_000, rtol=0.05)


@given(st.integers(2, 400), st.integers(1, 5), st.floats(0, 0.95), SEEDS)
def test_so_many_places_hold_a_copy_of_their_own_class(
    n: int, n_classes: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    source = duplicate_examples(labels, share, rng)
    copies = source != np.arange(n)
    assert copies.sum() == min(round(share * n), n - len(set(labels)))
    assert not copies[source[copies]].any()  # copied is what stands in its own place
    assert len(set(source)) == n - copies.sum()
    np.testing.assert_array_equal(labels[source], labels)


@given(st.integers(100, 5000), st.integers(2, 10), st.floats(1, 100))
def test_class_counts_sum_up_and_fall_as_told(n: int, n_classes: int, imbalance: float) -> None:
    counts = class_counts(n, n_classes, imbalance)
    assert counts.min() >= 1
    assert abs(counts.sum() - n) <= n_classes
    np.testing.assert_allclose(counts, class_shares(n_classes, imbalance) * n, atol=1.0)


def test_the_first_class_is_so_many_times_as_common_as_the_last() -> None:
    shares = class_shares(4, 27)
    np.testing.assert_allclose(shares[:-1] / shares[1:], 3)
    assert class_counts(400, 4, 27).tolist() == [270, 90, 30, 10]
    assert class_counts(10, 4, 1).tolist() == [3, 3, 2, 2]


def test_picking_keeps_so_many_of_each_class_in_their_order() -> None:
    labels = np.array([0, 1, 0, 1, 0, 1, 1])
    kept = pick_per_class(labels, np.array([2, 3]), np.random.default_rng(0))
    assert np.bincount(labels[kept]).tolist() == [2, 3]
    assert sorted(set(kept.tolist())) == kept.tolist()
    with pytest.raises(ValueError, match="class 0 has 3 examples, but 4 are requested"):
        pick_per_class(labels, np.array([4, 1]), np.random.default_rng(0))
