"""Joules by phase from a run's stored tables: near the truth, labelled, and only from a counter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from effcore.energy.attributed import phase_energies
from effcore.energy.phases import NO_PHASE
from effcore.events import PHASE_COLUMNS, PHASES, POWER_COLUMNS, Energy, Quality, Snapshot
from effcore.tiny import tiny_task
from tests.energy.test_target import look

#: Watts of each phase, and of the time in none; about how long each lasts in a second.
WATTS = dict(zip((*PHASES, NO_PHASE), (90.0, 380.0, 450.0, 560.0, 320.0, 400.0, 70.0), strict=True))
SHARES = np.array([0.08, 0.1, 0.24, 0.4, 0.08, 0.06, 0.04])
METERED = Energy(1.0, 0.9, 1.1, 300.0, Quality.MEASURED, "counter", "board")


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def run(seconds: int = 300, energy: Energy = METERED) -> tuple[Snapshot, dict[str, float]]:
    """Return a run whose phases took the powers above, in shares that wander, and the truth."""
    draw = np.random.default_rng(0)
    n = seconds * 10
    spent = SHARES * draw.lognormal(0.0, 0.4, (n, len(SHARES)))
    spent = 0.1 * spent / spent.sum(1, keepdims=True)
    joules = spent @ np.array([*WATTS.values()])
    time = 0.1 * np.arange(1, n + 1)
    phases = np.vstack([time, np.cumsum(spent, 0).T[: len(PHASES)]])
    rows = {name: np.full(n, np.nan) for name in POWER_COLUMNS}
    rows |= {"seconds": time, "energy_j": np.cumsum(joules)}
    table = np.stack([rows[name] for name in POWER_COLUMNS])
    truth = dict(zip(WATTS, (spent[1:].sum(0) * [*WATTS.values()]).tolist(), strict=True))
    return replace(look([0.5], energy, table), phases=phases), truth


def test_the_joules_of_each_phase_are_near_the_truth_and_labelled() -> None:
    found, truth = run()
    energies = phase_energies(found)
    assert [each.phase for each in energies] == [*PHASES, NO_PHASE]
    for each in energies:
        assert each.joules is not None
        assert each.joules == pytest.approx(truth[each.phase], rel=0.02)
        assert each.lo <= each.joules <= each.hi
        assert str(each).endswith("ATTRIBUTED")


@pytest.mark.parametrize("quality", [Quality.ESTIMATED, Quality.SUSPECT, Quality.UNAVAILABLE])
def test_what_no_counter_vouches_for_is_not_attributed(quality: Quality) -> None:
    found, _ = run()
    assert phase_energies(replace(found, energy=replace(METERED, quality=quality))) == ()


def test_a_short_run_and_one_without_phases_have_none() -> None:
    assert phase_energies(run(seconds=5)[0]) == ()
    found, _ = run()
    assert phase_energies(replace(found, phases=np.empty((len(PHASE_COLUMNS), 0)))) == ()
