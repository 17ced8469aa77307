"""How often each verdict is given for a true effect: what so many seeds can show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from effcore.verdict import NONINFERIOR_ALPHA, SUPERIOR_ALPHA

#: True differences and scatters of the paired differences that the table has, in margins.
EFFECTS, SCATTERS, SEEDS = (-0.5, 0.0, 0.5), (0.25, 0.5, 1.0, 2.0), (6, 10, 20)


class Power(NamedTuple):
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


def power(
    seeds: Sequence[int] = SEEDS,
    scatters: Sequence[float] = SCATTERS,
    effects: Sequence[float] = EFFECTS,
) -> list[Power]:
    """Return the power of both questions, from the noncentral t distribution.

    Args:
        seeds: Numbers of paired seeds.
        scatters: Standard deviations of paired differences, in margins.
        effects: True differences to full training, in margins.
    """
    return [
        Power(
            n,
            scatter,
            tuple(shown(effect + 1.0, scatter, n, NONINFERIOR_ALPHA) for effect in effects),
            shown(1.0, scatter, n, SUPERIOR_ALPHA),
        )
        for n in seeds
        for scatter in scatters
    ]


def shown(distance: float, scatter: float, n: int, alpha: float) -> float:
    """Return the chance that a one-sided t test shows a mean this far above its limit."""
    critical = stats.t.ppf(1.0 - alpha, n - 1)
    return float(stats.nct.sf(critical, n - 1, distance / scatter * np.sqrt(n)))


def power_text(rows: Sequence[Power], effects: Sequence[float] = EFFECTS) -> str:
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
