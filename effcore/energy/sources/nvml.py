"""NVIDIA board energy through NVML, from the driver's energy counter: measured.

Energy comes from ``nvmlDeviceGetTotalEnergyConsumption`` only. Power is for display: INSTANT
power covers about 25 of every 100 ms on A100 and H100 (arXiv 2312.02741), so that its integral
over a periodic load can be off by a factor of two. The one-second AVERAGE covers all of the
time and is used to check the counter.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from typing import Any, Self

import pynvml
import torch

from effcore.energy.sources.base import (
    SOURCES,
    BoardState,
    EnergySource,
    EnergyUnavailable,
    Reading,
    SharedUse,
)
from effcore.energy.sources.nvml_board import board_uuid, find_board_handle
from effcore.energy.sources.nvml_board_state import read_board_state
from effcore.energy.sources.nvml_errors import explain_nvml_error
from effcore.energy.sources.nvml_other_processes import GpuProcessMonitor
from effcore.records import EnergyQuality

#: NVIDIA's NVML reference gives ±5 % of the present draw for board power (on Fermi and
#: Kepler; none is given for later cards or for the counter). Against an external meter
#: arXiv 2312.02741 found -5.8 % on A100, -5.3 % on RTX 4090, +12.7 % on RTX 2060 Super.
INSTRUMENT_ERROR_FRAC = 0.05

#: Field ids of board power: averaged over the last second, and over the shortest time available.
POWER_FIELDS = (pynvml.NVML_FI_DEV_POWER_AVERAGE, pynvml.NVML_FI_DEV_POWER_INSTANT)


@SOURCES.add
class NvmlSource(EnergySource):
    """The energy counter of one NVIDIA board.

    Use :meth:`open`. NVML counts its users, so that closing does not affect other users.

    Args:
        handle: NVML's device handle; NVML stays initialised until ``close``.
        name: The board's product name.
        uuid: The board's UUID.
        device: The device, as torch names it.
    """

    id = "nvml"
    title = "NVIDIA board counter"
    summary = "Measures the GPU board with the driver's energy counter."
    rank = 0
    quality = EnergyQuality.MEASURED
    device_type = "cuda"
    hz = 10.0  # the counter and both powers update about every 100 ms
    error_frac = INSTRUMENT_ERROR_FRAC
    times_counter_updates = True
    max_power_w = 10_000.0  # several times the power of any present board
    state_hz = 1.0
    shared_use_hz = 0.2  # the process list takes milliseconds under a driver lock

    def __init__(self, handle: Any, name: str, uuid: str, device: str) -> None:
        self._handle = handle
        self._device = device
        self._pid = os.getpid()
        self._process_monitor = GpuProcessMonitor(handle)
        self.device_uuid = uuid
        self.source = "NVML energy counter"
        self.scope = f"GPU board {name}"
        self.card, self.driver = name, _driver_text()
        self.left_out = "CPU, memory, power supply and cooling"
        self.notes = (
            f"±{INSTRUMENT_ERROR_FRAC:.0%} is NVIDIA's figure for board power; independent "
            "tests found 0 to 13 %, by card (arXiv 2312.02741)",
            f"includes all use of the board by any process; excludes {self.left_out}",
        )

    @classmethod
    def open(cls, device: str) -> Self:
        """Open the counter of the board of torch's ``device``.

        Raises:
            EnergyUnavailable: No NVIDIA GPU, driver, permission or counter; or MIG is on.
        """
        uuid = board_uuid(device)
        try:
            with contextlib.ExitStack() as cleanup:
                pynvml.nvmlInit()
                cleanup.callback(_shut_down_nvml)
                handle = find_board_handle(uuid)
                source = cls(handle, _board_name(handle), uuid, device)
                source.read()  # raises here, not during a run, if the card has no counter
                cleanup.pop_all()
        except pynvml.NVMLError as error:
            raise explain_nvml_error(error) from error
        return source

    def read(self) -> Reading:
        """Read the counter (J since the driver was loaded) and the power drawn (W).

        Raises:
            EnergyUnavailable: NVML returned an error, or this is a forked process.
        """
        t_mono, energy_j = self._read_timed_counter()
        average_w, instant_w = _field_powers_w(self._handle)
        known_powers_w = [power for power in (average_w, instant_w) if math.isfinite(power)]
        power_w = known_powers_w[0] if known_powers_w else _power_usage_w(self._handle)
        return Reading.point(t_mono, power_w, energy_j, average_w, instant_w)

    def read_counter(self) -> Reading:
        """Read the counter alone; see :meth:`read`."""
        t_mono, energy_j = self._read_timed_counter()
        return Reading.point(t_mono, math.nan, energy_j)

    def state(self) -> BoardState | None:
        """Return temperature, clocks, limit, throttling and utilisation; never raises."""
        return None if self._forked else read_board_state(self._handle)

    def shared_use(self) -> SharedUse | None:
        """Return the use of the board by other processes; never raises."""
        return None if self._forked else self._process_monitor.check_shared_use()

    def finish_work(self) -> None:
        """Wait for all launched kernels; never raises."""
        # CUDA raises a pending error again in the training code.
        with contextlib.suppress(RuntimeError):
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.synchronize(self._device)

    def close(self) -> None:
        """Shut NVML down for this user."""
        if not self._forked:
            _shut_down_nvml()

    @property
    def _forked(self) -> bool:
        return os.getpid() != self._pid

    def _read_timed_counter(self) -> tuple[float, float]:
        if self._forked:  # NVML's state belongs to the parent process
            raise EnergyUnavailable(
                "NVML does not work after a fork", "open the meter in the process that trains"
            )
        # Taken before the call: after it, Python may wait milliseconds for the interpreter lock.
        t_mono = time.monotonic()
        try:
            energy_mj = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except pynvml.NVMLError as error:
            raise explain_nvml_error(error) from error
        return t_mono, energy_mj / 1000


def _shut_down_nvml() -> None:
    with contextlib.suppress(pynvml.NVMLError):  # nothing is lost if it fails
        pynvml.nvmlShutdown()


def _board_name(handle: Any) -> str:
    try:
        return str(pynvml.nvmlDeviceGetName(handle))
    except pynvml.NVMLError:
        return "of unknown name"


def _driver_text() -> str:
    try:
        return f"NVIDIA driver {pynvml.nvmlSystemGetDriverVersion()}"
    except pynvml.NVMLError:
        return ""


def _field_powers_w(handle: Any) -> tuple[float, float]:
    """Return average and instant board power, W; NaN where a card or driver lacks it.

    Each field has its own return code. A failure here does not affect the energy.
    """
    try:
        fields = pynvml.nvmlDeviceGetFieldValues(handle, POWER_FIELDS)
    except pynvml.NVMLError:
        return math.nan, math.nan
    average_w, instant_w = (
        float(field.value.uiVal) / 1000 if field.nvmlReturn == pynvml.NVML_SUCCESS else math.nan
        for field in fields
    )
    return average_w, instant_w


def _power_usage_w(handle: Any) -> float:
    """Return board power, W, averaged over a time that depends on the card; NaN on failure."""
    try:
        return float(pynvml.nvmlDeviceGetPowerUsage(handle)) / 1000
    except pynvml.NVMLError:
        return math.nan
