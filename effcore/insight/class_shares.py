"""How the computation was shared among classes, and which of them starve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effcore.insight.example_history import ExampleStatistics

#: A class is rare with at most this share of the examples that each would have if all had alike.
RARE_FRAC: Final = 0.5
#: A rare class starves where its examples are trained on at most this often beside the average.
STARVED_RATIO: Final = 0.5


class ClassShare(NamedTuple):
    """One class.

    Attributes:
        name: What it is called.
        examples: How many examples it has.
        skipped_frac: Share of them that a pass skips, the mean over passes.
        rare: Whether it is.
        starves: Whether it is rare and trained on much less than others.
    """

    name: str
    examples: int
    skipped_frac: float
    rare: bool
    starves: bool


def compute_class_shares(
    statistics: ExampleStatistics, group_N: NDArray[np.int64], class_names: Sequence[str]
) -> list[ClassShare]:  # fmt: skip
    """Return each class that has examples, in order.

    Args:
        statistics: Over one whole pass at least.
        group_N: The class of each example.
        class_names: What the classes are called.
    """
    passes = max(statistics.complete_epochs, 1)
    counts = np.bincount(group_N, minlength=len(class_names))
    trained = np.bincount(group_N, statistics.trained_N, minlength=len(class_names))
    overall = trained.sum() / (passes * max(counts.sum(), 1))
    even = counts.sum() / len(class_names)
    shares = []
    for name, count, sum_trained in zip(
        class_names, counts.tolist(), trained.tolist(), strict=True
    ):
        if not count:
            continue
        often = sum_trained / (passes * count)
        rare = count <= RARE_FRAC * even
        shares.append(
            ClassShare(name, count, 1.0 - often, rare, rare and often <= STARVED_RATIO * overall)
        )
    return shares
