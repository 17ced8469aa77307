from __future__ import annotations

import math
import platform
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effcore.energy.meter import RunMeter
from effcore.energy.sources import rapl
from effcore.energy.sources.base import EnergyUnavailable, SharedUse
from effcore.energy.sources.rapl import (
    CpuProcessMonitor,
    RaplDomain,
    RaplSource,
    drop_mirrored_domains,
    find_domains,
    missing_counters_error,
    process_tree_cpu_s,
    read_cpu_counts,
    shared_use_from_cpu_time,
)
from effcore.records import EnergyQuality
from tests.energy.fake_powercap import RANGE_UJ, FakePowercap, deny
from tests.energy.scripted import Clock

# Counters ------------------------------------------------------------------------------


JOULE = 1_000_000


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePowercap:
    """An empty class folder, which the source takes for the machine's."""
    fake = FakePowercap(tmp_path / "powercap")
    monkeypatch.setattr(rapl, "POWERCAP_ROOT", fake.root)
    monkeypatch.setattr(rapl, "CPUINFO_PATH", tmp_path / "cpuinfo")
    return fake


class Still(RaplSource):
    """Read by the test only: its meter's thread practically never wakes."""

    hz = 1e-6


def opened(tree: FakePowercap, clock: Clock) -> RaplSource:
    return Still(drop_mirrored_domains(find_domains(tree.root)), wall=clock)


def laptop(tree: FakePowercap) -> None:
    """One package with what nests in it, what contains it, and the same by another road."""
    tree.add("intel-rapl:0", "package-0", 5 * JOULE)
    tree.add("intel-rapl:0:0", "core", 3 * JOULE)
    tree.add("intel-rapl:0:1", "uncore", 1 * JOULE)
    tree.add("intel-rapl:1", "psys", 9 * JOULE)
    tree.add("intel-rapl-mmio:0", "package-0", 5 * JOULE)
    (tree.root / "intel-rapl").mkdir()  # the control type itself, which is no domain


# What is summed --------------------------------------------------------------------------


def test_of_nested_domains_only_the_package_counts(tree: FakePowercap) -> None:
    laptop(tree)
    clock = Clock()
    source = opened(tree, clock)
    clock.now = 2.0
    for zone, joules in (("0", 25), ("0:0", 17), ("0:1", 8), ("1", 90)):
        tree.set(f"intel-rapl:{zone}", joules * JOULE)
    tree.set("intel-rapl-mmio:0", 25 * JOULE)
    assert source.read().energy_j == 20.0
    assert (source.scope, source.source) == ("CPU package", "RAPL counters package-0")
    assert any("memory," in note for note in source.notes), "it is said that memory is not in it"


def test_packages_and_memories_add_and_are_said_apart(tree: FakePowercap) -> None:
    for i in (0, 1):
        tree.add(f"intel-rapl:{i}", f"package-{i}", i * JOULE)
        tree.add(f"intel-rapl:{i}:0", "dram", 7 * JOULE)
    clock = Clock()
    source = opened(tree, clock)
    clock.now = 2.0
    for zone, joules in (("0", 10), ("1", 21), ("0:0", 8), ("1:0", 9)):
        tree.set(f"intel-rapl:{zone}", joules * JOULE)
    assert source.read().energy_j == pytest.approx(10 + 20 + 1 + 2)
    assert source.scope == "2 CPU packages + 2 memory domains (DRAM)"
    assert source.source == "RAPL counters package-0, package-1, DRAM"
    assert not any("memory," in note for note in source.notes)


def test_power_is_the_mean_since_the_last_reading(tree: FakePowercap) -> None:
    laptop(tree)
    clock = Clock()
    source = opened(tree, clock)
    assert math.isnan(source.read().power_w), "nothing passed yet"
    clock.now = 0.5
    tree.set("intel-rapl:0", 15 * JOULE)
    assert source.read().power_w == 20.0
    clock.now = 0.51
    tree.set("intel-rapl:0", 16 * JOULE)
    reading = source.read()
    assert math.isnan(reading.power_w), "so short a gap is all refresh"
    assert reading.energy_j == 11.0


# Wrap-around -----------------------------------------------------------------------------


def test_each_domain_wraps_on_its_own(tree: FakePowercap) -> None:
    tree.add("intel-rapl:0", "package-0", RANGE_UJ - 4 * JOULE)
    tree.add("intel-rapl:1", "package-1", 100 * JOULE, range_uj=2 * RANGE_UJ)
    tree.add("intel-rapl:1:0", "dram", 2 * RANGE_UJ - JOULE, range_uj=2 * RANGE_UJ)
    clock = Clock()
    source = opened(tree, clock)
    clock.now = 1.0
    tree.set("intel-rapl:0", 6 * JOULE)  # 10 J, through 0
    tree.set("intel-rapl:1", 120 * JOULE)
    tree.set("intel-rapl:1:0", 2 * JOULE)  # 3 J, through 0
    assert source.read().energy_j == pytest.approx(33.0)
    clock.now = 2.0
    tree.set("intel-rapl:0", 7 * JOULE)
    assert source.read().energy_j == pytest.approx(34.0)


GAINS = st.lists(st.integers(0, 400 * JOULE), min_size=1, max_size=12)


@given(GAINS, GAINS, st.integers(0, RANGE_UJ), st.integers(500 * JOULE, 3 * RANGE_UJ))
def test_no_joule_is_lost_or_made_however_often_they_wrap(
    first: list[int], second: list[int], start: int, range_uj: int
) -> None:
    range_uj = max(range_uj, 4000 * JOULE)  # what is drawn in 2 s at most must fit
    n = min(len(first), len(second))
    counters = [Counter(start, range_uj, first[:n]), Counter(0, RANGE_UJ, second[:n])]
    clock = Clock()
    source = RaplSource(counters, wall=clock)
    for _ in range(n):
        clock.now += 2.0
        for counter in counters:
            counter.tick()
        reading = source.read()
    assert reading.energy_j == pytest.approx((sum(first[:n]) + sum(second[:n])) / 1e6, abs=1e-3)


class Counter(RaplDomain):
    """A domain without a file."""

    values: list[int]

    def __new__(cls, start: int, range_uj: int, gains: Sequence[int]) -> Counter:
        made = super().__new__(cls, "package-0", "package-0", Path(), range_uj)
        made.values = [value % range_uj for value in accumulate(gains, initial=start)]
        return made

    def tick(self) -> None:
        del self.values[0]

    def read_uj(self) -> int:
        return self.values[0]


# What cannot be told ---------------------------------------------------------------------


def meter(tree: FakePowercap, clock: Clock) -> RunMeter:
    started = RunMeter(opened(tree, clock), clock)
    started.start()
    return started


def test_a_counter_left_alone_for_longer_than_it_holds_voids_the_window(
    tree: FakePowercap,
) -> None:
    laptop(tree)
    clock = Clock()
    run = meter(tree, clock)
    clock.now = 70.0  # at the most a package draws, 65.5 kJ and a start from 0
    tree.set("intel-rapl:0", 50 * JOULE)
    energy = run.stop()
    assert (energy.joules, energy.quality) == (None, EnergyQuality.UNAVAILABLE)


def test_a_counter_that_was_set_back_voids_the_window_too(tree: FakePowercap) -> None:
    laptop(tree)
    tree.set("intel-rapl:0", 3000 * JOULE)
    clock = Clock()
    run = meter(tree, clock)
    clock.now = 10.0
    tree.set("intel-rapl:0", 20 * JOULE)  # or 62 kJ in 10 s, which no package draws
    assert run.stop().quality is EnergyQuality.UNAVAILABLE


def test_a_long_pause_costs_nothing(tree: FakePowercap) -> None:
    laptop(tree)
    clock = Clock()
    run = meter(tree, clock)
    clock.now = 10.0
    tree.set("intel-rapl:0", 105 * JOULE)
    run.pause()
    clock.now = 1000.0
    tree.set("intel-rapl:0", 77 * JOULE)
    run.resume()
    clock.now = 1010.0
    tree.set("intel-rapl:0", 177 * JOULE)
    energy = run.stop()
    assert (energy.joules, energy.seconds) == (200.0, 20.0), energy.notes
    assert (energy.lo, energy.hi) == pytest.approx((180.0, 220.0))
    assert str(energy) == "200.0 J MEASURED · CPU package · RAPL counters package-0"
    assert "±10% is an allowance: neither Intel nor AMD states an error" in energy.notes


# Mirrors ---------------------------------------------------------------------------------


def names(tree: FakePowercap) -> list[str]:
    return [domain.path.name for domain in drop_mirrored_domains(find_domains(tree.root))]


def dies(tree: FakePowercap, first_uj: int, second_uj: int, range_uj: int = RANGE_UJ) -> None:
    tree.add("intel-rapl:0", "package-0-die-0", first_uj, range_uj)
    tree.add("intel-rapl:1", "package-0-die-1", second_uj, range_uj)


@pytest.mark.parametrize("later_uj", [0, 329_130])  # the second as seen 5 ms later, at 66 W
def test_dies_that_show_one_counter_count_once(tree: FakePowercap, later_uj: int) -> None:
    dies(tree, 10_359_908_363, 10_359_908_363 + later_uj)
    assert names(tree) == ["intel-rapl:0"]
    source = RaplSource.open("cpu")
    assert source.scope == "CPU package"
    assert "1 of the domains repeat another one's counter and are excluded" in source.notes


def test_a_moving_counter_is_recognised_between_two_looks(
    tree: FakePowercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies(tree, 0, 0)
    steps = iter(range(RANGE_UJ - 20 * JOULE, 10 * RANGE_UJ, 15 * JOULE))

    def moving(path: Path) -> str:
        known = (path.parent / path.name).read_text().strip()
        return str(next(steps) % RANGE_UJ) if path.name == "energy_uj" else known

    monkeypatch.setattr(rapl, "read_text", moving)  # 15 J at each look, and through 0
    assert names(tree) == ["intel-rapl:0"]


@pytest.mark.parametrize("apart_uj", [5 * JOULE, -5 * JOULE, RANGE_UJ // 2])
def test_dies_with_counters_of_their_own_both_count(tree: FakePowercap, apart_uj: int) -> None:
    dies(tree, 20_000 * JOULE, 20_000 * JOULE + apart_uj)
    assert names(tree) == ["intel-rapl:0", "intel-rapl:1"]


def test_packages_are_not_taken_for_mirrors_and_neither_is_memory(tree: FakePowercap) -> None:
    for i in (0, 1):
        tree.add(f"intel-rapl:{i}", f"package-{i}", 500 * JOULE)
    tree.add("intel-rapl:0:0", "dram", 500 * JOULE)
    assert names(tree) == ["intel-rapl:0", "intel-rapl:0:0", "intel-rapl:1"]


# Refusals --------------------------------------------------------------------------------


def refusal(device: str = "cpu") -> EnergyUnavailable:
    with pytest.raises(EnergyUnavailable) as caught:
        RaplSource.open(device)
    return caught.value


def test_permission_denied_says_how_to_get_it_and_why_it_is_denied(
    tree: FakePowercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop(tree)
    deny(monkeypatch, "energy_uj")
    found = refusal()
    assert "CVE-2020-8694" in found.reason
    for words in (
        "chgrp powercap /sys/class/powercap/intel-rapl:*/energy_uj",
        "chmod g+r /sys/class/powercap/intel-rapl:*/energy_uj",
        "usermod -aG powercap",
        'SUBSYSTEM=="powercap", KERNEL=="intel-rapl:*"',
    ):
        assert words in found.remedy


def test_permission_lost_in_mid_run_is_a_failed_reading(
    tree: FakePowercap, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop(tree)
    source = RaplSource.open("cpu")
    deny(monkeypatch, "energy_uj")
    with pytest.raises(EnergyUnavailable, match="only root may read"):
        source.read()
    source.close()


@pytest.mark.parametrize(
    ("system", "machine", "cpuinfo", "reason", "remedy"),
    [
        ("Darwin", "arm64", "", "this is Darwin", "run on Linux"),
        ("Linux", "aarch64", "", "(aarch64) is not x86", "x86 machine"),
        ("Linux", "x86_64", "flags : fpu hypervisor sse", "virtual machine", "host machine"),
        ("Linux", "x86_64", "flags : fpu sse", "powercap is absent", "modprobe intel_rapl_msr"),
        ("Linux", "AMD64", "", "powercap is absent", "AMD needs Linux 5.11"),
    ],
)
def test_absence_says_which_kind_it_is(
    system: str, machine: str, cpuinfo: str, reason: str, remedy: str
) -> None:
    found = missing_counters_error(system, machine, cpuinfo)
    assert reason in found.reason
    assert remedy in found.remedy
    assert "rated power on the Energy page" in found.remedy, "there can always be an estimate"


@pytest.mark.parametrize("left", ["nothing", "psys", "links"])
def test_without_a_package_there_is_nothing_to_read(
    tree: FakePowercap, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    if left == "psys":
        tree.add("intel-rapl:0", "psys", JOULE)
    if left == "links":  # as in a container that hides the folders they lead to
        (tree.root / "intel-rapl:0").symlink_to(tree.root / "hidden")
    assert "powercap is absent or empty" in refusal().reason
    rapl.CPUINFO_PATH.write_text("flags\t: fpu hypervisor\n")
    assert "virtual machine" in refusal().reason


def test_counters_that_stand_at_zero_measure_nothing(tree: FakePowercap) -> None:
    tree.add("intel-rapl:0", "package-0", 0)
    assert "package-0 are at 0" in refusal().reason
    tree.add("intel-rapl:1", "package-1", 5 * JOULE)
    assert "package-0 are at 0" in refusal().reason, "a sum without it would be too low"
    tree.set("intel-rapl:0", 1)
    tree.add("intel-rapl:0:0", "dram", 0)
    assert RaplSource.open("cpu").source == "RAPL counters package-0, package-1, DRAM"


@pytest.mark.parametrize(("file", "text"), [("energy_uj", "?"), ("max_energy_range_uj", "0")])
def test_a_file_that_makes_no_sense_is_named_and_no_folder(
    tree: FakePowercap, file: str, text: str
) -> None:
    laptop(tree)
    (tree.root / "intel-rapl:0" / file).write_text(text)
    found = refusal()
    assert f"intel-rapl:0/{file} cannot be read as a counter" in found.reason
    assert str(tree.root) not in str(found)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_run_on_a_gpu_is_none_of_its_business(tree: FakePowercap, device: str) -> None:
    laptop(tree)
    assert "do not cover" in refusal(device).reason


@pytest.mark.parametrize(
    ("vendor", "partly"), [("GenuineIntel", False), ("AuthenticAMD", True), ("HygonGenuine", True)]
)
def test_of_amd_it_is_said_that_its_counters_are_partly_modelled(
    tree: FakePowercap, vendor: str, partly: bool
) -> None:
    laptop(tree)
    rapl.CPUINFO_PATH.write_text(f"vendor_id\t: {vendor}\n")
    notes = RaplSource.open("cpu").notes
    assert any("partly modelled" in note for note in notes) is partly


def test_a_readable_counter_goes_before_the_estimate(tree: FakePowercap) -> None:
    laptop(tree)
    run = RunMeter.open("cpu", Clock())
    assert (run.energy().quality, run.energy().scope) == (EnergyQuality.MEASURED, "CPU package")
    run.stop()


# Other processes -----------------------------------------------------------------------


ALONE = SharedUse(False, "")


@pytest.mark.parametrize(
    ("busy_s", "own_s", "cores_s", "contended"),
    [
        (5.0, 5.0, 10.0, False),
        (5.0, 4.6, 10.0, False),  # 8% of what was busy
        (5.0, 4.0, 10.0, True),
        (0.15, 0.0, 10.0, False),  # an idle machine is never quite idle
        (0.9, 0.5, 40.0, False),
        (3.0, 1.0, 40.0, True),
        (5.0, 5.3, 10.0, False),  # counts of 10 ms may disagree
        (0.0, 0.0, 10.0, False),
    ],
)
def test_others_count_where_they_took_a_share_that_matters(
    busy_s: float, own_s: float, cores_s: float, contended: bool
) -> None:
    found = shared_use_from_cpu_time(busy_s, own_s, cores_s)
    assert found.contended is contended
    assert bool(found.description) is contended


class Machine:
    """Two cores, in a test's time."""

    def __init__(self) -> None:
        self.t = self.own = self.others = 0.0

    def tenants(self) -> CpuProcessMonitor:
        return CpuProcessMonitor(lambda: (self.t, self.own + self.others, self.own), cores=2)

    def run_for(self, seconds: float, own: float, others: float) -> None:
        self.t += seconds
        self.own += own
        self.others += others


def test_each_look_is_at_the_time_since_the_last_one() -> None:
    machine = Machine()
    tenants = machine.tenants()
    machine.run_for(5.0, own=5.0, others=0.0)
    assert tenants.check_shared_use() == ALONE
    machine.run_for(5.0, own=4.0, others=4.0)
    found = tenants.check_shared_use()
    assert found.contended
    assert found.description.startswith("other processes took 50% of the processor's busy time")
    machine.run_for(0.2, own=0.2, others=0.0)
    assert tenants.check_shared_use() == found, "too soon to tell"
    machine.run_for(5.0, own=5.0, others=0.1)
    assert tenants.check_shared_use() == ALONE


def test_niced_processes_are_busy_and_idle_time_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    times = SimpleNamespace(user=4.0, system=0.5, nice=3.0, idle=9.0)
    monkeypatch.setattr(psutil, "cpu_times", lambda: times)
    monkeypatch.setattr(rapl, "process_tree_cpu_s", lambda: 4.0)
    before_s = time.monotonic()
    at_s, busy_s, own_s = read_cpu_counts()
    assert (busy_s, own_s) == (7.5, 4.0)
    assert before_s <= at_s <= time.monotonic()


def test_this_machine_can_be_looked_at() -> None:
    assert CpuProcessMonitor().check_shared_use() == ALONE  # at once: nothing is known yet
    assert process_tree_cpu_s() >= 0.9 * time.process_time()
