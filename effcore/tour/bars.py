"""The bars of a race: computation, time and energy of both runs, on the scale of the dense one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from effcore.energy.arithmetic import has_joules
from effcore.events import STEP_COLUMNS, Energy, RunStatus, Snapshot
from effcore.impact.ranges import si_text
from effcore.stream.status import clock

#: Below this share of a run nobody knows yet what it will come to.
_SURE: Final = 0.01
_NOTHING: Final = "–"


class Bar(NamedTuple):
    """One run's part of a row.

    Attributes:
        text: The amount with its unit; of joules with their quality.
        lo: Where it ends, as a share of the width; of an interval the lower end.
        hi: The upper end: above ``lo`` a band is drawn from one to the other, and no bar.
    """

    text: str
    lo: float
    hi: float


class Row(NamedTuple):
    """One amount of both runs.

    Attributes:
        name: What it is an amount of.
        note: What must be known to read it.
        dense: The dense run's.
        efficient: The efficient run's.
    """

    name: str
    note: str
    dense: Bar
    efficient: Bar


def rows(dense: Snapshot, efficient: Snapshot) -> list[Row]:
    """Return the rows; joules that are not known alike of both are in none.

    The whole width is what dense training takes in all, or the efficient run if that is more.
    """
    result = [
        _row("Computation", "choosing included", _flops, dense, efficient),
        _row("Time", "", _time, dense, efficient),
    ]
    to_come = not has_joules(efficient.energy) and not efficient.status.final
    if has_joules(dense.energy) and (to_come or comparable(dense.energy, efficient.energy)):
        result.append(_row("Energy", dense.energy.quality.value, _joules, dense, efficient))
    return result


def comparable(own: Energy, other: Energy) -> bool:
    """Return whether joules are known of both, by the same instrument."""
    kinds = {(each.quality, each.source, each.scope) for each in (own, other)}
    return has_joules(own) and has_joules(other) and len(kinds) == 1


def _row(
    name: str, note: str, amount: Callable[[Snapshot], Bar], dense: Snapshot, efficient: Snapshot
) -> Row:
    mine, other = amount(dense), amount(efficient)
    whole = max(_in_all(dense, mine.hi), other.hi)
    return Row(name, note, _scaled(mine, whole), _scaled(other, whole))


def _in_all(look: Snapshot, so_far: float) -> float:
    """Return what a run comes to if it goes on as it did."""
    if look.status is RunStatus.FINISHED:
        return so_far
    return so_far / look.progress if look.progress >= _SURE else math.inf


def _scaled(amount: Bar, whole: float) -> Bar:
    if not whole > 0:
        return amount._replace(lo=0.0, hi=0.0)
    return amount._replace(lo=amount.lo / whole, hi=amount.hi / whole)


def _flops(look: Snapshot) -> Bar:
    spent = spent_by(look, "flops")
    return Bar(si_text(spent, "FLOP") if spent else _NOTHING, spent, spent)


def _time(look: Snapshot) -> Bar:
    seconds = spent_by(look, "seconds")
    return Bar(span(seconds) if seconds else _NOTHING, seconds, seconds)


def _joules(look: Snapshot) -> Bar:
    energy = look.energy
    if not has_joules(energy):
        return Bar(_NOTHING, 0.0, 0.0)
    if energy.joules is not None:
        return Bar(energy.short(), energy.joules, energy.joules)
    return Bar(energy.short(), energy.lo or 0.0, energy.hi or 0.0)


def spent_by(look: Snapshot, column: str) -> float:
    """Return the last value of a column of the step table; the end's, where there is one."""
    if look.end is not None:
        return look.end.flops_spent if column == "flops" else look.end.seconds
    steps = look.steps
    return float(steps[STEP_COLUMNS.index(column), -1]) if steps.shape[1] else 0.0


def span(seconds: float) -> str:
    """Return a duration as people say it."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{clock(seconds)} min"
