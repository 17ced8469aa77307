from __future__ import annotations

import math
import os
import threading
from itertools import pairwise

import psutil
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from effcore.energy.meter import RunMeter
from effcore.energy.sources import cpu_estimate
from effcore.energy.sources.base import EnergyUnavailable
from effcore.energy.sources.cpu_estimate import (
    TDP_VARIABLE,
    CpuEstimateSource,
    store_tdp,
    stored_tdp_w,
    tdp_file,
)
from effcore.records import POWER_COLUMNS, EnergyQuality
from tests.energy.scripted import Clock


class Still(CpuEstimateSource):
    """Read by the test only: its meter's thread practically never wakes."""

    hz = 1e-6


def model(tdp_w: float, cores: int, wall: Clock, cpu: Clock) -> CpuEstimateSource:
    return Still(tdp_w, cores, "model", wall, cpu)


@pytest.mark.parametrize(("busy_cores", "watts"), [(0, 10), (1, 32.5), (4, 100)])
def test_power_interval_is_half_to_twice_the_model(busy_cores: float, watts: float) -> None:
    wall, cpu = Clock(), Clock()
    source = model(100, 4, wall, cpu)
    wall.now, cpu.now = 2.0, 2.0 * busy_cores
    reading = source.read()
    assert (reading.power_lo_w, reading.power_hi_w) == pytest.approx((watts / 2, watts * 2))
    assert (reading.energy_lo_j, reading.energy_hi_j) == pytest.approx((watts, watts * 4))
    assert math.isnan(reading.power_w)
    assert math.isnan(reading.energy_j)


def test_energy_adds_up_over_changing_load() -> None:
    wall, cpu = Clock(), Clock()
    source = model(20, 2, wall, cpu)
    for wall.now, cpu.now in [(1.0, 2.0), (3.0, 2.0), (4.0, 3.0)]:  # u = 1, 0, 0.5
        reading = source.read()
    assert reading.energy_lo_j == pytest.approx((20 + 2 * 2 + 11) / 2)
    assert reading.energy_hi_j == pytest.approx((20 + 2 * 2 + 11) * 2)


def test_two_readings_at_one_instant_leave_the_load_open() -> None:
    reading = model(100, 4, Clock(), Clock()).read()
    assert (reading.power_lo_w, reading.power_hi_w) == (5.0, 200.0)
    assert (reading.energy_lo_j, reading.energy_hi_j) == (0.0, 0.0)


def test_a_stated_tdp_is_used_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TDP_VARIABLE, "65")
    monkeypatch.setattr(cpu_estimate, "logical_cores", lambda: 8)
    source = CpuEstimateSource.open("cpu")
    assert source.source == "CPU-time model, TDP 65 W from EFFCORE_CPU_TDP_W, 8 logical cores"
    reading = source.read()
    assert 65 * 0.1 / 2 <= reading.power_lo_w < reading.power_hi_w <= 65 * 2


@pytest.mark.parametrize("stated", [None, ""])
def test_without_a_stated_tdp_there_are_no_joules(
    stated: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TDP_VARIABLE, raising=False)
    if stated is not None:
        monkeypatch.setenv(TDP_VARIABLE, stated)
    with pytest.raises(EnergyUnavailable, match="rated power is not stated") as refusal:
        CpuEstimateSource.open("cpu")
    assert TDP_VARIABLE in refusal.value.remedy


def test_a_power_stated_on_the_page_holds_until_it_is_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(TDP_VARIABLE)
    store_tdp(45)
    source = CpuEstimateSource.open("cpu").source
    assert source.startswith("CPU-time model, TDP 45 W as stated on the Energy page")
    monkeypatch.setenv(TDP_VARIABLE, "65")  # which wins
    assert "TDP 65 W from" in CpuEstimateSource.open("cpu").source
    monkeypatch.delenv(TDP_VARIABLE)
    store_tdp(None)
    store_tdp(None)
    with pytest.raises(EnergyUnavailable, match="state it on the Energy page"):
        CpuEstimateSource.open("cpu")


@pytest.mark.parametrize("watts", [0.0, -5, math.nan, math.inf, 2001])
def test_what_is_no_power_is_not_kept(watts: float) -> None:
    store_tdp(45)
    with pytest.raises(ValueError, match="is not allowed: expected watts from 1 to 2000"):
        store_tdp(watts)
    assert stored_tdp_w() == 45


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[45]", b'"45"', b"null", b"\xff\xfe", b'{"cpu_tdp_w": "45"}',
     b'{"cpu_tdp_w": NaN}', b'{"cpu_tdp_w": 1e9}', b'{"cpu_tdp_w": true}', b"[" * 100_000],
)  # fmt: skip
def test_a_damaged_file_states_nothing(content: bytes) -> None:
    tdp_file().parent.mkdir(parents=True, exist_ok=True)
    tdp_file().write_bytes(content)
    assert stored_tdp_w() is None


@pytest.mark.parametrize("text", ["a lot", "nan", "inf", "-65", "0", "65 W", "2001"])
def test_a_tdp_that_makes_no_sense_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TDP_VARIABLE, text)
    with pytest.raises(EnergyUnavailable) as refusal:
        CpuEstimateSource.open("cpu")
    assert f"{TDP_VARIABLE}={text!r}" in refusal.value.reason
    assert "from 1 to 2000" in refusal.value.reason
    assert "unset" in refusal.value.remedy


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_run_gets_no_cpu_estimate(device: str) -> None:
    with pytest.raises(EnergyUnavailable, match="does not cover"):
        CpuEstimateSource.open(device)


def test_cores_fall_back_where_there_is_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cpu_estimate.logical_cores() >= 1
    monkeypatch.delattr(psutil.Process, "cpu_affinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert cpu_estimate.logical_cores() == 12


SPANS = st.lists(
    st.tuples(st.floats(0, 100), st.floats(0, 2)), min_size=1, max_size=8
)  # (wall seconds, busy share of the cores; above 1 as clocks disagree)


@given(st.floats(1, 500), st.integers(1, 256), SPANS)
@example(65.0, 8, [(10.0, 0.5)])
def test_an_estimate_never_becomes_a_value(
    tdp_w: float, cores: int, spans: list[tuple[float, float]]
) -> None:
    wall, cpu = Clock(), Clock()
    meter = RunMeter(model(tdp_w, cores, wall, cpu), wall)
    meter.start()
    truth_j = 0.0
    for seconds, share in spans:
        wall.now += seconds
        cpu.now += seconds * share * cores
        truth_j += cpu_estimate.estimated_power_w(tdp_w, min(share, 1.0)) * seconds
        meter.sample()
    energy = meter.stop()
    assert energy.joules is None
    assert energy.quality is EnergyQuality.ESTIMATED
    assert "ESTIMATED" in str(energy)
    assert energy.seconds == pytest.approx(wall.now)
    assert (energy.lo is not None) is (energy.seconds >= 0.5)
    if energy.lo is not None and energy.hi is not None:
        assert energy.lo <= truth_j * (1 + 1e-9)
        assert energy.hi >= truth_j * (1 - 1e-9)
    rows = dict(zip(POWER_COLUMNS, meter.table.view(), strict=True))
    assert all(math.isnan(value) for name in ("power_w", "energy_j") for value in rows[name])
    assert all(a <= b for a, b in pairwise(rows["energy_lo_j"]))
    assert not [t for t in threading.enumerate() if t.name.startswith("power-")]
