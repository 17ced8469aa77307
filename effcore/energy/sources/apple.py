"""CPU energy on Apple silicon, from the chip's own energy model (IOReport): modelled.

The optional package ``zeus-apple-silicon`` reads it without administrator rights. Apple says
about the same figures in ``powermetrics`` that they "are estimated and may be inaccurate", and
not to compare devices by them; hence the quality *modelled*.

Written after the package's source code (``AppleEnergyMonitor().get_cumulative_energy()`` with
``cpu_total_mj`` and ``dram_mj``, integers or ``None``) and tested with a fake of it; not yet
run on a Mac.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

from effcore.energy.sources.base import SOURCES, EnergySource, EnergyUnavailable, MeanPower, Reading
from effcore.records import EnergyQuality

_MONITOR_MODULE = "zeus_apple_silicon"
_INSTALL_COMMAND = "pip install 'effcore[apple]'"
#: Our own allowance, not a specification: Apple states no error, and no measured one is known.
ERROR_ALLOWANCE_FRAC = 0.25


@SOURCES.add
class AppleSource(EnergySource):
    """The chip's model of the energy of its CPU, and of its memory where available.

    Use :meth:`open`.

    Args:
        monitor: The package's monitor.
        wall: Monotonic clock, s.
    """

    id = "apple"
    title = "Apple silicon energy model"
    summary = "Reads the energy model of an Apple chip."
    rank = 20
    quality = EnergyQuality.MODELLED
    hz = 2.0
    step_s = 0.12  # an M1 Ultra's counters were seen to move every 110 to 120 ms (GPU channel)
    error_frac = ERROR_ALLOWANCE_FRAC

    def __init__(self, monitor: Any, wall: Callable[[], float] = time.monotonic) -> None:
        self._monitor, self._wall = monitor, wall
        self._mean_power = MeanPower(min_gap_s=0.25, step_s=self.step_s)
        self._parts: tuple[str, ...] = ("cpu_total_mj",)
        if not self._total_mj(self._parts):
            raise EnergyUnavailable(
                "macOS reports no CPU energy for this chip",
                f"update macOS and the package: {_INSTALL_COMMAND} --upgrade",
            )
        # Decided once: a part that appeared or vanished during a run would make the sum jump.
        memory = bool(self._total_mj(("dram_mj",)))
        self._parts += ("dram_mj",) if memory else ()
        self.source = "Apple energy model (IOReport)"
        self.scope = "Apple CPU + memory" if memory else "Apple CPU"
        self.left_out = "GPU, neural engine, board, screen and power supply"
        self.notes = (
            "a model of the chip, not a measurement: Apple says that it may be inaccurate and "
            "not to compare devices by it",
            f"±{ERROR_ALLOWANCE_FRAC:.0%} is an allowance: its error is not known",
            f"includes all use of the CPU by any process; excludes {self.left_out}; on a chip "
            "made of two (Ultra) it may include only one of them",
        )

    @classmethod
    def open(cls, device: str) -> Self:
        """Open the model for a run on the CPU."""
        if device != "cpu":
            raise EnergyUnavailable(
                f"the run is on {device!r}, which the energy model of an Apple CPU does not cover",
                "make the GPU's own meter readable",
            )
        try:
            monitor = importlib.import_module(_MONITOR_MODULE).AppleEnergyMonitor()
        except ImportError as error:
            raise EnergyUnavailable(
                "the package zeus-apple-silicon is not installed",
                f"on a Mac with Apple silicon: {_INSTALL_COMMAND}",
            ) from error
        except (AttributeError, RuntimeError) as error:
            raise _unexpected_answer_error(error) from error
        return cls(monitor)

    def read(self) -> Reading:
        """Return the model's cumulative energy, J, and the mean power since the last reading, W."""
        total_mj = self._total_mj(self._parts)
        t_s = self._wall()
        if total_mj is None:
            raise EnergyUnavailable(
                f"macOS no longer reports all of {', '.join(self._parts)}", "start the run again"
            )
        energy_j = total_mj / 1000
        power_w = self._mean_power(t_s, energy_j)
        error_w = power_w * self._mean_power.error_frac
        point = Reading.point(t_s, power_w, energy_j)
        return replace(point, power_lo_w=power_w - error_w, power_hi_w=power_w + error_w)

    def close(self) -> None:
        """Drop the monitor, which ends its subscription."""
        self._monitor = None

    def _total_mj(self, parts: tuple[str, ...]) -> int | None:
        """Return the sum of some parts, mJ, or ``None`` where one is missing."""
        try:
            energies = self._monitor.get_cumulative_energy()
        except (AttributeError, RuntimeError, ValueError) as error:
            raise _unexpected_answer_error(error) from error
        total_mj = 0
        for name in parts:
            millijoules = getattr(energies, name, None)
            if not isinstance(millijoules, int):
                return None
            total_mj += millijoules
        return total_mj


def _unexpected_answer_error(error: Exception) -> EnergyUnavailable:
    return EnergyUnavailable(
        f"zeus-apple-silicon does not answer as expected ({type(error).__name__}: {error})",
        f"update it: {_INSTALL_COMMAND} --upgrade",
    )
