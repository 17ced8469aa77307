"""Estimate of CPU energy from CPU time, where nothing can be measured.

``P = TDP * (0.1 + 0.9 u)`` with u the process's CPU seconds per second and logical core.
In a comparison with 80 published RAPL measurements on 4 CPUs (CodeCarbon's validation data) the
interval [P/2, 2P] contained the truth in 90 % of cases, so only the interval is given.

The user states the thermal design power (TDP): CPUs are sold with 0.9 to 30 W per logical core,
and an interval over that range adds nothing to the CPU time. An environment variable takes
precedence over a file, which the Energy page writes. Both are read whenever a meter is opened,
so that a new value applies from the next run on in every process.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psutil

from effcore.energy.sources.base import SOURCES, EnergySource, EnergyUnavailable, Reading
from effcore.home import default_home
from effcore.records import EnergyQuality

#: Environment variable with the thermal design power, W, of the logical cores that this process
#: may use; where it may use all of them, the CPU's TDP.
TDP_VARIABLE = "EFFCORE_CPU_TDP_W"
TDP_RANGE_W = (1.0, 2000.0)
#: Upper limit of the file's size; a larger file was not written by Effcore.
_MAX_FILE_BYTES = 1000
_ALLOWED_TDP = f"watts from {TDP_RANGE_W[0]:g} to {TDP_RANGE_W[1]:g}"


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
        """Open the estimate for a run on the CPU."""
        if device != "cpu":
            raise EnergyUnavailable(
                f"the run is on {device!r}, which an estimate for the CPU does not cover",
                "make the GPU's own meter readable",
            )
        cores, (tdp_w, tdp_origin) = logical_cores(), _stated_tdp_w()
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


def estimated_power_w(tdp_w: float, utilisation: float) -> float:
    """Return the estimated power, W, at a utilisation from 0 (idle) to 1 (all cores busy)."""
    return tdp_w * (0.1 + 0.9 * utilisation)


def logical_cores() -> int:
    """Return the number of logical cores that this process may use."""
    try:
        return len(psutil.Process().cpu_affinity())
    except (AttributeError, psutil.Error):  # macOS has no affinity
        return os.cpu_count() or 1


def tdp_file() -> Path:
    """Return the path of the file with the TDP stated on the Energy page."""
    return default_home() / "rated-power.json"


def store_tdp(watts: float | None) -> None:
    """Store the CPU's thermal design power, W, for later runs; ``None`` deletes it.

    Raises:
        ValueError: ``watts`` is not a number within ``TDP_RANGE_W``.
        OSError: The file cannot be written.
    """
    path = tdp_file()
    if watts is None:
        path.unlink(missing_ok=True)
        return
    if not _is_valid_tdp(watts):
        raise ValueError(f"watts={watts} is not allowed: expected {_ALLOWED_TDP}")
    path.parent.mkdir(parents=True, exist_ok=True)
    new_path = path.with_suffix(".new")
    new_path.write_text(json.dumps({"cpu_tdp_w": float(watts)}), encoding="utf-8")
    new_path.replace(path)


def stored_tdp_w() -> float | None:
    """Return the stored thermal design power, W; ``None`` if the file is missing or damaged."""
    with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
        with tdp_file().open("rb") as file:
            watts = json.loads(file.read(_MAX_FILE_BYTES)).get("cpu_tdp_w")
        if _is_valid_tdp(watts):
            return float(watts)
    return None


def _stated_tdp_w() -> tuple[float, str]:
    """Return the stated thermal design power, W, and a text on where it was stated."""
    if text := os.environ.get(TDP_VARIABLE):
        watts = math.nan
        with contextlib.suppress(ValueError):
            watts = float(text)
        if not _is_valid_tdp(watts):
            raise EnergyUnavailable(
                f"{TDP_VARIABLE}={text!r} is not a power: expected {_ALLOWED_TDP}",
                "set it to the CPU's thermal design power, or unset it",
            )
        return watts, f"from {TDP_VARIABLE}"
    stored_w = stored_tdp_w()
    if stored_w is None:
        raise EnergyUnavailable(
            "the CPU's rated power is not stated",
            f"state it on the Energy page, or set {TDP_VARIABLE} to its TDP in watts",
        )
    return stored_w, "as stated on the Energy page"


def _is_valid_tdp(watts: Any) -> bool:
    lo, hi = TDP_RANGE_W
    return isinstance(watts, int | float) and watts is not True and lo <= watts <= hi
