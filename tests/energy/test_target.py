from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from effcore.energy.arithmetic import energy_to_target, seconds_to_target
from effcore.records import (
    EVAL_COLUMNS,
    POWER_COLUMNS,
    STEP_COLUMNS,
    Energy,
    EnergyQuality,
    RunStatus,
    Snapshot,
)
from effcore.testing.tiny_task import tiny_task
from tests.tiny_runs import tiny_config


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def look(metrics: list[float], energy: Energy, power: np.ndarray) -> Snapshot:
    """Return a run that was evaluated every 10 s."""
    evals = np.zeros((len(EVAL_COLUMNS), len(metrics)))
    evals[EVAL_COLUMNS.index("seconds")] = 10.0 * np.arange(len(metrics))
    evals[EVAL_COLUMNS.index("metric")] = metrics
    return Snapshot(
        run_id="a", config=tiny_config(), status=RunStatus.FINISHED, created_unix=0.0, start=None,
        end=None, progress=1.0, steps=np.zeros((len(STEP_COLUMNS), 0)), evals=evals, power=power,
        changes=(), energy=energy, exploratory=False,
    )  # fmt: skip


def table(points: bool) -> np.ndarray:
    """Return 40 s at 100 W for 20 s and 300 W after, the ends half and twice that."""
    time = np.linspace(0.0, 40.0, 401)
    joules = np.where(time < 20.0, 100.0 * time, 2000.0 + 300.0 * (time - 20.0))
    rows = {name: np.full(401, np.nan) for name in POWER_COLUMNS}
    rows |= {"seconds": time, "energy_lo_j": joules / 2, "energy_hi_j": 2 * joules}
    if points:
        rows |= {name: joules for name in ("energy_j", "energy_lo_j", "energy_hi_j")}
    return np.stack([rows[name] for name in POWER_COLUMNS])


MEASURED = Energy(8000.0, 7600.0, 8400.0, 40.0, EnergyQuality.MEASURED, "counter", "board")
ESTIMATED = Energy(None, 4000.0, 16000.0, 40.0, EnergyQuality.ESTIMATED, "model", "CPU")


def test_the_joules_are_those_up_to_the_first_evaluation_that_reached_it() -> None:
    run = look([0.1, 0.5, 0.8, 0.7, 0.9], MEASURED, table(points=True))
    found = energy_to_target(run, 0.75, higher_is_better=True)
    assert found is not None
    assert (found.joules, found.lo, found.hi) == pytest.approx((2000.0, 1900.0, 2100.0))
    assert found.seconds == 20.0
    assert found.quality is EnergyQuality.MEASURED
    assert "up to the first evaluation" in found.notes[-1]


def test_an_estimate_stays_an_interval() -> None:
    run = look([3.0, 2.0, 1.0], ESTIMATED, table(points=False))
    found = energy_to_target(run, 2.0, higher_is_better=False)
    assert found is not None
    assert found.joules is None
    assert (found.lo, found.hi) == pytest.approx((500.0, 2000.0))
    assert found.quality is EnergyQuality.ESTIMATED


def test_what_was_never_reached_or_never_metered_has_no_joules() -> None:
    run = look([0.1, 0.2], MEASURED, table(points=True))
    assert seconds_to_target(run, 0.3, higher_is_better=True) is None
    assert energy_to_target(run, 0.3, higher_is_better=True) is None
    nothing = Energy(None, None, None, 40.0, EnergyQuality.UNAVAILABLE, "none", "nothing")
    assert energy_to_target(replace(run, energy=nothing), 0.1, higher_is_better=True) is None
    empty = replace(run, power=np.zeros((len(POWER_COLUMNS), 0)))
    assert energy_to_target(empty, 0.1, higher_is_better=True) is None


def test_a_target_reached_at_once_has_no_joules_and_one_reached_soon_says_so() -> None:
    run = look([0.9, 0.95], MEASURED, table(points=True))
    evals = run.evals.copy()
    for seconds, told in ((0.2, False), (2.0, True)):
        evals[EVAL_COLUMNS.index("seconds"), 0] = seconds
        found = energy_to_target(replace(run, evals=evals.copy()), 0.5, higher_is_better=True)
        assert (found is not None) is told
        if found is not None:
            assert "a short window, 2.0 s" in found.notes
            assert (found.lo, found.hi) == pytest.approx((190.0, 210.0))
            # Of a counter that moves in steps the last one may be missing.
            for steps, missing in (({"ticks": 400}, 0.04), ({"step_s": 0.125}, 0.05)):
                stepping = replace(run, evals=evals.copy(), energy=replace(MEASURED, **steps))
                found = energy_to_target(stepping, 0.5, higher_is_better=True)
                assert found is not None
                ends = (190.0 * (1 - missing), 210.0 * (1 + missing))
                assert (found.lo, found.hi) == pytest.approx(ends)


def test_rows_that_are_far_apart_widen_the_interval() -> None:
    run = look([0.1, 0.5, 0.8], MEASURED, table(points=True)[:, ::80])  # every 8 s
    found = energy_to_target(run, 0.75, higher_is_better=True)
    assert found is not None
    assert found.joules is not None
    # At 16 s it was 1600 J, at 24 s 3200 J.
    assert (found.lo, found.hi) == pytest.approx((0.95 * 1600.0, 1.05 * 3200.0))
    assert 1600.0 < found.joules < 3200.0
