"""Which examples are shown: the most and the least trained on, and those in a region of the map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from effcore.insight.example_history import ExampleStatistics
from effcore.records import FloatArray

ExampleNumbers = NDArray[np.intp]


class MapRegion(NamedTuple):
    """Part of the map: a polygon with its corners in order.

    Attributes:
        x: Variability of each corner.
        y: Mean confidence of each corner.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]


def rank_by_training(statistics: ExampleStatistics, *, most_trained: bool) -> ExampleNumbers:
    """Return all examples, those trained on most often first, or those skipped most.

    Among equals, of those trained on most the ones with the lowest mean confidence come first,
    of those skipped most the ones with the highest: those that explain it.
    """
    ease_N = np.nan_to_num(statistics.confidence_N, nan=0.5)
    often_N = statistics.trained_N if most_trained else statistics.skipped_N
    order: ExampleNumbers = np.lexsort((ease_N if most_trained else -ease_N, -often_N))
    return order


def first_separated(
    order: ExampleNumbers,
    count: int,
    position: Callable[[int], tuple[int, int] | None],
    min_separation: int,
) -> list[int]:
    """Return the first examples of an order that do not lie beside each other.

    Args:
        order: Examples, the first ones first.
        count: How many are wanted.
        position: Where an example lies in the picture that it is a part of, if in any.
        min_separation: Rows or columns that two must be apart.
    """
    chosen: list[int] = []
    spots: list[tuple[int, int]] = []
    for place in order[: 50 * count].tolist():  # a uniform corner may have no end
        own = position(place)
        if own is not None and any(_closer_than(own, other, min_separation) for other in spots):
            continue
        chosen.append(place)
        spots += [own] if own is not None else []
        if len(chosen) == count:
            break
    return chosen


def _closer_than(one: tuple[int, int], other: tuple[int, int], least: int) -> bool:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1])) < least


def points_in_region(region: MapRegion, x_N: FloatArray, y_N: FloatArray) -> NDArray[np.bool_]:
    """Return which points lie in a region, by the even-odd rule; those that are none do not."""
    inside_N = np.zeros(len(x_N), np.bool_)
    box_N = (x_N >= min(region.x)) & (x_N <= max(region.x))
    box_N &= (y_N >= min(region.y)) & (y_N <= max(region.y))
    near = np.flatnonzero(box_N)
    x, y, crossed = x_N[near], y_N[near], np.zeros(len(near), np.bool_)
    ends = zip(region.x, region.y, np.roll(region.x, 1), np.roll(region.y, 1), strict=True)
    for x0, y0, x1, y1 in ends:
        if y0 != y1:
            between = (y0 > y) != (y1 > y)
            crossed ^= between & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    inside_N[near] = crossed
    return inside_N


def parse_region(
    xs: Sequence[object], ys: Sequence[object], max_corners: int = 2000
) -> MapRegion | None:
    """Return what a browser says was drawn, where that is a region.

    Args:
        xs: Corners, horizontally.
        ys: Corners, vertically.
        max_corners: Corners that are read.
    """
    if not 3 <= len(xs) == len(ys) <= max_corners:
        return None
    numbers = [
        float(value)
        for value in (*xs, *ys)
        if isinstance(value, int | float) and np.isfinite(value)
    ]
    if len(numbers) != 2 * len(xs):
        return None
    return MapRegion(tuple(numbers[: len(xs)]), tuple(numbers[len(xs) :]))
