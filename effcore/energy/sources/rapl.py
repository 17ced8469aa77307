"""CPU energy by the processor's own counters (RAPL), through Linux's powercap: measured.

Whole packages are summed, and memory where it is a domain of its own. What of it is a
measurement depends on the processor: Intel's move from models to measuring came with
Haswell (Hackenberg et al. 2015, doi 10.1109/IPDPSW.2015.70), AMD's counters are partly
modelled (Schöne et al. 2021, arXiv 2108.00808). Where SGX or energy filtering is on, Intel
blurs what short intervals show (INTEL-SA-00389); totals over seconds remain.
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
#: An allowance of ours, not a specification: neither Intel nor AMD states an error. Khan et
#: al. 2018 (doi 10.1145/3177754) found Intel's readings to follow the wall plug's closely;
#: Desrochers et al. 2016 (doi 10.1145/2989081.2989088) found memory off by a constant.
ERROR_ALLOWANCE_FRAC = 0.10

_AMD_VENDORS = ("AuthenticAMD", "HygonGenuine")
_X86_MACHINES = ("x86_64", "amd64", "i386", "i686")
_ESTIMATE_REMEDY = "or have it estimated by stating the CPU's rated power on the Energy page"


def missing_counters_error(system: str, machine: str, cpuinfo: str) -> EnergyUnavailable:
    """Return why there are no domains.

    Args:
        system: The operating system, as :func:`platform.system` has it.
        machine: The architecture, as :func:`platform.time_saved_grid` has it.
        cpuinfo: The text of ``/proc/cpuinfo``; empty where there is none.
    """
    if system != "Linux":
        reason = f"RAPL is read through Linux's powercap, and this is {system or 'unknown'}"
        return EnergyUnavailable(reason, f"run on Linux, {_ESTIMATE_REMEDY}")
    if machine.lower() not in _X86_MACHINES:
        reason = f"this CPU ({machine}) is not x86: RAPL is Intel's and AMD's"
        return EnergyUnavailable(reason, f"run on an x86 machine, {_ESTIMATE_REMEDY}")
    if "hypervisor" in cpuinfo.split():
        reason = "this is a virtual machine, whose host keeps the energy counters to itself"
        return EnergyUnavailable(reason, f"run on the machine itself, {_ESTIMATE_REMEDY}")
    return EnergyUnavailable(
        "the kernel shows no energy counters of the CPU (powercap is absent or empty)",
        "load their driver (modprobe intel_rapl_msr; AMD needs Linux 5.11), and leave the "
        f"container, since container runtimes hide powercap, {_ESTIMATE_REMEDY}",
    )


@SOURCES.add
class RaplSource(EnergySource):
    """The counters of all CPU packages, and of their memory where it has some.

    Use :meth:`open`.

    Args:
        domains: The domains to sum, no mirrors among them.
        notes: What a reader must know of this machine in particular.
        wall: Monotonic seconds.
        card: The processor's name.
    """

    id = "rapl"
    title = "CPU counters (RAPL)"
    summary = "Measures the CPU packages with the processor's energy counters."
    rank = 10
    quality = EnergyQuality.MEASURED
    hz = 4.0
    error_frac = ERROR_ALLOWANCE_FRAC
    shared_use_hz = 0.1  # looking through all processes takes milliseconds

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
        self._mean_power = MeanPower(min_gap_s=0.05)  # the counters refresh about every millisecond
        packages = [d.name for d in domains if d.name != "dram"]
        memories = len(domains) - len(packages)
        self.source = f"RAPL counters {', '.join(packages)}" + (", DRAM" if memories else "")
        self.scope = _count_text(len(packages), "CPU package")
        self.scope += f" + {_count_text(memories, 'memory domain')} (DRAM)" if memories else ""
        self.left_out = f"{'' if memories else 'memory, '}board, disks, power supply and cooling"
        self.notes = (
            f"±{ERROR_ALLOWANCE_FRAC:.0%} is an allowance: neither Intel nor AMD states an error",
            f"whole packages, whoever uses them; {self.left_out} are not in it",
            *notes,
        )

    @classmethod
    def open(cls, device: str) -> Self:
        """Open the counters for a run on the CPU.

        Raises:
            EnergyUnavailable: The run is elsewhere, this machine shows no counters, or this
                user may not read them; the remedy then has the commands that permit it.
        """
        if device != "cpu":
            raise EnergyUnavailable(
                f"the run is on {device!r}, which the CPU's counters do not see",
                "make the GPU's own meter readable",
            )
        cpuinfo = _read_cpuinfo()
        found = powercap.find_domains(POWERCAP_ROOT)
        if not any(domain.name != "dram" for domain in found):
            raise missing_counters_error(platform.system(), platform.machine(), cpuinfo)
        still = [d.name for d in found if d.name != "dram" and not d.read_uj()]
        if still:  # a sum without them would be too low
            raise EnergyUnavailable(
                f"the energy counters {', '.join(still)} stand at 0: they are there and do not "
                "count",
                "run on the machine itself, not in a virtual one",
            )
        kept = powercap.drop_mirrored_domains(found)
        return cls(
            kept, _processor_notes(cpuinfo, len(found) - len(kept)), card=_processor_name(cpuinfo)
        )

    def read(self) -> Reading:
        """Return joules since opening and the mean power since the last reading.

        What cannot be told for sure (a counter that may have started from 0 more than once,
        or was set back) makes the energy fall, which voids any window that spans it.

        Raises:
            EnergyUnavailable: A counter did not answer.
        """
        t_s, counts_uj = self._wall(), [domain.read_uj() for domain in self._domains]
        gap_s, self._last_read_s = t_s - self._last_read_s, t_s
        before_uj, self._last_counts_uj = self._last_counts_uj, counts_uj
        possible_j = gap_s * MAX_PACKAGE_W + COUNTER_SLACK_J
        gained_j = 0.0
        for domain, before, now in zip(self._domains, before_uj, counts_uj, strict=True):
            one_j = domain.gained_uj(before, now) / 1e6
            gained_j += one_j if one_j <= possible_j < domain.range_uj / 1e6 else math.inf
        if math.isfinite(gained_j):
            self._total_j += gained_j
        else:
            self._total_j = min(self._total_j, 0.0) - 1.0
        return Reading.point(t_s, self._mean_power(t_s, self._total_j), self._total_j)

    def shared_use(self) -> SharedUse:
        """Return whether others kept the processor busy."""
        return self._process_monitor.check_shared_use()

    def close(self) -> None:
        """There is nothing to let go."""


def _read_cpuinfo() -> str:
    try:
        return CPUINFO_PATH.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _processor_name(cpuinfo: str) -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, flags=re.MULTILINE)
    return found[1].strip() if found else ""


def _processor_notes(cpuinfo: str, mirrors: int) -> list[str]:
    notes = []
    if any(maker in cpuinfo for maker in _AMD_VENDORS):
        notes.append("AMD's counters are partly modelled (Schöne et al. 2021, arXiv 2108.00808)")
    if mirrors:
        notes.append(f"{mirrors} of the domains repeat another one's counter and are left out")
    return notes


def _count_text(n: int, what: str) -> str:
    return what if n == 1 else f"{n} {what}s"
