"""Ranking of examples whose labels are probably wrong, by their training dynamics."""

from __future__ import annotations

import numpy as np

from effcore.insight.example_filters import ExampleNumbers
from effcore.insight.example_history import ExampleStatistics


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
