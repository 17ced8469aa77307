"""An NVML library in Python: pynvml's own wrappers, structs and error mapping run over it.

``install`` puts it where pynvml keeps the loaded C library. Its attributes are the C
functions: they take ctypes arguments, write through pointers and return NVML codes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

UUID = "5f6e1a2b-0000-4000-8000-00000000000a"
OTHER_UUID = "5f6e1a2b-0000-4000-8000-00000000000b"


class FakeNvml:
    """One board, the second of two in NVML's order, that draws ``watts(t)`` at time ``t``.

    The counter and the power fields change only every ``refresh_s``. ``codes`` makes a C
    function return an error; ``field_codes`` does so for one field of the batch.
    """

    def __init__(self, watts: Callable[[float], float], refresh_s: float = 0.1) -> None:
        self.watts = watts
        self.refresh_s = refresh_s
        self.t = 0.0
        self.base_mj = 7_000_000  # the driver has been up for a while
        self.users = 0
        self.mig = pynvml.NVML_DEVICE_MIG_DISABLE
        self.codes: dict[str, int] = {}
        self.field_codes: dict[int, int] = {}
        self.absent: set[str] = set()
        self.handles = {f"GPU-{OTHER_UUID}": 0x1000, f"GPU-{UUID}": 0x2000}
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        """Return the C function, as ``getattr`` on a ``ctypes.CDLL`` does."""
        if name.startswith("__") or name in self.absent:
            raise AttributeError(name)
        body = getattr(type(self), f"c_{name}", None)
        if body is None:
            raise AttributeError(name)

        def function(*arguments: Any) -> int:
            self.calls.append(name)
            code = self.codes.get(name, pynvml.NVML_SUCCESS)
            return code if code != pynvml.NVML_SUCCESS else int(body(self, *arguments) or 0)

        return function

    def energy_mj(self) -> int:
        """Return the counter: energy up to the last refresh, by 1 ms rectangles."""
        refreshed_s = int(self.t / self.refresh_s + 1e-9) * self.refresh_s
        steps = round(refreshed_s * 1000)
        return self.base_mj + round(sum(self.watts(i / 1000) for i in range(steps)))

    def power_mw(self) -> int:
        return round(1000 * self.watts(int(self.t / self.refresh_s + 1e-9) * self.refresh_s))

    def c_nvmlInitWithFlags(self, flags: int) -> None:
        self.users += 1

    def c_nvmlShutdown(self) -> None:
        self.users -= 1

    def c_nvmlDeviceGetHandleByUUID(self, uuid: Any, device: Any) -> int | None:
        address = self.handles.get(uuid.value.decode())
        if address is None:
            return int(pynvml.NVML_ERROR_NOT_FOUND)
        ctypes.c_void_p.from_address(ctypes.addressof(device._obj)).value = address
        return None

    def c_nvmlDeviceGetName(self, device: Any, name: Any, size: Any) -> None:
        name.value = b"NVIDIA Fake"

    def c_nvmlDeviceGetMigMode(self, device: Any, now: Any, next_: Any) -> None:
        now._obj.value = next_._obj.value = self.mig

    def c_nvmlDeviceGetTotalEnergyConsumption(self, device: Any, out: Any) -> None:
        assert ctypes.cast(device, ctypes.c_void_p).value == 0x2000, "the wrong board was read"
        out._obj.value = self.energy_mj()

    def c_nvmlDeviceGetFieldValues(self, device: Any, n: Any, out: Any) -> None:
        for field in out._obj[: n.value]:
            field.nvmlReturn = self.field_codes.get(field.fieldId, pynvml.NVML_SUCCESS)
            if field.nvmlReturn == pynvml.NVML_SUCCESS:
                field.value.uiVal = self.power_mw()

    def c_nvmlDeviceGetPowerUsage(self, device: Any, out: Any) -> None:
        out._obj.value = self.power_mw() + 1000  # 1 W apart, so that a test can tell


@contextmanager
def install(nvml: FakeNvml | None) -> Iterator[None]:
    """Make pynvml load ``nvml``, or find no library at all, and torch see one GPU."""

    def no_library(path: str) -> None:
        raise OSError(f"{path}: cannot open shared object file")

    def properties(device: torch.device) -> SimpleNamespace:
        assert device.type == "cuda"
        if (device.index or 0) > 0:
            raise AssertionError("Invalid device id")
        return SimpleNamespace(uuid=UUID)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pynvml, "nvmlLib", nvml)
        patch.setattr(pynvml, "CDLL", no_library)
        patch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        patch.setattr(pynvml, "_nvmlLib_refcount", 0)
        patch.setattr(torch.cuda, "get_device_properties", properties)
        yield
