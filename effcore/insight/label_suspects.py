"""Which labels are probably wrong, by how the examples were learned."""

from __future__ import annotations

import numpy as np

from effcore.insight.example_filters import ExampleNumbers
from effcore.insight.example_history import ExampleStatistics


def rank_label_suspects(statistics: ExampleStatistics) -> ExampleNumbers:
    """Return the examples that have a confidence, the most suspect first.

    Those of the lowest mean confidence: a network learns what is like other examples before it
    learns the rest by heart, so that a wrong label is believed late or never. The order is that
    of Swayamdipta et al. 2020, *Dataset Cartography*, section 5; means over a run tell more than
    its end, by when much is known by heart.
    """
    known = np.flatnonzero(statistics.known_N)
    order: ExampleNumbers = known[np.argsort(statistics.confidence_N[known], kind="stable")]
    return order
