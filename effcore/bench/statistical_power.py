"""How often each verdict is given for a true effect: what so many seeds can show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from effcore.studies.verdict import NONINFERIORITY_ALPHA, SUPERIORITY_ALPHA

#: True differences and scatters of the paired differences that the table has, in margins.
TRUE_EFFECTS, SCATTERS, SEED_COUNTS = (-0.5, 0.0, 0.5), (0.25, 0.5, 1.0, 2.0), (6, 10, 20)


class PowerRow(NamedTuple):
    """The chance of showing something with a number of seeds.

    Attributes:
        seeds: Paired seeds.
        scatter: Standard deviation of the paired difference between seeds, in margins.
        noninferior: By true difference to full training, in margins.
        superior: Where the true difference to the same compute is one margin.
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
    """Return the power of both questions, from the noncentral t distribution.

    Args:
        seeds: Numbers of paired seeds.
        scatters: Standard deviations of paired differences, in margins.
        effects: True differences to full training, in margins.
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
    """Return the chance that a one-sided t test shows a mean this far above its limit."""
    critical = stats.t.ppf(1.0 - alpha, n - 1)
    return float(stats.nct.sf(critical, n - 1, distance / scatter * np.sqrt(n)))


def power_table_text(rows: Sequence[PowerRow], effects: Sequence[float] = TRUE_EFFECTS) -> str:
    """Return the table as Markdown."""
    heads = [f"as good as all of it, truly {effect:+g} margins" for effect in effects]
    lines = [
        f"| seeds | scatter in margins | {' | '.join(heads)} | better than equal compute, truly "
        "+1 margin |",
        "|-" * (len(effects) + 3) + "|",
    ]
    for row in rows:
        chances = " | ".join(f"{chance:.0%}" for chance in (*row.noninferior, row.superior))
        lines.append(f"| {row.seeds} | {row.scatter:g} | {chances} |")
    return "\n".join(lines)
