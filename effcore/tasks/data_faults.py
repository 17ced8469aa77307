"""Faults put into training data on purpose: wrong labels, repeated rows, rare classes.

Where selection wins or fails depends on them, so tasks offer them as settings. Only the
training split is touched; what models are judged on stays clean and balanced.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effcore.knobs import knob

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Faults:
    """How training data for classification is spoilt."""

    label_noise: float = knob(
        0.0,
        lo=0.0,
        hi=0.5,
        step=0.05,
        label="Label noise",
        help="Share of the training examples whose label is made wrong.",
    )
    redundancy: float = knob(
        0.0,
        lo=0.0,
        hi=0.95,
        step=0.05,
        label="Redundancy",
        help="Share of the training examples that are copies of others.",
    )
    imbalance: float = knob(
        1.0,
        lo=1.0,
        hi=100.0,
        step=1.0,
        label="Imbalance",
        help="How many times as common the most common class is as the rarest.",
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
    """Return whole numbers of examples by class that sum to ``n``, as near as can be.

    What rounding down leaves over goes to the classes that lost most by it; every class
    keeps at least one.
    """
    exact = class_shares(n_classes, imbalance) * n
    counts = np.maximum(np.floor(exact), 1).astype(np.int64)
    for place in np.argsort(counts - exact, kind="stable")[: max(n - counts.sum(), 0)]:
        counts[place] += 1
    return counts


def pick_per_class(labels: Indices, counts: Indices, rng: np.random.Generator) -> Indices:
    """Return which examples to keep so that class k has ``counts[k]`` of them, in order.

    Raises:
        ValueError: A class has fewer examples than are asked for.
    """
    kept = []
    for label, wanted in enumerate(counts):
        own = np.flatnonzero(labels == label)
        if len(own) < wanted:
            raise ValueError(f"class {label} has {len(own)} examples, {wanted} are asked for")
        kept.append(rng.choice(own, wanted, replace=False))
    return np.sort(np.concatenate(kept))


def duplicate_examples(labels: Indices, share: float, rng: np.random.Generator) -> Indices:
    """Return for each place whose example stands there; every class stays as common as it was.

    ``round(share * n)`` places hold a copy of an example of the same class that stands
    elsewhere; fewer only where every class would not keep one of its own.
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
    """Return labels of which ``round(share * n)`` are wrong, and which those are.

    A wrong label is any of the other classes, each as likely.
    """
    wrong = rng.choice(len(labels), round(share * len(labels)), replace=False)
    flipped = labels.copy()
    flipped[wrong] = (labels[wrong] + rng.integers(1, n_classes, len(wrong))) % n_classes
    marked = np.zeros(len(labels), dtype=np.bool_)
    marked[wrong] = True
    return flipped, marked
