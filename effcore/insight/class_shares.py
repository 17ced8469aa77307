"""Skipped share of each class, and rare classes that are starved of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effcore.insight.example_history import ExampleStatistics

#: A class is rare if it has at most this fraction of the mean number of examples per class.
RARE_FRAC: Final = 0.5
#: A rare class starves if its examples are trained on at most this fraction as often as average.
STARVED_RATIO: Final = 0.5


class ClassShare(NamedTuple):
    """Skipped share of one class.

    Attributes:
        name: Name of the class.
        examples: Number of its examples.
        skipped_frac: Share of them skipped per epoch, mean over epochs.
        rare: Whether the class is rare.
        starves: Whether it is rare and trained on much less often than average.
    """

    name: str
    examples: int
    skipped_frac: float
    rare: bool
    starves: bool


def compute_class_shares(
    statistics: ExampleStatistics, group_N: NDArray[np.int64], class_names: Sequence[str]
) -> list[ClassShare]:  # fmt: skip
    """Return the shares of all classes that have examples, in order.

    Args:
        statistics: Statistics over at least one complete epoch.
        group_N: The class of each example.
        class_names: Names of the classes.
    """
    epochs = max(statistics.complete_epochs, 1)
    counts = np.bincount(group_N, minlength=len(class_names))
    trained = np.bincount(group_N, statistics.trained_N, minlength=len(class_names))
    mean_trained = trained.sum() / (epochs * max(counts.sum(), 1))
    mean_count = counts.sum() / len(class_names)
    shares = []
    for name, count, trained_count in zip(
        class_names, counts.tolist(), trained.tolist(), strict=True
    ):
        if not count:
            continue
        class_trained = trained_count / (epochs * count)
        is_rare = count <= RARE_FRAC * mean_count
        shares.append(
            ClassShare(
                name,
                count,
                1.0 - class_trained,
                is_rare,
                is_rare and class_trained <= STARVED_RATIO * mean_trained,
            )
        )
    return shares
