"""What an NVIDIA board is doing: temperature, clocks, limit, throttling, utilisation.

Each is asked for by itself: cards and drivers lack one or the other, and a missing one is
NaN, never 0.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pynvml

from effcore.energy.sources.base import BoardState

#: What holds clocks down below what the work asks for. Left out are idling, clocks fixed
#: by the user, display and sync boost, which hold them where they were told to be.
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


def _first_answer(*asks: Callable[[], Any]) -> float:
    """Return the first answer there is; NaN for none."""
    for ask in asks:
        try:
            return float(ask())
        except (pynvml.NVMLError, AttributeError):  # the latter: a wrapper from before the call
            continue
    return math.nan


def _read_throttle_reasons(handle: Any) -> tuple[str, ...] | None:
    bits = _first_answer(
        lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle),
        lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle),  # its name before 535
    )
    if math.isnan(bits):
        return None
    return tuple(words for bit, words in THROTTLE_REASONS.items() if int(bits) & bit)
