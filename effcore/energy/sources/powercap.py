"""RAPL energy counters in Linux's powercap: discovery, mirrored domains and overflow.

``/sys/class/powercap`` lists every domain as a folder. Only ``package-*`` and ``dram`` are
used: ``core`` and ``uncore`` are parts of their package, ``psys`` contains the packages, and
``intel-rapl-mmio`` shows the same package through another interface.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from effcore.energy.sources.base import EnergyUnavailable

#: Upper limit of a package's power (the highest is 760 W, AMD Instinct MI300A); a larger gain
#: of a counter is not plausible.
MAX_PACKAGE_W = 1000.0
#: Tolerance when two reads of one counter are compared: counters update about every millisecond
#: (Intel SDM 3B, MSR_PKG_ENERGY_STATUS).
COUNTER_SLACK_J = 1.0

_PACKAGE_NAME_PATTERN = re.compile(r"(package-\d+)(-die-\d+)?")
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


def read_text(path: Path) -> str:
    """Return the text of a kernel file, without surrounding white space."""
    return path.read_text(encoding="ascii").strip()


def read_kernel_text(path: Path) -> str:
    """Return the text of a kernel file.

    Raises:
        EnergyUnavailable: The user lacks the permission, or the file cannot be read.
    """
    try:
        return read_text(path)
    except PermissionError as error:
        raise EnergyUnavailable(_PERMISSION_REASON, _PERMISSION_REMEDY) from error
    except (OSError, ValueError) as error:
        raise _unreadable_file_error(path) from error


class RaplDomain(NamedTuple):
    """One counter.

    Attributes:
        name: As the kernel calls it: ``package-0``, ``package-0-die-1`` or ``dram``.
        package: The package it belongs to, ``package-0``.
        path: Its folder.
        range_uj: The counter wraps to 0 after this value, µJ.
    """

    name: str
    package: str
    path: Path
    range_uj: int

    def read_uj(self) -> int:
        """Return the counter, µJ.

        Raises:
            EnergyUnavailable: The user lacks the permission, or the file cannot be read.
        """
        return _read_number(self.path / "energy_uj")

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
    names = {zone.name: read_kernel_text(zone / "name") for zone in zones}
    domains = []
    for zone, name in names.items():
        parent = names.get(zone.rpartition(":")[0], "")
        package = _PACKAGE_NAME_PATTERN.fullmatch(parent if name == "dram" else name)
        if package is None:
            continue
        range_uj = _read_number(root / zone / "max_energy_range_uj")
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
        if not any(
            _are_same_package_and_kind(domain, earlier) and is_mirror(earlier, domain)
            for earlier in distinct
        ):
            distinct.append(domain)
    return distinct


def is_mirror(one: RaplDomain, other: RaplDomain) -> bool:
    """Return whether two domains show the same counter.

    They do if the second, read between two reads of the first, lies between these within a
    joule. Two separate counters of tens of thousands of joules hardly do so by chance.
    """
    before, between, after = one.read_uj(), other.read_uj(), one.read_uj()
    slack_uj = round(COUNTER_SLACK_J * 1e6)
    spent_uj = one.gained_uj(before, after)
    return one.gained_uj(before - slack_uj, between) <= spent_uj + 2 * slack_uj


def _are_same_package_and_kind(domain: RaplDomain, other: RaplDomain) -> bool:
    same_kind = (domain.name == "dram") == (other.name == "dram")
    return same_kind and domain.package == other.package


def _read_number(path: Path) -> int:
    text = read_kernel_text(path)
    if not text.isdecimal():
        raise _unreadable_file_error(path)
    return int(text)


def _unreadable_file_error(path: Path) -> EnergyUnavailable:
    return EnergyUnavailable(
        f"the kernel's {path.parent.name}/{path.name} cannot be read as a counter",
        "look in the kernel log for messages of powercap or intel_rapl",
    )
