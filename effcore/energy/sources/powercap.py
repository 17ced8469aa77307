"""RAPL's domains as Linux shows them: which there are, which may be summed, how they count.

``/sys/class/powercap`` lists every domain as a folder. Only ``package-*`` and ``dram`` are
kept: ``core`` and ``uncore`` are inside their package, ``psys`` contains the packages, and
``intel-rapl-mmio`` shows the same package by another road.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from effcore.energy.sources.base import EnergyUnavailable

#: More than a package draws (760 W at most, AMD Instinct MI300A), so that what a counter
#: gained can be told from what it cannot have gained.
MAX_PACKAGE_W = 1000.0
#: What two looks at one counter may differ by beyond what was spent between them: counters
#: are updated about every millisecond (Intel SDM 3B, MSR_PKG_ENERGY_STATUS).
COUNTER_SLACK_J = 1.0

_PACKAGE_NAME_PATTERN = re.compile(r"(package-\d+)(-die-\d+)?")
_PERMISSION_REMEDY = (
    "let a group read them, as root: groupadd -f powercap; usermod -aG powercap USER; "
    "chgrp powercap /sys/class/powercap/intel-rapl:*/energy_uj; "
    "chmod g+r /sys/class/powercap/intel-rapl:*/energy_uj; then sign in anew. To keep it after "
    "a restart, put this udev rule into /etc/udev/rules.d/90-powercap.rules: "
    'SUBSYSTEM=="powercap", KERNEL=="intel-rapl:*", ACTION=="add", '
    'RUN+="/bin/chgrp powercap /sys%p/energy_uj", RUN+="/bin/chmod g+r /sys%p/energy_uj"'
)
_PERMISSION_REASON = (
    "only root may read the processor's energy counters: since CVE-2020-8694 Linux keeps them "
    "from others, because their course can betray secret keys"
)


def read_text(path: Path) -> str:
    """Return the text of a kernel file, without the line's end."""
    return path.read_text(encoding="ascii").strip()


def read_kernel_text(path: Path) -> str:
    """Return the text of a kernel file.

    Raises:
        EnergyUnavailable: It may not be read, or cannot be.
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
        range_uj: It starts anew at 0 after this value, µJ.
    """

    name: str
    package: str
    path: Path
    range_uj: int

    def read_uj(self) -> int:
        """Return the counter, µJ.

        Raises:
            EnergyUnavailable: It may not be read, or does not answer.
        """
        return _read_number(self.path / "energy_uj")

    def gained_uj(self, before_uj: int, now_uj: int) -> int:
        """Return what was added between two readings, at most one start from 0 in between."""
        return (now_uj - before_uj) % self.range_uj


def find_domains(root: Path) -> list[RaplDomain]:
    """Return the packages and memories that ``root`` shows, in the kernel's order.

    Raises:
        EnergyUnavailable: A domain is there, and its files do not answer.
    """
    # Where a container hides powercap, links to the domains may be left that lead nowhere.
    zones = [z for z in sorted(root.glob("intel-rapl:*")) if os.path.exists(z / "name")]
    names = {zone.name: read_kernel_text(zone / "name") for zone in zones}
    found = []
    for zone, name in names.items():
        parent = names.get(zone.rpartition(":")[0], "")
        package = _PACKAGE_NAME_PATTERN.fullmatch(parent if name == "dram" else name)
        if package is None:
            continue
        range_uj = _read_number(root / zone / "max_energy_range_uj")
        if range_uj <= 0:
            raise _unreadable_file_error(root / zone / "max_energy_range_uj")
        found.append(RaplDomain(name, package[1], root / zone, range_uj))
    return found


def drop_mirrored_domains(found: Iterable[RaplDomain]) -> list[RaplDomain]:
    """Return the domains without those that show another one's counter again.

    On AMD and Hygon the package has one counter, which each of its dies shows; the dies of
    Intel's multi-die package have counters of their own (Linux, ``arch/x86/events/rapl.c``).
    So dies are compared, and only within one package.
    """
    kept: list[RaplDomain] = []
    for domain in found:
        if not any(
            _are_same_package_and_kind(domain, other) and is_mirror(other, domain) for other in kept
        ):
            kept.append(domain)
    return kept


def is_mirror(one: RaplDomain, other: RaplDomain) -> bool:
    """Return whether two domains show one counter.

    They do if the second, looked at between two looks at the first, lies between them, give
    or take a joule: two counters of tens of thousands of joules each hardly do so by chance.
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
        f"the kernel's {path.parent.name}/{path.name} does not answer as it should",
        "look into the kernel log for messages of powercap or intel_rapl",
    )
