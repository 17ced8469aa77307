"""Estimate of CPU energy from CPU time, where nothing can be measured.

``P = TDP * (0.1 + 0.9 u)`` with u the process's CPU seconds per second and logical core.
In a comparison with 80 published RAPL measurements on 4 CPUs (CodeCarbon's validation data) the
interval [P/2, 2P] contained the truth in 90 % of cases, so only the interval is given.
Without a stated TDP there is no estimate: CPUs are sold with 0.9 to 30 W per logical core, and
an interval over that range adds nothing to the CPU time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Self

import psutil

from effcore.energy.sources.base import SOURCES, EnergySource, EnergyUnavailable, Reading
from effcore.energy.tdp import stated_tdp_w
from effcore.records import EnergyQuality


def estimated_power_w(tdp_w: float, utilisation: float) -> float:
    """Return the estimated power, W, at a utilisation from 0 (idle) to 1 (all cores busy)."""
    return tdp_w * (0.1 + 0.9 * utilisation)


def logical_cores() -> int:
    """Return the number of logical cores that this process may use."""
    try:
        return len(psutil.Process().cpu_affinity())
    except (AttributeError, psutil.Error):  # macOS has no affinity
        return os.cpu_count() or 1


@SOURCES.add
class CpuEstimateSource(EnergySource):
    """Estimated CPU power, integrated from one reading to the next.

    Args:
        tdp_w: Thermal design power of the cores, W.
        cores: Logical cores over which the process's CPU seconds are spread.
        source: The source in words, with the origin of the TDP.
        wall: Monotonic clock, s.
        cpu_seconds: CPU seconds of this process, all threads, children excluded.
    """

    id = "cpu-model"
    title = "CPU model"
    summary = "Estimates an interval from the CPU time this process takes."
    rank = 90
    quality = EnergyQuality.ESTIMATED
    hz = 4.0

    def __init__(
        self,
        tdp_w: float,
        cores: int,
        source: str,
        wall: Callable[[], float] = time.monotonic,
        cpu_seconds: Callable[[], float] = time.process_time,
    ) -> None:
        self._tdp_w, self._cores = tdp_w, cores
        self._wall, self._cpu_seconds = wall, cpu_seconds
        self._wall_s, self._cpu_s = wall(), cpu_seconds()
        self._lo_j = self._hi_j = 0.0
        self.source = source
        self.scope = "CPU, as this process loads it"
        self.left_out = "memory, board, power supply and other processes"
        self.notes = (
            "an estimate from CPU time: it only restates how busy this process kept the CPU, and "
            "is no evidence of a saving",
            f"excludes {self.left_out}",
        )

    @classmethod
    def open(cls, device: str) -> Self:
        """Open the estimate for a run on the CPU.

        Raises:
            EnergyUnavailable: The device is not the CPU, or the TDP is not stated or invalid.
        """
        if device != "cpu":
            raise EnergyUnavailable(
                f"the run is on {device!r}, which an estimate for the CPU does not cover",
                "make the GPU's own meter readable",
            )
        cores, (tdp_w, tdp_origin) = logical_cores(), stated_tdp_w()
        source = f"CPU-time model, TDP {tdp_w:g} W {tdp_origin}, {cores} logical cores"
        return cls(tdp_w, cores, source)

    def read(self) -> Reading:
        """Return the interval of power since the last reading, and of energy since opening."""
        wall_s, cpu_s = self._wall(), self._cpu_seconds()
        passed_s, busy_s = wall_s - self._wall_s, cpu_s - self._cpu_s
        self._wall_s, self._cpu_s = wall_s, cpu_s
        # Two readings at the same time show no load: it may be anything from 0 to 1.
        utilisation_ends = (0.0, 1.0)
        if passed_s > 0:
            utilisation_ends = (min(max(busy_s / (passed_s * self._cores), 0.0), 1.0),) * 2
        lo_w = estimated_power_w(self._tdp_w, utilisation_ends[0]) / 2
        hi_w = estimated_power_w(self._tdp_w, utilisation_ends[1]) * 2
        self._lo_j += lo_w * passed_s
        self._hi_j += hi_w * passed_s
        return Reading.interval(wall_s, (lo_w, hi_w), (self._lo_j, self._hi_j))

    def close(self) -> None:
        """Do nothing: the estimate holds no resources."""
