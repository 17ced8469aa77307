"""An NVML library in Python: pynvml's own wrappers, structs and error mapping run over it.

``install`` puts it where pynvml keeps the loaded C library. Its attributes are the C
functions: they take ctypes arguments, write through pointers and return NVML codes.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pynvml
import pytest
import torch

from tests.energy.fake_cuda import Cuda

UUID = "5f6e1a2b-0000-4000-8000-00000000000a"
OTHER_UUID = "5f6e1a2b-0000-4000-8000-00000000000b"
SLICE_UUID = "77c0ffee-0000-4000-8000-0000000000a1"
#: CUDA's order, fastest first; NVML's is the other way round.
CUDA_ORDER = (UUID, OTHER_UUID)
OTHER_BOARD_J = 31_000.0


class FakeNvml:
    """Two boards; the second in NVML's order draws ``watts(t)`` at time ``t``.

    The counter and the power fields change only every ``refresh_s``, first at ``phase_s``;
    average power is that of the last second, instant power of the last 25 ms. ``codes``
    makes a C function return an error; ``field_codes`` does so for one field of the batch.
    """

    def __init__(
        self, watts: Callable[[float], float], refresh_s: float = 0.1, phase_s: float = 0.0
    ) -> None:
        self.watts = watts
        self.refresh_s = refresh_s
        self.phase_s = phase_s
        self.t = 0.0
        self.base_mj = 7_000_000  # the driver has been up for a while
        self.gain = 1.0  # of the counter: what it counts for each joule
        self.users = 0
        self.mig = pynvml.NVML_DEVICE_MIG_DISABLE
        self.codes: dict[str, int] = {}
        self.field_codes: dict[int, int] = {}
        self.absent: set[str] = set()
        self.handles = {f"GPU-{OTHER_UUID}": 0x1000, f"GPU-{UUID}": 0x2000}
        self.calls: list[str] = []
        self.throttle = 0
        self.pids: list[int] = []
        self.samples: list[tuple[int, int, int]] = []  # pid, microseconds, percent of SM time
        self._sums_mj = [0.0]

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

    def used_mj(self, t: float) -> float:
        """Return the true energy from 0 to ``t``, by 1 ms rectangles; before, as at 0."""
        if t < 0:
            return 1000 * t * self.watts(0.0)
        sums, whole = self._sums_mj, math.floor(t * 1000 + 1e-6)
        while len(sums) <= whole + 1:
            sums.append(sums[-1] + self.watts((len(sums) - 1) / 1000))
        return sums[whole] + (t * 1000 - whole) * (sums[whole + 1] - sums[whole])

    def refreshed_s(self) -> float:
        """Return when the board last refreshed what it shows."""
        steps = math.floor((self.t - self.phase_s) / self.refresh_s + 1e-9)
        return steps * self.refresh_s + self.phase_s

    def mean_mw(self, seconds: float) -> int:
        t = self.refreshed_s()
        return round((self.used_mj(t) - self.used_mj(t - seconds)) / seconds)

    def board(self, device: Any) -> int:
        return ctypes.cast(device, ctypes.c_void_p).value or 0

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

    def c_nvmlSystemGetDriverVersion(self, version: Any, size: Any) -> None:
        version.value = b"535.00"

    def c_nvmlDeviceGetMigMode(self, device: Any, now: Any, next_: Any) -> None:
        now._obj.value = next_._obj.value = self.mig

    def c_nvmlDeviceGetTotalEnergyConsumption(self, device: Any, out: Any) -> None:
        if self.board(device) != 0x2000:
            out._obj.value = round(1000 * OTHER_BOARD_J)
            return
        out._obj.value = self.base_mj + round(self.gain * self.used_mj(self.refreshed_s()))

    def c_nvmlDeviceGetFieldValues(self, device: Any, n: Any, out: Any) -> None:
        for field in out._obj[: n.value]:
            field.nvmlReturn = self.field_codes.get(field.fieldId, pynvml.NVML_SUCCESS)
            if field.nvmlReturn == pynvml.NVML_SUCCESS:
                average = field.fieldId == pynvml.NVML_FI_DEV_POWER_AVERAGE
                field.value.uiVal = self.mean_mw(1.0 if average else 0.025)

    def c_nvmlDeviceGetPowerUsage(self, device: Any, out: Any) -> None:
        out._obj.value = self.mean_mw(0.025) + 1000  # 1 W apart, so that a test can tell

    def c_nvmlDeviceGetTemperature(self, device: Any, sensor: Any, out: Any) -> None:
        out._obj.value = 61

    def c_nvmlDeviceGetTemperatureV(self, device: Any, out: Any) -> None:
        out._obj.temperature = 62

    def c_nvmlDeviceGetClockInfo(self, device: Any, kind: Any, out: Any) -> None:
        assert kind.value == pynvml.NVML_CLOCK_SM
        out._obj.value = 1755

    def c_nvmlDeviceGetEnforcedPowerLimit(self, device: Any, out: Any) -> None:
        out._obj.value = 700_000

    def c_nvmlDeviceGetCurrentClocksEventReasons(self, device: Any, out: Any) -> None:
        out._obj.value = self.throttle

    def c_nvmlDeviceGetCurrentClocksThrottleReasons(self, device: Any, out: Any) -> None:
        out._obj.value = self.throttle

    def c_nvmlDeviceGetUtilizationRates(self, device: Any, out: Any) -> None:
        out._obj.gpu, out._obj.memory = 87, 40

    def c_nvmlDeviceGetComputeRunningProcesses_v3(
        self, device: Any, count: Any, out: Any
    ) -> int | None:
        room, count._obj.value = count._obj.value, len(self.pids)
        if room < len(self.pids):
            return int(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
        for i, pid in enumerate(self.pids):
            out[i].pid = pid
        return None

    c_nvmlDeviceGetComputeRunningProcesses_v2 = c_nvmlDeviceGetComputeRunningProcesses_v3

    def c_nvmlDeviceGetProcessUtilization(
        self, device: Any, out: Any, count: Any, since_us: Any
    ) -> int | None:
        count._obj.value = len(self.samples)
        if out is None:  # with none at all, the real one says SUCCESS, which pynvml raises
            return int(pynvml.NVML_ERROR_INSUFFICIENT_SIZE) if self.samples else None
        for i, (pid, t_us, percent) in enumerate(self.samples):
            out[i].pid, out[i].timeStamp, out[i].smUtil = pid, t_us, percent
        return None


@contextmanager
def install(nvml: FakeNvml | None) -> Iterator[Cuda]:
    """Make pynvml load ``nvml``, or find no library at all, and torch see its boards."""

    def no_library(path: str) -> None:
        raise OSError(f"{path}: cannot open shared object file")

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        patch.setattr(pynvml, "nvmlLib", nvml)
        patch.setattr(pynvml, "CDLL", no_library)
        patch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        patch.setattr(pynvml, "_nvmlLib_refcount", 0)
        cuda = Cuda(CUDA_ORDER)
        patch.setattr(torch.cuda, "get_device_properties", cuda.properties)
        patch.setattr(torch.cuda, "is_initialized", lambda: cuda.initialised)
        yield cuda
