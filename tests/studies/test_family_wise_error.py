"""How often a table of 15 policies shows something that is not so."""

from __future__ import annotations

import numpy as np
import pytest

from effcore.studies.verdict import MIN_SEEDS_SEVERAL_ARMS, Outcome, judge_arms

TABLES, POLICIES, MARGIN = 2000, 15, 0.5


@pytest.mark.slow
def test_no_more_than_one_table_in_twenty_shows_what_is_not_so() -> None:
    """Every policy is truly worse than D100 by exactly the margin, and as good as D-B."""
    rng, seeds = np.random.default_rng(0), MIN_SEEDS_SEVERAL_ARMS
    shared = rng.normal(95.0, 0.5, (TABLES, 1, seeds))
    values = shared - MARGIN + rng.normal(0.0, 0.3, (TABLES, POLICIES + 2, seeds))
    values[:, 0] += MARGIN
    noninferior = superior = wins = worse = 0
    for full, matched, *own in values.tolist():
        arms = {str(place): each for place, each in enumerate(own)}
        found = judge_arms(arms, full, matched, MARGIN)
        noninferior += any(each.noninferior for each in found)
        superior += any(each.superior for each in found)
        wins += any(each.outcome is Outcome.WIN for each in found)
        worse += any(each.against_full.is_worse for each in found)
    assert noninferior / TABLES <= 0.05
    assert superior / TABLES <= 0.025
    assert worse / TABLES <= 0.025
    assert wins / TABLES <= 0.05
