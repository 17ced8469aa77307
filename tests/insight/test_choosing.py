"""Who is shown: regions of the map, ties in order, regions of a picture apart, rare classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from effcore.insight.example_filters import (
    MapRegion,
    first_separated,
    parse_region,
    points_in_region,
    rank_by_training,
    rank_label_suspects,
)
from effcore.insight.example_history import ExampleStatistics, compute_class_shares

NAN = float("nan")


def look(trained: list[int], confidence: list[float], whole: int = 4) -> ExampleStatistics:
    trained_N, confidence_N = np.array(trained), np.array(confidence)
    zero = np.zeros(len(trained))
    return ExampleStatistics(whole, whole, trained_N, whole - trained_N, confidence_N, zero, zero)


def test_a_region_holds_what_lies_in_it() -> None:
    notched = MapRegion((0, 4, 4, 2, 0), (0, 0, 4, 1, 4))  # as the letter M
    x = np.array([2.0, 2.0, 0.5, 3.5, 5.0, NAN])
    y = np.array([0.5, 3.0, 2.0, 2.0, 1.0, NAN])
    assert points_in_region(notched, x, y).tolist() == [True, False, True, True, False, False]


@pytest.mark.parametrize(
    ("xs", "ys"),
    [
        ([0, 1], [0, 1]),
        ([0, 1, 2], [0, 1]),
        ([0, 1, "<b>"], [0, 1, 2]),
        ([0, 1, NAN], [0, 1, 2]),
        ([None] * 3, [0, 1, 2]),
        ([0] * 3000, [1] * 3000),
    ],
)
def test_what_is_no_region_is_none(xs: list[Any], ys: list[Any]) -> None:
    assert parse_region(xs, ys) is None


def test_a_region_is_read() -> None:
    assert parse_region([0, 1, 2.5], [0, 1, 0]) == MapRegion((0, 1, 2.5), (0, 1, 0))


def test_the_most_trained_on_are_the_hardest_and_the_most_skipped_the_easiest() -> None:
    shown = look([4, 1, 4, 1, 2], [0.9, 0.9, 0.2, 0.95, 0.5])
    assert rank_by_training(shown, most_trained=True).tolist() == [2, 0, 4, 1, 3]
    assert rank_by_training(shown, most_trained=False).tolist() == [3, 1, 4, 0, 2]


def test_regions_of_a_picture_lie_apart() -> None:
    order = np.arange(100)
    assert first_separated(order, 3, lambda number: divmod(number, 10), 4) == [0, 4, 8]
    assert first_separated(order, 3, lambda number: None, 4) == [0, 1, 2]
    assert first_separated(order, 3, lambda number: (0, 0), 4) == [0], "there are no others"


def test_suspects_are_the_least_believed_and_never_the_unknown() -> None:
    assert rank_label_suspects(look([1, 1, 1], [0.5, NAN, 0.1])).tolist() == [2, 0]


@pytest.mark.parametrize(("often", "starves"), [(1, True), (3, False)])
def test_a_rare_class_that_is_hardly_trained_on_starves(often: int, starves: bool) -> None:
    group_N = np.array([0] * 60 + [1] * 36 + [2] * 4)
    shown = look([4] * 60 + [1] * 36 + [often] * 4, [0.5] * 100)
    shares = compute_class_shares(shown, group_N, ("a", "b", "c", "none"))
    assert [share.name for share in shares] == ["a", "b", "c"]
    assert [share.examples for share in shares] == [60, 36, 4]
    assert [share.skipped_frac for share in shares] == [0, 0.75, 1 - often / 4]
    assert [share.rare for share in shares] == [False, False, True]
    assert [share.starves for share in shares] == [False, False, starves]
