"""Whole runs over the fake library: totals within the table of errors, the right quality.

Nothing waits: the fake's time is the meter's.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import pynvml
import pytest

from effcore.energy.meter import MAX_FAILURES, MeterWindow, RunMeter
from effcore.energy.sources.base import SHARED_USE_UNKNOWN
from effcore.energy.sources.nvml import REASONS_AND_REMEDIES, NvmlSource
from effcore.energy.window import COUNTER_STOPPED_REASON, EDGE_ERRORS_S
from effcore.impact.saving_text import NOT_MEASURED, EnergyClaim
from effcore.records import EnergyQuality
from tests.energy.fake_nvml import UUID, FakeNvml, install
from tests.energy.nvml_runs import (
    COUNTER,
    EVERY_CODE,
    FIELDS,
    bursty,
    constant,
    idle,
    nvml_run,
    spikes,
    square,
)

#: Window, s -> 95th percentile of the relative error with timed edges and refreshes of
#: 100 ms (simulated bursts).
TABLE = {0.25: 0.048, 1.0: 0.016, 5.0: 0.003, 30.0: 0.0006}
#: The same of bursts that last as long as the refresh itself: nothing tells when between two
#: steps the power was drawn. 100 ms of 600 W in every 400 ms, 80 W else,
#: can put an edge out by a quarter of 520 W times 100 ms.
IN_STEP = {0.25: 0.25, 1.0: 0.058, 5.0: 0.012, 30.0: 0.0006}
WORST_EDGE_J = (600 - 80) * 0.1 / 4
LENGTH_S = 75.0
TRACES = {
    "constant": constant,
    "idle": idle,
    "bursty": bursty(LENGTH_S),
    "square": square,
}


def errors_by_window(
    watts: Callable[[float], float],
    refresh_s: float,
    monkeypatch: pytest.MonkeyPatch,
    length_s: float = LENGTH_S,
    windows_s: Sequence[float] = tuple(TABLE),
) -> dict[float, list[float]]:
    """Meter many windows that begin anywhere; return their errors, relative to the mean."""
    draw, errors = random.Random(1), defaultdict(list)
    fake = FakeNvml(watts, refresh_s, phase_s=0.0313)
    with nvml_run(fake, monkeypatch) as run:
        begins = [(draw.uniform(1, length_s - w - 1), w) for w in windows_s for _ in range(30)]
        edges = sorted([(t, i) for i, (t, _) in enumerate(begins)]
                       + [(t + w, i) for i, (t, w) in enumerate(begins)])  # fmt: skip
        spans: dict[int, MeterWindow] = {}
        for t, i in edges:
            run.until(t)
            if i in spans:
                run.meter.end(spans[i])
            else:
                spans[i] = run.meter.begin(str(i))
        run.until(length_s)
        for i, (t, window_s) in enumerate(begins):
            found_j = spans[i].totals.with_settled_edges().energy_j
            typical_j = run.true_j(0.0, length_s) * window_s / length_s
            error_j = found_j - run.true_j(t, t + window_s)
            errors[window_s].append(abs(error_j) / typical_j)
            assert (spans[i].energy().joules is None) is (window_s < 0.5)
    return errors


@pytest.mark.parametrize("refresh_s", [0.02, 0.1])
@pytest.mark.parametrize("trace", TRACES)
def test_windows_are_within_the_table_of_errors(
    trace: str, refresh_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = IN_STEP if (trace, refresh_s) == ("square", 0.1) else TABLE
    errors = errors_by_window(TRACES[trace], refresh_s, monkeypatch)
    for window_s, allowed in table.items():
        assert float(np.quantile(errors[window_s], 0.95)) <= allowed, (window_s, allowed)
        if table is IN_STEP:  # two edges, and looks 5 ms apart
            assert max(errors[window_s]) * window_s * 210 <= 2 * (WORST_EDGE_J + 0.005 * 520)


def test_loads_as_short_as_the_steps_are_within_the_interval_of_their_windows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors = errors_by_window(spikes, 0.1, monkeypatch, 12.0, (0.6, 1.0, 5.0))
    usual, worst = (
        {window_s: error_s / window_s for window_s in errors} for error_s in EDGE_ERRORS_S
    )
    for window_s, off in errors.items():
        assert usual[window_s] < float(np.quantile(off, 0.95)) <= worst[window_s], window_s


@pytest.mark.parametrize("refresh_s", [0.02, 0.1])
@pytest.mark.parametrize("trace", TRACES)
def test_a_run_is_measured_and_agrees_with_its_power(
    trace: str, refresh_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeNvml(TRACES[trace], refresh_s)
    fake.t = 2.0137
    with nvml_run(fake, monkeypatch) as run:
        run.until(22.0)
        energy, true_j = run.stop()
    assert energy.joules == pytest.approx(true_j, rel=0.002)
    edges = EDGE_ERRORS_S[1] / energy.seconds
    assert energy.lo == pytest.approx(true_j * (0.95 - edges), rel=0.002)
    assert energy.hi == pytest.approx(true_j * (1.05 + edges), rel=0.002)
    assert energy.quality is EnergyQuality.MEASURED
    assert energy.crosscheck == pytest.approx(1.0, abs=0.01)
    assert not any("timed" in note for note in energy.notes)
    assert (energy.device_uuid, energy.contended) == (f"GPU-{UUID}", False)
    assert energy.max_gap_s < 0.11
    assert 180 <= energy.ticks <= 1000
    assert str(energy).endswith(" J MEASURED · GPU board NVIDIA Fake · NVML energy counter")


@pytest.mark.parametrize("gain", [0.572, 0.96, 1.04])  # the first is 187 J of 327 J
def test_a_counter_that_power_contradicts_is_suspect(
    gain: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeNvml(constant)
    fake.gain = gain
    with nvml_run(fake, monkeypatch) as run:
        run.until(9.0)
        assert run.meter.energy().quality is EnergyQuality.MEASURED  # too short to tell
        run.until(12.0)
        energy, true_j = run.stop()
    assert energy.quality is EnergyQuality.SUSPECT
    assert energy.crosscheck == pytest.approx(gain, abs=0.005)
    assert energy.joules == pytest.approx(gain * true_j, rel=0.002)
    assert any("counter and power disagree" in note for note in energy.notes)


def test_power_of_nothing_beside_a_counter_that_counts_is_suspect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeNvml(constant)
    monkeypatch.setattr(fake, "mean_mw", lambda seconds: 0)
    with nvml_run(fake, monkeypatch) as run:
        run.until(12.0)
        energy, true_j = run.stop()
    assert energy.quality is EnergyQuality.SUSPECT
    assert energy.joules == pytest.approx(true_j, rel=0.002)
    assert any("average power 0 J" in note for note in energy.notes)


def test_a_counter_that_is_a_little_out_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml(constant)
    fake.gain = 0.98
    with nvml_run(fake, monkeypatch) as run:
        run.until(12.0)
        assert run.stop()[0].quality is EnergyQuality.MEASURED


@pytest.mark.parametrize("call", ["field", FIELDS])
def test_an_old_gpu_is_measured_and_says_that_it_was_not_checked(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeNvml(constant)
    if call == FIELDS:
        fake.absent = {FIELDS}
    else:
        fake.field_codes = {pynvml.NVML_FI_DEV_POWER_AVERAGE: pynvml.NVML_ERROR_NOT_SUPPORTED}
    with nvml_run(fake, monkeypatch) as run:
        run.until(12.0)
        energy, true_j = run.stop()
    assert energy.joules == pytest.approx(true_j, rel=0.002)
    assert (energy.quality, energy.crosscheck) == (EnergyQuality.MEASURED, None)
    assert any("not cross-checked" in note for note in energy.notes)


def test_any_error_of_the_counter_in_mid_run_ends_the_metering_and_not_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for code in EVERY_CODE:
        fake = FakeNvml(constant)
        with nvml_run(fake, monkeypatch) as run:
            run.until(6.0)
            fake.codes = {COUNTER: code}
            run.until(6.5)
            tries = fake.calls.count(COUNTER)
            run.until(20.0)
            assert fake.calls.count(COUNTER) == tries  # it is left alone
            energy, _ = run.stop()
        assert energy.quality is EnergyQuality.UNAVAILABLE
        assert (energy.joules, energy.lo, energy.hi) == (None, None, None)
        reason = REASONS_AND_REMEDIES.get(code, ("NVML answered: ", ""))[0]
        assert energy.notes[0].startswith(f"{MAX_FAILURES} readings in a row failed: {reason}")
        assert energy.seconds == pytest.approx(20.0)


def test_a_passing_error_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for code in EVERY_CODE:
        fake = FakeNvml(constant)
        with nvml_run(fake, monkeypatch) as run:
            run.until(3.0)
            fake.codes = {COUNTER: code}
            run.until(3.15)
            fake.codes = {}
            run.until(6.0)
            energy, true_j = run.stop()
        assert energy.joules == pytest.approx(true_j, rel=0.005)
        assert any("readings failed" in note for note in energy.notes)
        assert energy.quality is EnergyQuality.MEASURED


EVERYTHING_ELSE = [
    FIELDS, "nvmlDeviceGetPowerUsage", "nvmlDeviceGetTemperature", "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetClockInfo", "nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons",
    "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2",
    "nvmlDeviceGetProcessUtilization",
]  # fmt: skip


def test_any_error_of_anything_else_costs_no_joules(monkeypatch: pytest.MonkeyPatch) -> None:
    for code in EVERY_CODE:
        fake = FakeNvml(constant)
        with nvml_run(fake, monkeypatch) as run:
            run.until(2.0)
            fake.codes = dict.fromkeys(EVERYTHING_ELSE, code)
            run.until(8.0)
            energy, true_j = run.stop()
        assert energy.joules == pytest.approx(true_j, rel=0.002)
        assert energy.quality is EnergyQuality.MEASURED
        assert not energy.contended


def test_any_error_at_the_start_leaves_a_meter_that_says_why() -> None:
    for code in EVERY_CODE:
        fake = FakeNvml(constant)
        fake.codes = {COUNTER: code}
        with install(fake):
            meter = RunMeter.open("cuda", lambda: 0.0)
            meter.start()
            energy = meter.stop()
        assert energy.quality is EnergyQuality.UNAVAILABLE
        reason = REASONS_AND_REMEDIES.get(code, ("NVML answered: ", ""))[0]
        assert f"{NvmlSource.title}: {reason}" in energy.notes[0]
        assert fake.users == 0


def test_a_driver_reload_voids_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml(constant)
    with nvml_run(fake, monkeypatch) as run:
        run.until(6.0)
        fake.base_mj = -1_000_000  # the counter starts anew, and the load goes on
        run.until(12.0)
        energy, _ = run.stop()
        rows = run.meter.table.view()
    assert (energy.quality, energy.joules) == (EnergyQuality.UNAVAILABLE, None)
    assert "the counter fell" in energy.notes[0]
    assert np.isnan(rows[4, -1])
    assert rows[1, -1] == 200.0  # power is still worth drawing


@pytest.mark.parametrize(("phases", "looks"), [(False, 10.1), (True, 45)])
def test_the_lanes_keep_their_rates(
    phases: bool, looks: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeNvml(bursty(70))
    with nvml_run(fake, monkeypatch, phases) as run:
        run.until(5.0)
        fake.calls.clear()
        run.until(65.0)
        per_s = {name: fake.calls.count(name) / 60 for name in set(fake.calls)}
        timed = run.meter.counter_updates().shape[1]
    assert per_s[FIELDS] == pytest.approx(10, rel=0.02)
    assert per_s[COUNTER] <= looks
    assert (timed > 640) is phases
    assert per_s["nvmlDeviceGetTemperature"] == pytest.approx(1, rel=0.02)
    assert per_s["nvmlDeviceGetComputeRunningProcesses_v3"] <= 0.2


def test_throttling_and_foreign_processes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml(constant)
    with nvml_run(fake, monkeypatch) as run:
        run.until(5.5)
        fake.throttle = pynvml.nvmlClocksThrottleReasonSwPowerCap
        fake.pids = [77]
        run.until(9.5)
        fake.throttle, fake.pids = 0, []
        run.until(15.0)
        state = run.meter.state()
        energy, _ = run.stop()
    assert energy.contended is False  # 77 came and went between two looks, 5 s apart
    assert energy.throttled_s == pytest.approx(4.0, abs=1.0)
    assert state is not None
    assert state.power_limit_w == 700.0


def test_what_a_board_does_not_tell_is_in_no_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for absent in (set(), {*EVERYTHING_ELSE[7:]}):
        fake = FakeNvml(constant)
        fake.absent = absent
        with nvml_run(fake, monkeypatch) as run:
            run.until(6.0)
            found.append(dict(EnergyClaim(run.stop()[0]).items()))
    told, silent = found
    assert (told["Other users"], told["Clock throttling"]) == ("none seen", "never seen")
    assert silent["Other users"].startswith(SHARED_USE_UNKNOWN)
    assert silent["Clock throttling"] == NOT_MEASURED


def test_a_counter_that_stands_still_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml(constant)
    fake.gain = 0.0
    with nvml_run(fake, monkeypatch) as run:
        run.until(6.0)
        energy, _ = run.stop()
    assert (energy.quality, energy.joules, energy.hi) == (EnergyQuality.UNAVAILABLE, None, None)
    assert energy.notes[0] == COUNTER_STOPPED_REASON


def test_a_foreign_process_makes_the_run_contended(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml(constant)
    with nvml_run(fake, monkeypatch) as run:
        run.until(4.0)
        fake.pids = [77]
        run.until(6.0)
        fake.pids = []
        run.until(8.0)
        energy, true_j = run.stop()
    assert energy.contended
    assert any(note.startswith("process 77 computed on this board too") for note in energy.notes)
    assert energy.joules == pytest.approx(true_j, rel=0.002)  # of the board


def test_pauses_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml(bursty(60))
    with nvml_run(fake, monkeypatch) as run:
        true_j = 0.0
        for since_s in (0.0, 10.05, 20.1, 30.15):
            run.until(since_s)
            run.meter.resume()
            run.until(since_s + 8.0)
            run.meter.pause()
            true_j += run.true_j(since_s, since_s + 8.0)
        run.until(40.0)
        energy = run.meter.stop()
    assert energy.joules == pytest.approx(true_j, rel=0.002)
    assert energy.seconds == pytest.approx(32.0)
    assert energy.crosscheck == pytest.approx(1.0, abs=0.01)
    assert energy.quality is EnergyQuality.MEASURED
