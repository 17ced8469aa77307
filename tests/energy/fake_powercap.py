"""A tree as Linux shows it below ``/sys/class/powercap``, in a folder of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from effcore.energy.sources import rapl

RANGE_UJ = 65_532_610_987  # of AMD's Zen and of Intel's servers


class FakePowercap:
    """Zones by their id (``intel-rapl:0:1``), all in one folder as in the real class.

    Args:
        root: Where to make them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)

    def add(self, zone: str, name: str, energy_uj: int, range_uj: int = RANGE_UJ) -> None:
        (self.root / zone).mkdir()
        (self.root / zone / "name").write_text(f"{name}\n")
        (self.root / zone / "max_energy_range_uj").write_text(f"{range_uj}\n")
        self.set(zone, energy_uj)

    def set(self, zone: str, energy_uj: int | str) -> None:
        (self.root / zone / "energy_uj").write_text(f"{energy_uj}\n")


def deny(patch: pytest.MonkeyPatch, file: str) -> None:
    """Let nobody read files of that name, root included, as in a kernel that forbids it."""
    usual = rapl.read_text

    def read_text(path: Path) -> str:
        if path.name == file:
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path)

    patch.setattr(rapl, "read_text", read_text)
