"""Bars of a race: computation, time and energy of both runs, relative to full training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from effcore.energy.arithmetic import has_joules
from effcore.impact.ranges import si_text
from effcore.records import STEP_COLUMNS, Energy, RunStatus, Snapshot
from effcore.records.units import clock_text

#: Least progress of a run from which its total is extrapolated.
_MIN_FORECAST_PROGRESS: Final = 0.01
_NO_VALUE: Final = "–"


class RaceBar(NamedTuple):
    """One run's bar in a row.

    Attributes:
        text: The amount with its unit; for energy also the quality.
        lo: End of the bar as a share of the width; for an interval its lower end.
        hi: Upper end; if above ``lo``, a band from ``lo`` to ``hi`` is drawn in place of a bar.
    """

    text: str
    lo: float
    hi: float


class RaceRow(NamedTuple):
    """One quantity of both runs.

    Attributes:
        name: Name of the quantity.
        note: Note beside the name.
        dense: Full training's bar.
        efficient: The efficient run's bar.
    """

    name: str
    note: str
    dense: RaceBar
    efficient: RaceBar


def race_rows(dense: Snapshot, efficient: Snapshot) -> list[RaceRow]:
    """Return the rows; energy is included only if it can be compared.

    The full width is the total of full training, or the amount of the efficient run if that is
    larger.
    """
    result = [
        _race_row("Computation", "selection included", _flops_bar, dense, efficient),
        _race_row("Time", "", _time_bar, dense, efficient),
    ]
    energy_pending = not has_joules(efficient.energy) and not efficient.status.is_final
    if has_joules(dense.energy) and (
        energy_pending or energies_comparable(dense.energy, efficient.energy)
    ):
        result.append(
            _race_row("Energy", dense.energy.quality.value, _energy_bar, dense, efficient)
        )
    return result


def energies_comparable(own: Energy, other: Energy) -> bool:
    """Return whether both energies are known, with the same quality, instrument and scope."""
    kinds = {(energy.quality, energy.source, energy.scope) for energy in (own, other)}
    return has_joules(own) and has_joules(other) and len(kinds) == 1


def _race_row(
    name: str,
    note: str,
    amount: Callable[[Snapshot], RaceBar],
    dense: Snapshot,
    efficient: Snapshot,
) -> RaceRow:
    dense_bar, efficient_bar = amount(dense), amount(efficient)
    full_width = max(_expected_total(dense, dense_bar.hi), efficient_bar.hi)
    return RaceRow(
        name, note, _scale_bar(dense_bar, full_width), _scale_bar(efficient_bar, full_width)
    )


def _expected_total(snapshot: Snapshot, so_far: float) -> float:
    """Return a run's total, extrapolated from its progress."""
    if snapshot.status is RunStatus.FINISHED:
        return so_far
    return so_far / snapshot.progress if snapshot.progress >= _MIN_FORECAST_PROGRESS else math.inf


def _scale_bar(amount: RaceBar, full_width: float) -> RaceBar:
    if not full_width > 0:
        return amount._replace(lo=0.0, hi=0.0)
    return amount._replace(lo=amount.lo / full_width, hi=amount.hi / full_width)


def _flops_bar(snapshot: Snapshot) -> RaceBar:
    spent = spent_so_far(snapshot, "flops")
    return RaceBar(si_text(spent, "FLOP") if spent else _NO_VALUE, spent, spent)


def _time_bar(snapshot: Snapshot) -> RaceBar:
    seconds = spent_so_far(snapshot, "seconds")
    return RaceBar(duration_text(seconds) if seconds else _NO_VALUE, seconds, seconds)


def _energy_bar(snapshot: Snapshot) -> RaceBar:
    energy = snapshot.energy
    if not has_joules(energy):
        return RaceBar(_NO_VALUE, 0.0, 0.0)
    if energy.joules is not None:
        return RaceBar(energy.short_text(), energy.joules, energy.joules)
    return RaceBar(energy.short_text(), energy.lo or 0.0, energy.hi or 0.0)


def spent_so_far(snapshot: Snapshot, column: str) -> float:
    """Return the FLOPs or seconds spent: from the run's end, else from the step table."""
    if snapshot.end is not None:
        return snapshot.end.flops_spent if column == "flops" else snapshot.end.seconds
    steps = snapshot.steps
    return float(steps[STEP_COLUMNS.index(column), -1]) if steps.shape[1] else 0.0


def duration_text(seconds: float) -> str:
    """Return a duration as text, in seconds or minutes."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{clock_text(seconds)} min"
