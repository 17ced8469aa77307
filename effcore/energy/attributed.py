"""A run's joules by phase, from its own tables: attributed, never measured."""

from __future__ import annotations

import numpy as np

from effcore.energy.phases import MIN_INTERVALS, PhaseAttributor, PhaseEnergy
from effcore.events import PHASES, POWER_COLUMNS, Quality, Snapshot

#: Qualities whose joules come from a counter; an estimate knows nothing of phases.
_COUNTED = (Quality.MEASURED, Quality.MODELLED, Quality.RECORDED)


def phase_energies(look: Snapshot) -> tuple[PhaseEnergy, ...]:
    """Return the joules of each phase and of the time in none, in their order.

    The counter's gains between readings are regressed on the seconds that each phase had in
    them. Readings are a tenth of a second apart and the counter steps no more often, so that
    the intervals are wider than those of steps that were timed themselves.

    Args:
        look: The run.

    Returns:
        Nothing where no counter was read, or for too short a time.
    """
    power, phases = look.power, look.phases
    if look.energy.quality not in _COUNTED or phases.shape[1] < 2 or power.shape[1] < 2:
        return ()
    seconds, joules = power[0], power[POWER_COLUMNS.index("energy_j")]
    known = np.isfinite(joules) & (seconds >= phases[0, 0]) & (seconds <= phases[0, -1])
    seconds, joules = seconds[known], joules[known]
    steps = np.flatnonzero(np.diff(joules, prepend=-np.inf) > 0)
    if len(steps) <= MIN_INTERVALS:
        return ()
    times = seconds[steps]
    columns = [np.diff(np.interp(times, phases[0], each)) for each in phases[1:]]
    found = PhaseAttributor(PHASES)
    found.add_intervals(np.diff(times), np.column_stack(columns), np.diff(joules[steps]))
    return found.attribute()
