"""Deliberate faults in training data: wrong labels, duplicates, rare classes.

They decide where selection helps or fails, so tasks offer them as settings. Only the training
split is changed; validation and test split stay clean and balanced.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effcore.knobs import knob

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Faults:
    """Settings of faults in classification data."""

    label_noise: float = knob(
        0.0,
        lo=0.0,
        hi=0.5,
        step=0.05,
        label="Label noise",
        help="Share of the training examples with a wrong label.",
    )
    redundancy: float = knob(
        0.0,
        lo=0.0,
        hi=0.95,
        step=0.05,
        label="Redundancy",
        help="Share of the training examples that duplicate others.",
    )
    imbalance: float = knob(
        1.0,
        lo=1.0,
        hi=100.0,
        step=1.0,
        label="Imbalance",
        help="Size of the largest class divided by that of the smallest.",
    )


def class_shares(n_classes: int, imbalance: float) -> NDArray[np.float64]:
    """Return shares that fall geometrically from the first class to the last.

    The ratio of the first to the last is ``imbalance`` (Cui et al. 2019, *Class-Balanced
    Loss Based on Effective Number of Samples*, section 5.1).
    """
    weights = float(imbalance) ** -np.linspace(0.0, 1.0, n_classes)
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def class_counts(n: int, n_classes: int, imbalance: float) -> Indices:
    """Return the number of examples per class, rounded so that they sum to ``n``.

    The remainder of rounding down goes to the classes that lost most by it; every class has at
    least one example.
    """
    exact = class_shares(n_classes, imbalance) * n
    counts = np.maximum(np.floor(exact), 1).astype(np.int64)
    for label in np.argsort(counts - exact, kind="stable")[: max(n - counts.sum(), 0)]:
        counts[label] += 1
    return counts


def pick_per_class(labels: Indices, counts: Indices, rng: np.random.Generator) -> Indices:
    """Return sorted indices of a random subset with ``counts[k]`` examples of class k.

    Raises:
        ValueError: A class has fewer examples than requested.
    """
    subsets = []
    for label, count in enumerate(counts):
        own = np.flatnonzero(labels == label)
        if len(own) < count:
            raise ValueError(f"class {label} has {len(own)} examples, but {count} are requested")
        subsets.append(rng.choice(own, count, replace=False))
    return np.sort(np.concatenate(subsets))


def duplicate_examples(labels: Indices, share: float, rng: np.random.Generator) -> Indices:
    """Return the source index of each example, with duplicates; class sizes do not change.

    ``round(share * n)`` examples are replaced by a copy of another example of the same class;
    fewer if a class would otherwise have no original left.
    """
    source = np.arange(len(labels))
    _, firsts = np.unique(labels, return_index=True)
    free = np.setdiff1d(source, firsts)
    copies = rng.choice(free, min(round(share * len(labels)), len(free)), replace=False)
    is_copy = np.zeros(len(labels), dtype=np.bool_)
    is_copy[copies] = True
    for label in np.unique(labels):
        own = labels == label
        originals = np.flatnonzero(own & ~is_copy)
        source[own & is_copy] = rng.choice(originals, int((own & is_copy).sum()))
    return source


def flip_labels(
    labels: Indices, share: float, n_classes: int, rng: np.random.Generator
) -> tuple[Indices, NDArray[np.bool_]]:
    """Return labels of which ``round(share * n)`` are wrong, and a mask of the wrong ones.

    A wrong label is drawn uniformly from the other classes.
    """
    wrong = rng.choice(len(labels), round(share * len(labels)), replace=False)
    flipped = labels.copy()
    flipped[wrong] = (labels[wrong] + rng.integers(1, n_classes, len(wrong))) % n_classes
    is_wrong = np.zeros(len(labels), dtype=np.bool_)
    is_wrong[wrong] = True
    return flipped, is_wrong
