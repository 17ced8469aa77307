"""The bars of a race: computation, time and energy of both runs, on the scale of the dense one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from effcore.energy.arithmetic import has_joules
from effcore.impact.ranges import si_text
from effcore.records import STEP_COLUMNS, Energy, RunStatus, Snapshot
from effcore.records.units import clock_text

#: Below this share of a run nobody knows yet what it will come to.
_MIN_FORECAST_PROGRESS: Final = 0.01
_NO_VALUE: Final = "–"


class RaceBar(NamedTuple):
    """One run's part of a row.

    Attributes:
        text: The amount with its unit; of joules with their quality.
        lo: Where it ends, as a share of the width; of an interval the lower end.
        hi: The upper end: above ``lo`` a band is drawn from one to the other, and no bar.
    """

    text: str
    lo: float
    hi: float


class RaceRow(NamedTuple):
    """One amount of both runs.

    Attributes:
        name: What it is an amount of.
        note: What must be known to read it.
        dense: The dense run's.
        efficient: The efficient run's.
    """

    name: str
    note: str
    dense: RaceBar
    efficient: RaceBar


def race_rows(dense: Snapshot, efficient: Snapshot) -> list[RaceRow]:
    """Return the rows; joules that are not known alike of both are in none.

    The whole width is what dense training takes in all, or the efficient run if that is more.
    """
    result = [
        _race_row("Computation", "choosing included", _flops_bar, dense, efficient),
        _race_row("Time", "", _time_bar, dense, efficient),
    ]
    to_come = not has_joules(efficient.energy) and not efficient.status.is_final
    if has_joules(dense.energy) and (
        to_come or energies_comparable(dense.energy, efficient.energy)
    ):
        result.append(
            _race_row("Energy", dense.energy.quality.value, _energy_bar, dense, efficient)
        )
    return result


def energies_comparable(own: Energy, other: Energy) -> bool:
    """Return whether joules are known of both, by the same instrument."""
    kinds = {(each.quality, each.source, each.scope) for each in (own, other)}
    return has_joules(own) and has_joules(other) and len(kinds) == 1


def _race_row(
    name: str,
    note: str,
    amount: Callable[[Snapshot], RaceBar],
    dense: Snapshot,
    efficient: Snapshot,
) -> RaceRow:
    mine, other = amount(dense), amount(efficient)
    whole = max(_expected_total(dense, mine.hi), other.hi)
    return RaceRow(name, note, _scale_bar(mine, whole), _scale_bar(other, whole))


def _expected_total(snapshot: Snapshot, so_far: float) -> float:
    """Return what a run comes to if it goes on as it did."""
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
    """Return the last value of a column of the step table; the end's, where there is one."""
    if snapshot.end is not None:
        return snapshot.end.flops_spent if column == "flops" else snapshot.end.seconds
    steps = snapshot.steps
    return float(steps[STEP_COLUMNS.index(column), -1]) if steps.shape[1] else 0.0


def duration_text(seconds: float) -> str:
    """Return a duration as people say it."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{clock_text(seconds)} min"
