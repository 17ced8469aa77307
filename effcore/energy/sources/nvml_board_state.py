"""State of an NVIDIA board: temperature, clock, power limit, throttling, utilisation.

Each value is queried by itself, since some cards and drivers lack some of them. A missing value
is NaN, never 0.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pynvml

from effcore.energy.sources.base import BoardState

#: Reasons that hold clocks below what the work needs. Idling, clocks fixed by the user, display
#: and sync boost are excluded, because they are intended.
THROTTLE_REASONS = {
    pynvml.nvmlClocksThrottleReasonSwPowerCap: "power cap",
    pynvml.nvmlClocksThrottleReasonHwSlowdown: "hardware slowdown",
    pynvml.nvmlClocksThrottleReasonSwThermalSlowdown: "thermal limit",
    pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "hardware thermal slowdown",
    pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "power brake",
}


def read_board_state(handle: Any) -> BoardState:
    """Return the state of the board now; never raises."""
    return BoardState(
        temperature_c=_first_answer(
            lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
            lambda: pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU),
        ),
        sm_clock_mhz=_first_answer(
            lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)
        ),
        power_limit_w=_first_answer(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle)) / 1000,
        throttle_reasons=_read_throttle_reasons(handle),
        utilisation_frac=_first_answer(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        / 100,
        t=time.monotonic(),
    )


def _first_answer(*queries: Callable[[], Any]) -> float:
    """Return the result of the first query that succeeds; NaN if all fail."""
    for query in queries:
        try:
            return float(query())
        except (pynvml.NVMLError, AttributeError):  # AttributeError: an older pynvml
            continue
    return math.nan


def _read_throttle_reasons(handle: Any) -> tuple[str, ...] | None:
    bits = _first_answer(
        lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle),
        lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(
            handle
        ),  # its name before driver 535
    )
    if math.isnan(bits):
        return None
    return tuple(reason for bit, reason in THROTTLE_REASONS.items() if int(bits) & bit)
