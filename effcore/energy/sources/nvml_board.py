"""Which board NVML knows the GPU by that torch uses.

By UUID, never by number: torch numbers what ``CUDA_VISIBLE_DEVICES`` leaves, fastest
first, NVML numbers all by bus address and does not read that variable. CUDA resolves it
in each of its forms (numbers, ``GPU-`` and ``MIG-`` names, shortened ones) before torch
names the board.
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
        EnergyUnavailable: The device is not an NVIDIA GPU that torch can see, or it is a
            slice of one.
    """
    if not device.startswith("cuda"):
        raise EnergyUnavailable(
            "the run is on the CPU, which a GPU board meter does not see",
            "choose a cuda device to have its board measured",
        )
    visible = os.environ.get(VISIBLE_DEVICES_VARIABLE)
    if visible is not None and visible.strip().startswith("MIG-"):  # CUDA then sees only that
        raise _mig_slice_error(
            f"{VISIBLE_DEVICES_VARIABLE}={visible} makes this run use a slice of a GPU (MIG)"
        )
    try:
        uuid = str(torch.cuda.get_device_properties(torch.device(device)).uuid)
    except (RuntimeError, AssertionError) as error:  # torch's answers to a missing device
        hidden = "" if visible is None else f" with {VISIBLE_DEVICES_VARIABLE}={visible!r}"
        remedy = "choose a GPU that torch lists; where it lists none, install the NVIDIA driver"
        if torch.version.cuda is None:
            remedy = "where there is an NVIDIA GPU, install a PyTorch that is built for CUDA"
        why = _first_sentence(str(error))
        raise EnergyUnavailable(f"torch cannot use {device!r}{hidden} ({why})", remedy) from error
    if uuid.startswith("MIG-"):
        raise _mig_slice_error("the run uses a slice of a GPU (MIG)")
    return uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"


def _first_sentence(message: str) -> str:
    """Return what torch says, without the advice and the addresses that follow."""
    return re.split(r"\.\s|\n", message.strip(), maxsplit=1)[0].rstrip(".")


def find_board_handle(uuid: str) -> Any:
    """Return NVML's handle of a whole board.

    Raises:
        EnergyUnavailable: It is a slice, or split into slices.
        pynvml.NVMLError: NVML does not know it, or fails.
    """
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError_NotFound:
        if _is_known_uuid(uuid.replace("GPU-", "MIG-", 1)):  # CUDA does not say which of both it is
            raise _mig_slice_error("the run uses a slice of a GPU (MIG)") from None
        raise
    try:
        current, _pending = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError as error:
        if error.value in UNSUPPORTED_CALL_CODES:  # a card or driver from before slices
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
