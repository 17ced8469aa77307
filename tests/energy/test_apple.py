from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from effcore.energy.meter import RunMeter
from effcore.energy.sources.apple import AppleSource
from effcore.energy.sources.base import EnergyUnavailable
from effcore.records import EnergyQuality
from tests.energy.scripted import Clock

MODULE = "zeus_apple_silicon"


class FakeMonitor:
    """What the package's monitor gives: integers in mJ, or ``None`` for what a chip lacks."""

    def __init__(self) -> None:
        self.cpu_total_mj: int | None = 7_000_000
        self.dram_mj: int | None = 1_000_000
        self.gpu_mj = 99_000_000
        self.broken: Exception | None = None

    def get_cumulative_energy(self) -> SimpleNamespace:
        if self.broken is not None:
            raise self.broken
        names = ("cpu_total_mj", "dram_mj", "gpu_mj")
        return SimpleNamespace(**{name: getattr(self, name) for name in names})


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> FakeMonitor:
    fake = FakeMonitor()
    module = SimpleNamespace(AppleEnergyMonitor=lambda: fake)
    monkeypatch.setitem(sys.modules, MODULE, module)
    return fake


class Still(AppleSource):
    """Read by the test only: its meter's thread practically never wakes."""

    hz = 1e-6


def refusal(device: str = "cpu") -> EnergyUnavailable:
    with pytest.raises(EnergyUnavailable) as caught:
        AppleSource.open(device)
    return caught.value


def test_cpu_and_memory_add_and_the_gpu_does_not(monitor: FakeMonitor) -> None:
    clock = Clock()
    run = RunMeter(Still(monitor, clock), clock)
    run.start()
    clock.now, monitor.cpu_total_mj, monitor.dram_mj = 10.0, 7_080_000, 1_020_000
    monitor.gpu_mj = 200_000_000
    energy = run.stop()
    edges = 0.12 / 10.0  # a step that was not timed
    assert energy.joules == pytest.approx(100.0)
    assert (energy.lo, energy.hi) == pytest.approx((75.0 - 100 * edges, 125.0 + 100 * edges))
    assert energy.quality is EnergyQuality.MODELLED
    assert str(energy) == "100.0 J MODELLED · Apple CPU + memory · Apple energy model (IOReport)"
    assert "±25% is an allowance: its error is not known" in energy.notes
    assert run.table.view()[1, -1] == 10.0
    # A step of the counter that was not timed lies within these 10 s, or does not.
    assert run.table.view()[2:4, -1] == pytest.approx([9.88 * 0.75, 10.12 * 1.25])


@pytest.mark.parametrize("dram_mj", [None, 0])
def test_where_there_is_no_memory_it_is_not_claimed(
    monitor: FakeMonitor, dram_mj: int | None
) -> None:
    monitor.dram_mj = dram_mj
    source = AppleSource.open("cpu")
    assert (source.scope, source.read().energy_j) == ("Apple CPU", 7000.0)
    monitor.dram_mj = 5_000_000  # a part that appears in mid-run is no energy of the run
    assert source.read().energy_j == 7000.0
    source.close()


def test_a_part_that_goes_missing_is_a_failed_reading(monitor: FakeMonitor) -> None:
    source = AppleSource.open("cpu")
    monitor.dram_mj = None
    with pytest.raises(EnergyUnavailable, match="no longer reports all of cpu_total_mj, dram_mj"):
        source.read()


@pytest.mark.parametrize("cpu_mj", [None, 0])
def test_a_cpu_without_energy_is_refused(monitor: FakeMonitor, cpu_mj: int | None) -> None:
    monitor.cpu_total_mj = cpu_mj
    assert "no CPU energy for this chip" in refusal().reason


@pytest.mark.parametrize("fault", [RuntimeError("no subscription"), ValueError("unit: fJ")])
def test_a_package_that_fails_is_a_refusal(monitor: FakeMonitor, fault: Exception) -> None:
    monitor.broken = fault
    found = refusal()
    assert str(fault) in found.reason
    assert "--upgrade" in found.remedy


def test_another_api_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULE, SimpleNamespace())
    assert "does not answer as expected" in refusal().reason


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)
    found = refusal()
    assert "not installed" in found.reason
    assert "pip install 'effcore[apple]'" in found.remedy


def test_a_run_on_a_gpu_does_not_even_look_for_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = SimpleNamespace()  # whose monitor would be missed, were it asked for
    monkeypatch.setitem(sys.modules, MODULE, module)
    assert "does not cover" in refusal("cuda").reason
