"""How the computation was shared among classes, and which of them starve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effcore.examples.history import Look

#: A class is rare with at most this share of the examples that each would have if all had alike.
RARE: Final = 0.5
#: A rare class starves where its examples are trained on at most this often beside the average.
STARVED: Final = 0.5


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


def class_shares(
    look: Look, group_N: NDArray[np.int64], names: Sequence[str]
) -> list[ClassShare]:  # fmt: skip
    """Return each class that has examples, in order.

    Args:
        look: Over one whole pass at least.
        group_N: The class of each example.
        names: What the classes are called.
    """
    passes = max(look.whole, 1)
    counts = np.bincount(group_N, minlength=len(names))
    trained = np.bincount(group_N, look.trained_N, minlength=len(names))
    overall = trained.sum() / (passes * max(counts.sum(), 1))
    even = counts.sum() / len(names)
    shares = []
    for name, count, sum_trained in zip(names, counts.tolist(), trained.tolist(), strict=True):
        if not count:
            continue
        often = sum_trained / (passes * count)
        rare = count <= RARE * even
        shares.append(
            ClassShare(name, count, 1.0 - often, rare, rare and often <= STARVED * overall)
        )
    return shares
