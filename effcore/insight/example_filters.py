"""Selection of examples to show: by training frequency, spacing, region, or wrong label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from effcore.insight.example_history import ExampleStatistics
from effcore.records import FloatArray

ExampleNumbers = NDArray[np.intp]


class MapRegion(NamedTuple):
    """A polygon on the data map, with its corners in order.

    Attributes:
        x: Variability of each corner.
        y: Mean confidence of each corner.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]


def rank_by_training(statistics: ExampleStatistics, *, most_trained: bool) -> ExampleNumbers:
    """Return all examples in descending order of how often they were trained on, or skipped.

    Ties are ordered by mean confidence: lowest first among the most trained, highest first
    among the most skipped, because confidence explains the selection.
    """
    ease_N = np.nan_to_num(statistics.confidence_N, nan=0.5)
    count_N = statistics.trained_N if most_trained else statistics.skipped_N
    order: ExampleNumbers = np.lexsort((ease_N if most_trained else -ease_N, -count_N))
    return order


def first_separated(
    order: ExampleNumbers,
    count: int,
    position: Callable[[int], tuple[int, int] | None],
    min_separation: int,
) -> list[int]:
    """Return the first examples of an order that are not next to each other in a picture.

    Args:
        order: Example numbers in order.
        count: Number of examples to return.
        position: Returns an example's row and column in its picture, or ``None``.
        min_separation: Least distance between two, in rows or columns.
    """
    chosen: list[int] = []
    positions: list[tuple[int, int]] = []
    # Limited, because a uniform area may have too few separated examples.
    for number in order[: 50 * count].tolist():
        own_position = position(number)
        if own_position is not None and any(
            _closer_than(own_position, chosen_position, min_separation)
            for chosen_position in positions
        ):
            continue
        chosen.append(number)
        positions += [own_position] if own_position is not None else []
        if len(chosen) == count:
            break
    return chosen


def _closer_than(one: tuple[int, int], other: tuple[int, int], least: int) -> bool:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1])) < least


def points_in_region(region: MapRegion, x_N: FloatArray, y_N: FloatArray) -> NDArray[np.bool_]:
    """Return which points lie in a region, by the even-odd rule; NaN points do not."""
    inside_N = np.zeros(len(x_N), np.bool_)
    box_N = (x_N >= min(region.x)) & (x_N <= max(region.x))
    box_N &= (y_N >= min(region.y)) & (y_N <= max(region.y))
    candidates = np.flatnonzero(box_N)
    x, y, is_inside = x_N[candidates], y_N[candidates], np.zeros(len(candidates), np.bool_)
    ends = zip(region.x, region.y, np.roll(region.x, 1), np.roll(region.y, 1), strict=True)
    for x0, y0, x1, y1 in ends:
        if y0 != y1:
            between = (y0 > y) != (y1 > y)
            is_inside ^= between & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    inside_N[candidates] = is_inside
    return inside_N


def parse_region(
    xs: Sequence[object], ys: Sequence[object], max_corners: int = 2000
) -> MapRegion | None:
    """Return the region with corners sent by a browser; ``None`` if they are not valid.

    Args:
        xs: Horizontal coordinates of the corners.
        ys: Vertical coordinates of the corners.
        max_corners: Most corners that are accepted.
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


def rank_label_suspects(statistics: ExampleStatistics) -> ExampleNumbers:
    """Return the examples with a known confidence, the lowest mean confidence first.

    A network learns typical examples before it memorises the others, so that it fits a wrong
    label late or never. The order is that of Swayamdipta et al. 2020, *Dataset Cartography*,
    section 5. The mean over a run is more informative than the final value, when many examples
    have been memorised.
    """
    known = np.flatnonzero(statistics.known_N)
    order: ExampleNumbers = known[np.argsort(statistics.confidence_N[known], kind="stable")]
    return order
