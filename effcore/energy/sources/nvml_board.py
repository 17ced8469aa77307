"""NVML's UUID and handle of the GPU that torch uses.

Boards are matched by UUID, never by index: torch numbers the boards that
``CUDA_VISIBLE_DEVICES`` leaves, fastest first, while NVML numbers all of them by bus address and
ignores that variable. CUDA resolves the variable in each of its forms (numbers, ``GPU-`` and
``MIG-`` names, shortened names) before torch returns a UUID.
"""

from __future__ import annotations

import os
import re
from typing import Any

import pynvml
import torch

from effcore.energy.sources.base import EnergyUnavailable
from effcore.energy.sources.nvml_errors import UNSUPPORTED_CALL_CODES

VISIBLE_DEVICES_VARIABLE = "CUDA_VISIBLE_DEVICES"


def board_uuid(device: str) -> str:
    """Return the NVML UUID of torch's ``device``.

    Raises:
        EnergyUnavailable: The device is not an NVIDIA GPU that torch can use, or it is a
            slice of one (MIG).
    """
    if not device.startswith("cuda"):
        raise EnergyUnavailable(
            "the run is on the CPU, which a GPU board meter does not cover",
            "choose a cuda device to measure its board",
        )
    visible = os.environ.get(VISIBLE_DEVICES_VARIABLE)
    if visible is not None and visible.strip().startswith("MIG-"):  # CUDA then sees only that slice
        raise _mig_slice_error(
            f"{VISIBLE_DEVICES_VARIABLE}={visible} makes this run use a slice of a GPU (MIG)"
        )
    try:
        uuid = str(torch.cuda.get_device_properties(torch.device(device)).uuid)
    except (RuntimeError, AssertionError) as error:  # torch raises either for a missing device
        visible_text = "" if visible is None else f" with {VISIBLE_DEVICES_VARIABLE}={visible!r}"
        remedy = "choose a GPU that torch lists; if it lists none, install the NVIDIA driver"
        if torch.version.cuda is None:
            remedy = "if this machine has an NVIDIA GPU, install a PyTorch build with CUDA"
        torch_message = _first_sentence(str(error))
        raise EnergyUnavailable(
            f"torch cannot use {device!r}{visible_text} ({torch_message})", remedy
        ) from error
    if uuid.startswith("MIG-"):
        raise _mig_slice_error("the run uses a slice of a GPU (MIG)")
    return uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"


def _first_sentence(message: str) -> str:
    """Return the first sentence of torch's message, without advice and links."""
    return re.split(r"\.\s|\n", message.strip(), maxsplit=1)[0].rstrip(".")


def find_board_handle(uuid: str) -> Any:
    """Return NVML's handle of a whole board.

    Raises:
        EnergyUnavailable: It is a slice, or split into slices (MIG).
        pynvml.NVMLError: NVML does not know it, or fails.
    """
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError_NotFound:
        if _is_known_uuid(uuid.replace("GPU-", "MIG-", 1)):  # CUDA may give the UUID of a slice
            raise _mig_slice_error("the run uses a slice of a GPU (MIG)") from None
        raise
    try:
        current, _pending = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError as error:
        if error.value in UNSUPPORTED_CALL_CODES:  # a card or driver without MIG
            return handle
        raise
    if current == pynvml.NVML_DEVICE_MIG_ENABLE:
        raise _mig_slice_error("the GPU is split into slices (MIG)")
    return handle


def _is_known_uuid(uuid: str) -> bool:
    try:
        pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError:
        return False
    return True


def _mig_slice_error(what: str) -> EnergyUnavailable:
    return EnergyUnavailable(
        f"{what}: the counter covers the whole board, not this run's slice",
        "run on a GPU with MIG off",
    )
