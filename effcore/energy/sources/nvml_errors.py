"""Reasons and remedies for NVML's return codes."""

from __future__ import annotations

import pynvml

from effcore.energy.sources.base import EnergyUnavailable

#: Return codes of a call that this card or driver does not support; other calls may work.
UNSUPPORTED_CALL_CODES = (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)

#: NVML return code -> (reason, remedy).
REASONS_AND_REMEDIES: dict[int, tuple[str, str]] = {
    pynvml.NVML_ERROR_UNINITIALIZED: (
        "NVML was shut down by other code in this process",
        "start the run again, and make sure that other code shuts NVML down only if it started it",
    ),
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
        "the NVML library is not on this machine",
        "install the NVIDIA driver; a container needs utility in NVIDIA_DRIVER_CAPABILITIES",
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
    pynvml.NVML_ERROR_OPERATING_SYSTEM: (
        "the operating system or container denies access to the GPU",
        "let this process open /dev/nvidiactl and /dev/nvidia*",
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
    pynvml.NVML_ERROR_RESET_REQUIRED: (
        "the GPU needs a reset before it answers",
        "reset it (nvidia-smi --gpu-reset) or reboot; look for Xid errors in the kernel log",
    ),
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: (
        "the driver is too old to report energy",
        "update the NVIDIA driver",
    ),
}


def explain_nvml_error(error: pynvml.NVMLError) -> EnergyUnavailable:
    """Return the :class:`EnergyUnavailable` for an NVML error."""
    default = (f"NVML answered: {error}", "check that nvidia-smi works here")
    return EnergyUnavailable(*REASONS_AND_REMEDIES.get(error.value, default))
