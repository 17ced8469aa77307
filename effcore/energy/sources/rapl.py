"""CPU energy from the processor's energy counters (RAPL) through Linux's powercap: measured.

``/sys/class/powercap`` lists every domain as a folder. Whole packages are summed, and memory
where it is a separate domain: ``core`` and ``uncore`` are parts of their package, ``psys``
contains the packages, and ``intel-rapl-mmio`` shows the same package through another interface.

How far the counters measure depends on the processor: Intel changed from models to measurement
with Haswell (Hackenberg et al. 2015, doi 10.1109/IPDPSW.2015.70); AMD's counters are partly
modelled (Schöne et al. 2021, arXiv 2108.00808). Where SGX or energy filtering is on, Intel adds
noise to short intervals (INTEL-SA-00389); totals over seconds remain correct.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import psutil

from effcore.energy.sources.base import (
    SOURCES,
    EnergySource,
    EnergyUnavailable,
    MeanPower,
    Reading,
    SharedUse,
)
from effcore.records import EnergyQuality

POWERCAP_ROOT = Path("/sys/class/powercap")
CPUINFO_PATH = Path("/proc/cpuinfo")
#: Our own allowance, not a specification: neither Intel nor AMD states an error. Khan et
#: al. 2018 (doi 10.1145/3177754) found that Intel's readings follow wall power closely;
#: Desrochers et al. 2016 (doi 10.1145/2989081.2989088) found a constant offset for memory.
ERROR_ALLOWANCE_FRAC = 0.10
#: Upper limit of a package's power (the highest is 760 W, AMD Instinct MI300A); a larger gain
#: of a counter is not plausible.
MAX_PACKAGE_W = 1000.0
#: Tolerance when two reads of one counter are compared: counters update about every millisecond
#: (Intel SDM 3B, MSR_PKG_ENERGY_STATUS).
COUNTER_SLACK_J = 1.0
#: Other processes count as shared use if they take more than this share of the busy CPU time,
MAX_FOREIGN_BUSY_FRAC = 0.10
#: and also more than this share of the time of all cores: below is the system's own housekeeping.
MAX_FOREIGN_CORES_FRAC = 0.02
#: Shortest time between two checks, s: the system counts CPU time in steps of 10 ms.
MIN_CHECK_INTERVAL_S = 1.0

_AMD_VENDORS = ("AuthenticAMD", "HygonGenuine")
_X86_MACHINES = ("x86_64", "amd64", "i386", "i686")
_PACKAGE_NAME_PATTERN = re.compile(r"(package-\d+)(-die-\d+)?")
_ESTIMATE_REMEDY = "or state the CPU's rated power on the Energy page to get an estimate"
_PERMISSION_REMEDY = (
    "let a group read them, as root: groupadd -f powercap; usermod -aG powercap USER; "
    "chgrp powercap /sys/class/powercap/intel-rapl:*/energy_uj; "
    "chmod g+r /sys/class/powercap/intel-rapl:*/energy_uj; then log in again. To keep it after "
    "a restart, put this udev rule into /etc/udev/rules.d/90-powercap.rules: "
    'SUBSYSTEM=="powercap", KERNEL=="intel-rapl:*", ACTION=="add", '
    'RUN+="/bin/chgrp powercap /sys%p/energy_uj", RUN+="/bin/chmod g+r /sys%p/energy_uj"'
)
_PERMISSION_REASON = (
    "only root may read the processor's energy counters: since CVE-2020-8694 Linux hides them "
    "from other users, because their values over time can reveal secret keys"
)


@SOURCES.add
class RaplSource(EnergySource):
    """The energy counters of all CPU packages, and of their memory where available.

    Use :meth:`open`.

    Args:
        domains: The domains to sum, without mirrored ones.
        notes: Caveats that are specific to this machine.
        wall: Monotonic clock, s.
        card: The processor's name.
    """

    id = "rapl"
    title = "CPU counters (RAPL)"
    summary = "Measures the CPU packages with the processor's energy counters."
    rank = 10
    quality = EnergyQuality.MEASURED
    hz = 4.0
    error_frac = ERROR_ALLOWANCE_FRAC
    shared_use_hz = 0.1  # listing all processes takes milliseconds

    def __init__(
        self,
        domains: Sequence[RaplDomain],
        notes: Sequence[str] = (),
        wall: Callable[[], float] = time.monotonic,
        card: str = "",
    ) -> None:
        self._process_monitor = CpuProcessMonitor()
        self.card, self.driver = card, f"Linux {platform.release()}, powercap"
        self._domains, self._wall = tuple(domains), wall
        self._last_read_s, self._last_counts_uj = wall(), [domain.read_uj() for domain in domains]
        self._total_j = 0.0
        self._mean_power = MeanPower(min_gap_s=0.05)  # the counters update about every millisecond
        packages = [d.name for d in domains if d.name != "dram"]
        memories = len(domains) - len(packages)
        self.source = f"RAPL counters {', '.join(packages)}" + (", DRAM" if memories else "")
        self.scope = _count_text(len(packages), "CPU package")
        self.scope += f" + {_count_text(memories, 'memory domain')} (DRAM)" if memories else ""
        self.left_out = f"{'' if memories else 'memory, '}board, disks, power supply and cooling"
        self.notes = (
            f"±{ERROR_ALLOWANCE_FRAC:.0%} is an allowance: neither Intel nor AMD states an error",
            f"includes all use of the CPU packages by any process; excludes {self.left_out}",
            *notes,
        )

    @classmethod
    def open(cls, device: str) -> Self:
        """Open the counters for a run on the CPU."""
        if device != "cpu":
            raise EnergyUnavailable(
                f"the run is on {device!r}, which the CPU's counters do not cover",
                "make the GPU's own meter readable",
            )
        cpuinfo = ""
        with contextlib.suppress(OSError):
            cpuinfo = CPUINFO_PATH.read_text(encoding="utf-8", errors="replace")
        all_domains = find_domains(POWERCAP_ROOT)
        if not any(domain.name != "dram" for domain in all_domains):
            raise missing_counters_error(platform.system(), platform.machine(), cpuinfo)
        stopped_counters = [d.name for d in all_domains if d.name != "dram" and not d.read_uj()]
        if stopped_counters:  # a sum without them would be too low
            raise EnergyUnavailable(
                f"the energy counters {', '.join(stopped_counters)} are at 0: they exist but do "
                "not count",
                "run on the host machine, not in a virtual machine",
            )
        domains = drop_mirrored_domains(all_domains)
        notes = []
        if any(vendor in cpuinfo for vendor in _AMD_VENDORS):
            notes.append(
                "AMD's counters are partly modelled (Schöne et al. 2021, arXiv 2108.00808)"
            )
        if mirrors := len(all_domains) - len(domains):
            notes.append(f"{mirrors} of the domains repeat another one's counter and are excluded")
        model_name = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, flags=re.MULTILINE)
        return cls(domains, notes, card=model_name[1].strip() if model_name else "")

    def read(self) -> Reading:
        """Return the energy since opening, J, and the mean power since the last reading, W.

        After an ambiguous gain (a counter that may have wrapped to 0 more than once, or was
        reset) the returned energy falls, which voids every window that contains the reading.
        """
        t_s, counts_uj = self._wall(), [domain.read_uj() for domain in self._domains]
        gap_s, self._last_read_s = t_s - self._last_read_s, t_s
        before_uj, self._last_counts_uj = self._last_counts_uj, counts_uj
        max_gain_j = gap_s * MAX_PACKAGE_W + COUNTER_SLACK_J
        gained_j = 0.0
        for domain, before, now in zip(self._domains, before_uj, counts_uj, strict=True):
            domain_gain_j = domain.gained_uj(before, now) / 1e6
            is_plausible = domain_gain_j <= max_gain_j < domain.range_uj / 1e6
            gained_j += domain_gain_j if is_plausible else math.inf
        if math.isfinite(gained_j):
            self._total_j += gained_j
        else:
            self._total_j = min(self._total_j, 0.0) - 1.0
        return Reading.point(t_s, self._mean_power(t_s, self._total_j), self._total_j)

    def shared_use(self) -> SharedUse:
        """Return the CPU use by other processes."""
        return self._process_monitor.check_shared_use()


def missing_counters_error(system: str, machine: str, cpuinfo: str) -> EnergyUnavailable:
    """Return the error for a machine without RAPL domains.

    Args:
        system: The operating system, from :func:`platform.system`.
        machine: The architecture, from :func:`platform.machine`.
        cpuinfo: The text of ``/proc/cpuinfo``; empty where there is none.
    """
    if system != "Linux":
        reason = f"RAPL is read through Linux's powercap, and this is {system or 'unknown'}"
        return EnergyUnavailable(reason, f"run on Linux, {_ESTIMATE_REMEDY}")
    if machine.lower() not in _X86_MACHINES:
        reason = f"this CPU ({machine}) is not x86: RAPL is Intel's and AMD's"
        return EnergyUnavailable(reason, f"run on an x86 machine, {_ESTIMATE_REMEDY}")
    if "hypervisor" in cpuinfo.split():
        reason = "this is a virtual machine, and its host does not pass on the energy counters"
        return EnergyUnavailable(reason, f"run on the host machine, {_ESTIMATE_REMEDY}")
    return EnergyUnavailable(
        "the kernel shows no energy counters of the CPU (powercap is absent or empty)",
        "load their driver (modprobe intel_rapl_msr; AMD needs Linux 5.11), and run outside a "
        f"container, since container runtimes hide powercap, {_ESTIMATE_REMEDY}",
    )


def _count_text(n: int, noun: str) -> str:
    return noun if n == 1 else f"{n} {noun}s"


# Counters in powercap --------------------------------------------------------------------


class RaplDomain(NamedTuple):
    """One counter."""

    name: str  # as the kernel calls it: package-0, package-0-die-1 or dram
    package: str  # the package it belongs to: package-0
    path: Path
    range_uj: int  # the counter wraps to 0 after this value, µJ

    def read_uj(self) -> int:
        """Return the counter, µJ; raises ``EnergyUnavailable`` if it cannot be read."""
        return _read_kernel_number(self.path / "energy_uj")

    def gained_uj(self, before_uj: int, now_uj: int) -> int:
        """Return the gain between two readings, µJ, with at most one wrap to 0 in between."""
        return (now_uj - before_uj) % self.range_uj


def find_domains(root: Path) -> list[RaplDomain]:
    """Return the package and memory domains under ``root``, in the kernel's order.

    Raises:
        EnergyUnavailable: A domain exists, but its files cannot be read.
    """
    # A container that hides powercap may leave broken links to the domains.
    zones = [z for z in sorted(root.glob("intel-rapl:*")) if os.path.exists(z / "name")]
    names = {zone.name: _read_kernel_text(zone / "name") for zone in zones}
    domains = []
    for zone, name in names.items():
        parent = names.get(zone.rpartition(":")[0], "")
        package = _PACKAGE_NAME_PATTERN.fullmatch(parent if name == "dram" else name)
        if package is None:
            continue
        range_uj = _read_kernel_number(root / zone / "max_energy_range_uj")
        if range_uj <= 0:
            raise _unreadable_file_error(root / zone / "max_energy_range_uj")
        domains.append(RaplDomain(name, package[1], root / zone, range_uj))
    return domains


def drop_mirrored_domains(domains: Iterable[RaplDomain]) -> list[RaplDomain]:
    """Return the domains without those that repeat another domain's counter.

    On AMD and Hygon a package has one counter, which each of its dies shows; the dies of
    Intel's multi-die packages have separate counters (Linux, ``arch/x86/events/rapl.c``).
    So domains of the same kind are compared within each package.
    """
    distinct: list[RaplDomain] = []
    for domain in domains:
        package_and_kind = domain.package, domain.name == "dram"
        if not any(
            (earlier.package, earlier.name == "dram") == package_and_kind
            and _show_same_counter(earlier, domain)
            for earlier in distinct
        ):
            distinct.append(domain)
    return distinct


def _show_same_counter(one: RaplDomain, other: RaplDomain) -> bool:
    """Return whether the second, read between two reads of the first, lies between these.

    A joule of tolerance is added. Two separate counters of tens of thousands of joules hardly
    agree by chance.
    """
    before, between, after = one.read_uj(), other.read_uj(), one.read_uj()
    slack_uj = round(COUNTER_SLACK_J * 1e6)
    spent_uj = one.gained_uj(before, after)
    return one.gained_uj(before - slack_uj, between) <= spent_uj + 2 * slack_uj


def read_text(path: Path) -> str:
    """Return the text of a kernel file, without surrounding white space."""
    return path.read_text(encoding="ascii").strip()


def _read_kernel_text(path: Path) -> str:
    try:
        return read_text(path)
    except PermissionError as error:
        raise EnergyUnavailable(_PERMISSION_REASON, _PERMISSION_REMEDY) from error
    except (OSError, ValueError) as error:
        raise _unreadable_file_error(path) from error


def _read_kernel_number(path: Path) -> int:
    text = _read_kernel_text(path)
    if not text.isdecimal():
        raise _unreadable_file_error(path)
    return int(text)


def _unreadable_file_error(path: Path) -> EnergyUnavailable:
    return EnergyUnavailable(
        f"the kernel's {path.parent.name}/{path.name} cannot be read as a counter",
        "look in the kernel log for messages of powercap or intel_rapl",
    )


# Other processes on the CPU --------------------------------------------------------------


def process_tree_cpu_s() -> float:
    """Return the CPU seconds of this process and its child processes, such as data loaders."""
    own_process = psutil.Process()
    total_s = 0.0
    for process in (own_process, *own_process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has just ended
            times = process.cpu_times()
            total_s += times.user + times.system
            total_s += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total_s


def read_cpu_counts() -> tuple[float, float, float]:
    """Return the monotonic time, and CPU seconds of all processes and of this process tree."""
    times = psutil.cpu_times()
    # User time includes virtual machines that run here; stolen time belongs to the host.
    busy_s = times.user + times.system + getattr(times, "nice", 0.0)
    return time.monotonic(), busy_s, process_tree_cpu_s()


class CpuProcessMonitor:
    """Checks how busy other processes kept the CPU since the last check.

    Args:
        read_counts: Returns time and CPU seconds, as :func:`read_cpu_counts`.
        cores: Logical cores of the system.
    """

    def __init__(
        self,
        read_counts: Callable[[], tuple[float, float, float]] = read_cpu_counts,
        cores: int = psutil.cpu_count() or 1,
    ) -> None:
        self._read_counts, self._cores = read_counts, cores
        self._last_counts = read_counts()
        self._last_shared_use = SharedUse(False, "")

    def check_shared_use(self) -> SharedUse:
        """Return the use by others since the last check; if that was just now, the last result."""
        counts = self._read_counts()
        passed_s, busy_s, own_s = (a - b for a, b in zip(counts, self._last_counts, strict=True))
        if passed_s >= MIN_CHECK_INTERVAL_S:
            self._last_counts = counts
            self._last_shared_use = shared_use_from_cpu_time(busy_s, own_s, passed_s * self._cores)
        return self._last_shared_use


def shared_use_from_cpu_time(busy_s: float, own_s: float, cores_s: float) -> SharedUse:
    """Return the use by other processes that follows from CPU seconds.

    Args:
        busy_s: CPU seconds of all processes.
        own_s: CPU seconds of this process and its child processes.
        cores_s: Elapsed seconds times the number of cores.
    """
    others_s = max(busy_s - own_s, 0.0)
    if others_s <= MAX_FOREIGN_BUSY_FRAC * busy_s or others_s <= MAX_FOREIGN_CORES_FRAC * cores_s:
        return SharedUse(False, "")
    return SharedUse(
        True,
        f"other processes took {others_s / busy_s:.0%} of the processor's busy time: this figure "
        "includes their energy, which cannot be separated from the run's",
    )
