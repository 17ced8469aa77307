"""CPU energy from the processor's energy counters (RAPL) through Linux's powercap: measured.

Whole packages are summed, and memory where it is a separate domain. How far the counters
measure depends on the processor: Intel changed from models to measurement with Haswell
(Hackenberg et al. 2015, doi 10.1109/IPDPSW.2015.70); AMD's counters are partly modelled
(Schöne et al. 2021, arXiv 2108.00808). Where SGX or energy filtering is on, Intel adds noise to
short intervals (INTEL-SA-00389); totals over seconds remain correct.
"""

from __future__ import annotations

import math
import platform
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from effcore.energy.sources import powercap
from effcore.energy.sources.base import SOURCES, EnergySource, EnergyUnavailable, Reading, SharedUse
from effcore.energy.sources.cpu_other_processes import CpuProcessMonitor
from effcore.energy.sources.mean_power import MeanPower
from effcore.energy.sources.powercap import COUNTER_SLACK_J, MAX_PACKAGE_W, RaplDomain
from effcore.records import EnergyQuality

POWERCAP_ROOT = Path("/sys/class/powercap")
CPUINFO_PATH = Path("/proc/cpuinfo")
#: Our own allowance, not a specification: neither Intel nor AMD states an error. Khan et
#: al. 2018 (doi 10.1145/3177754) found that Intel's readings follow wall power closely;
#: Desrochers et al. 2016 (doi 10.1145/2989081.2989088) found a constant offset for memory.
ERROR_ALLOWANCE_FRAC = 0.10

_AMD_VENDORS = ("AuthenticAMD", "HygonGenuine")
_X86_MACHINES = ("x86_64", "amd64", "i386", "i686")
_ESTIMATE_REMEDY = "or state the CPU's rated power on the Energy page to get an estimate"


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
        """Open the counters for a run on the CPU.

        Raises:
            EnergyUnavailable: The device is not the CPU, this machine has no counters, or this
                user may not read them; the remedy then contains the commands that allow it.
        """
        if device != "cpu":
            raise EnergyUnavailable(
                f"the run is on {device!r}, which the CPU's counters do not cover",
                "make the GPU's own meter readable",
            )
        cpuinfo = _read_cpuinfo()
        all_domains = powercap.find_domains(POWERCAP_ROOT)
        if not any(domain.name != "dram" for domain in all_domains):
            raise missing_counters_error(platform.system(), platform.machine(), cpuinfo)
        stopped_counters = [d.name for d in all_domains if d.name != "dram" and not d.read_uj()]
        if stopped_counters:  # a sum without them would be too low
            raise EnergyUnavailable(
                f"the energy counters {', '.join(stopped_counters)} are at 0: they exist but do "
                "not count",
                "run on the host machine, not in a virtual machine",
            )
        domains = powercap.drop_mirrored_domains(all_domains)
        return cls(
            domains,
            _processor_notes(cpuinfo, len(all_domains) - len(domains)),
            card=_processor_name(cpuinfo),
        )

    def read(self) -> Reading:
        """Return the energy since opening, J, and the mean power since the last reading, W.

        After an ambiguous gain (a counter that may have wrapped to 0 more than once, or was
        reset) the returned energy falls, which voids every window that contains the reading.

        Raises:
            EnergyUnavailable: A counter did not answer.
        """
        t_s, counts_uj = self._wall(), [domain.read_uj() for domain in self._domains]
        gap_s, self._last_read_s = t_s - self._last_read_s, t_s
        before_uj, self._last_counts_uj = self._last_counts_uj, counts_uj
        max_gain_j = gap_s * MAX_PACKAGE_W + COUNTER_SLACK_J
        gained_j = 0.0
        for domain, before, now in zip(self._domains, before_uj, counts_uj, strict=True):
            domain_gain_j = domain.gained_uj(before, now) / 1e6
            gained_j += (
                domain_gain_j if domain_gain_j <= max_gain_j < domain.range_uj / 1e6 else math.inf
            )
        if math.isfinite(gained_j):
            self._total_j += gained_j
        else:
            self._total_j = min(self._total_j, 0.0) - 1.0
        return Reading.point(t_s, self._mean_power(t_s, self._total_j), self._total_j)

    def shared_use(self) -> SharedUse:
        """Return the CPU use by other processes."""
        return self._process_monitor.check_shared_use()

    def close(self) -> None:
        """Do nothing: the source holds no resources."""


def _read_cpuinfo() -> str:
    try:
        return CPUINFO_PATH.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _processor_name(cpuinfo: str) -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, flags=re.MULTILINE)
    return match[1].strip() if match else ""


def _processor_notes(cpuinfo: str, mirror_count: int) -> list[str]:
    notes = []
    if any(vendor in cpuinfo for vendor in _AMD_VENDORS):
        notes.append("AMD's counters are partly modelled (Schöne et al. 2021, arXiv 2108.00808)")
    if mirror_count:
        notes.append(f"{mirror_count} of the domains repeat another one's counter and are excluded")
    return notes


def _count_text(n: int, noun: str) -> str:
    return noun if n == 1 else f"{n} {noun}s"
