"""NVIDIA board energy through NVML: the driver's own counter, measured.

Joules come from ``nvmlDeviceGetTotalEnergyConsumption`` only. Power is there to look at:
INSTANT power sees about 25 of every 100 ms on A100 and H100 (arXiv 2312.02741), so that
its sum over a periodic load can be off by a factor of two.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any, Self

import pynvml
import torch

from effcore.energy.base import SOURCES, EnergySource, EnergyUnavailable, Reading
from effcore.events import Quality

#: NVIDIA's NVML reference gives ±5 % of the present draw for board power (on Fermi and
#: Kepler; none is given for later cards or for the counter). Against an external meter
#: arXiv 2312.02741 found -5.8 % on A100, -5.3 % on RTX 4090, +12.7 % on RTX 2060 Super.
INSTRUMENT_ERROR_FRAC = 0.05

#: Field ids of board power in the order of preference: the average sees all of the time.
POWER_FIELDS = (pynvml.NVML_FI_DEV_POWER_AVERAGE, pynvml.NVML_FI_DEV_POWER_INSTANT)

#: NVML return code -> (reason, remedy).
PROBLEMS: dict[int, tuple[str, str]] = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
        "the NVML library is not on this machine",
        "install the NVIDIA driver; a container needs NVIDIA_DRIVER_CAPABILITIES with utility",
    ),
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: (
        "the NVIDIA driver is not loaded",
        "load it (modprobe nvidia) or reboot",
    ),
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "the NVML library and the loaded driver differ in version",
        "reboot after a driver update; in a container use the host's library",
    ),
    pynvml.NVML_ERROR_NO_PERMISSION: (
        "this user may not read the GPU's meters",
        "ask for read access to /dev/nvidia*",
    ),
    pynvml.NVML_ERROR_NOT_SUPPORTED: (
        "this GPU has no energy counter",
        "use a Volta (2017) or newer card that is not a virtual slice",
    ),
    pynvml.NVML_ERROR_NOT_FOUND: (
        "NVML does not know the GPU that torch uses",
        "make the whole board visible to this process, not a slice of it",
    ),
    pynvml.NVML_ERROR_GPU_IS_LOST: (
        "the GPU has dropped off the bus",
        "reboot; look for Xid errors in the kernel log",
    ),
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: (
        "the driver is too old to report energy",
        "update the NVIDIA driver",
    ),
}


def explain(error: pynvml.NVMLError) -> EnergyUnavailable:
    """Return an NVML error as a reason and a remedy in words."""
    unknown = (f"NVML answered: {error}", "check that nvidia-smi works here")
    return EnergyUnavailable(*PROBLEMS.get(error.value, unknown))


def board_uuid(device: str) -> str:
    """Return the NVML UUID of torch's ``device``.

    By UUID because torch's order of devices need not be NVML's.

    Raises:
        EnergyUnavailable: The device is not an NVIDIA GPU that torch can see.
    """
    if not device.startswith("cuda"):
        raise EnergyUnavailable(
            "the run is on the CPU, which a GPU board meter does not see",
            "choose a cuda device to have its board measured",
        )
    try:
        uuid = str(torch.cuda.get_device_properties(torch.device(device)).uuid)
    except (RuntimeError, AssertionError) as error:  # torch's answers to a missing device
        raise EnergyUnavailable(
            f"torch cannot use {device!r} ({error})", "choose a device that torch lists"
        ) from error
    return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"


@SOURCES.add
class NvmlSource(EnergySource):
    """The energy counter of one NVIDIA board.

    Use :meth:`open`. NVML counts its own users, so that closing leaves others be.

    Args:
        handle: NVML's device handle; NVML is initialised and stays so until ``close``.
        name: The board's product name.
    """

    id = "nvml"
    title = "NVIDIA board counter"
    summary = "Measures the GPU board with the driver's energy counter."
    rank = 0
    quality = Quality.MEASURED
    hz = 10.0  # the counter and both powers refresh about every 100 ms
    error_frac = INSTRUMENT_ERROR_FRAC

    def __init__(self, handle: Any, name: str) -> None:
        self._handle = handle
        self.source = "NVML energy counter"
        self.scope = f"GPU board {name}"
        self.notes = (
            f"±{INSTRUMENT_ERROR_FRAC:.0%} is NVIDIA's figure for board power; independent "
            "tests found 0 to 13 %, by card (arXiv 2312.02741)",
            "the whole board, whoever uses it; CPU, memory, power supply and cooling are not in it",
        )

    @classmethod
    def open(cls, device: str) -> Self:
        """Open the counter of the board behind torch's ``device``.

        Raises:
            EnergyUnavailable: No NVIDIA GPU, driver, permission or counter; or MIG is on.
        """
        uuid = board_uuid(device)
        try:
            with contextlib.ExitStack() as undo:
                pynvml.nvmlInit()
                undo.callback(_shutdown)
                handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
                _refuse_slices(handle)
                opened = cls(handle, pynvml.nvmlDeviceGetName(handle))
                opened.read()  # a card without a counter is refused here, not in mid-run
                undo.pop_all()
        except pynvml.NVMLError as error:
            raise explain(error) from error
        return opened

    def read(self) -> Reading:
        """Read the counter (J since the driver was loaded) and the power drawn (W).

        Raises:
            EnergyUnavailable: NVML returned an error.
        """
        try:
            energy_mj = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
            t_mono = time.monotonic()
            return Reading.point(t_mono, _power_w(self._handle), energy_mj / 1000)
        except pynvml.NVMLError as error:
            raise explain(error) from error

    def close(self) -> None:
        """Give up this user's share of NVML."""
        _shutdown()


def _shutdown() -> None:
    with contextlib.suppress(pynvml.NVMLError):  # nothing is lost if it fails
        pynvml.nvmlShutdown()


def _refuse_slices(handle: Any) -> None:
    try:
        current, _pending = pynvml.nvmlDeviceGetMigMode(handle)
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
        return  # a card or driver from before slices
    if current == pynvml.NVML_DEVICE_MIG_ENABLE:
        raise EnergyUnavailable(
            "the GPU is split into slices (MIG): its counter covers the whole board, "
            "not this run's slice",
            "run on a GPU with MIG off",
        )


def _power_w(handle: Any) -> float:
    """Return board power, W: 1 s average, else instant, else whatever the driver has.

    Drivers and cards lack one or the other field; each says so in its own return code.
    """
    absent = (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound)
    with contextlib.suppress(*absent, pynvml.NVMLError_InvalidArgument):
        for field in pynvml.nvmlDeviceGetFieldValues(handle, POWER_FIELDS):
            if field.nvmlReturn == pynvml.NVML_SUCCESS:
                return float(field.value.uiVal) / 1000
    with contextlib.suppress(*absent):
        return float(pynvml.nvmlDeviceGetPowerUsage(handle)) / 1000
    return math.nan
