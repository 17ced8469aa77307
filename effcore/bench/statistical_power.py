"""Statistical power of the verdicts: how often they show a true effect, by number of seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from effcore.studies.verdict import NONINFERIORITY_ALPHA, SUPERIORITY_ALPHA

#: Rows and columns of the table: true differences and standard deviations, in margins.
TRUE_EFFECTS, SCATTERS, SEED_COUNTS = (-0.5, 0.0, 0.5), (0.25, 0.5, 1.0, 2.0), (6, 10, 20)


class PowerRow(NamedTuple):
    """Power of both tests with a number of seeds.

    Attributes:
        seeds: Paired seeds.
        scatter: Standard deviation of the paired difference between seeds, in margins.
        noninferior: Power of "as good as full training", by true difference.
        superior: Power of "better than same-budget training" at a true difference of one margin.
    """

    seeds: int
    scatter: float
    noninferior: tuple[float, ...]
    superior: float


def power_table(
    seeds: Sequence[int] = SEED_COUNTS,
    scatters: Sequence[float] = SCATTERS,
    effects: Sequence[float] = TRUE_EFFECTS,
) -> list[PowerRow]:
    """Return the power of both tests, from the noncentral t distribution.

    ``scatters`` are standard deviations of paired differences, and ``effects`` true differences
    from full training, both in margins.
    """
    return [
        PowerRow(
            n,
            scatter,
            tuple(
                detection_probability(effect + 1.0, scatter, n, NONINFERIORITY_ALPHA)
                for effect in effects
            ),
            detection_probability(1.0, scatter, n, SUPERIORITY_ALPHA),
        )
        for n in seeds
        for scatter in scatters
    ]


def detection_probability(distance: float, scatter: float, n: int, alpha: float) -> float:
    """Return the power of a one-sided t test for a true mean this far above the limit."""
    critical = stats.t.ppf(1.0 - alpha, n - 1)
    return float(stats.nct.sf(critical, n - 1, distance / scatter * np.sqrt(n)))


def power_table_text(rows: Sequence[PowerRow], effects: Sequence[float] = TRUE_EFFECTS) -> str:
    """Return the table as Markdown."""
    heads = [f"as good as full training, truly {effect:+g} margins" for effect in effects]
    lines = [
        f"| seeds | scatter in margins | {' | '.join(heads)} | better than same-budget training, "
        "truly +1 margin |",
        "|-" * (len(effects) + 3) + "|",
    ]
    for row in rows:
        chances = " | ".join(f"{chance:.0%}" for chance in (*row.noninferior, row.superior))
        lines.append(f"| {row.seeds} | {row.scatter:g} | {chances} |")
    return "\n".join(lines)
