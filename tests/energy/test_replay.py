from __future__ import annotations

import math

import numpy as np
import pytest

from effcore.energy.meter import RunMeter
from effcore.energy.sources.base import SOURCES, EnergyUnavailable
from effcore.energy.sources.replay import ReplaySource
from effcore.records import EnergyQuality
from tests.energy.scripted import Clock

#: t_s, power_w, energy_j: ten seconds at 20 W, the power missing once.
TRACE = np.array(
    [np.arange(0.0, 10.5, 0.5), [math.nan] + [20.0] * 20, 500.0 + np.arange(0.0, 210.0, 10.0)]
)


class Still(ReplaySource):
    """Read by the test only: its meter's thread practically never wakes."""

    hz = 1e-6


def test_a_trace_is_played_in_its_own_time_and_called_recorded() -> None:
    clock = Clock()
    run = RunMeter(Still(TRACE, "GPU board of a test bench", clock), clock)
    run.start()
    for clock.now in (0.7, 5.0, 9.9):
        run.sample()
    energy = run.stop()
    assert (energy.joules, energy.seconds) == (190.0, 9.5)  # the last row that was due
    assert energy.quality is EnergyQuality.RECORDED
    assert str(energy) == "190.0 J RECORDED · GPU board of a test bench · recorded trace"
    rows = run.table.view()
    assert math.isnan(rows[1, 0])
    assert set(rows[1, 1:]) == {20.0}


def test_between_rows_the_last_one_stands_with_its_own_time() -> None:
    clock = Clock()
    source = ReplaySource(TRACE, "a bench", clock)
    clock.now = 1.4
    reading = source.read()
    assert (reading.t_mono, reading.energy_j, reading.power_w) == (1.0, 520.0, 20.0)


@pytest.mark.parametrize("now", [-0.1, 10.1])
def test_outside_of_the_recording_nothing_is_made_up(now: float) -> None:
    clock = Clock()
    source = ReplaySource(TRACE, "a bench", clock)
    clock.now = now
    with pytest.raises(EnergyUnavailable, match="covers 0 to 10 s"):
        source.read()


def test_a_recorded_reset_voids_the_window_as_a_real_one_does() -> None:
    trace = TRACE.copy()
    trace[2, 10:] -= 400.0
    clock = Clock()
    run = RunMeter(Still(trace, "a bench", clock), clock)
    run.start()
    clock.now = 8.0
    assert run.stop().quality is EnergyQuality.UNAVAILABLE


def test_no_run_finds_a_recording() -> None:
    assert "replay" not in SOURCES.ids()
    assert ReplaySource not in list(SOURCES)
    for device in ("cpu", "cuda", "cuda:1"):
        with pytest.raises(EnergyUnavailable, match="does not show the present energy of"):
            ReplaySource.open(device)


def changed(row: int, column: int, value: float) -> np.ndarray:
    trace = TRACE.copy()
    trace[row, column] = value
    return trace


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        (TRACE[:2], r"shape \(2, 21\): expected \(3, rows\)"),
        (TRACE[:, :0], "expected"),
        (TRACE[0], "shape"),
        (changed(0, 3, 1.0), "times of trace do not rise"),
        (changed(0, 3, math.nan), "times of trace do not rise"),
        (changed(2, 3, math.nan), "an estimate has no values to record"),
    ],
)
def test_a_trace_that_is_none_is_refused(trace: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReplaySource(trace, "a bench")


def test_the_trace_is_the_sources_own() -> None:
    trace = TRACE.copy()
    source = ReplaySource(trace, "a bench", Clock())
    trace[2] = 0.0
    assert source.read().energy_j == 500.0
