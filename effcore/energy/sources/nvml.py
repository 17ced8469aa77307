"""NVIDIA board energy through NVML, from the driver's energy counter: measured.

Energy comes from ``nvmlDeviceGetTotalEnergyConsumption`` only. Power is for display: INSTANT
power covers about 25 of every 100 ms on A100 and H100 (arXiv 2312.02741), so that its integral
over a periodic load can be off by a factor of two. The one-second AVERAGE covers all of the
time and is used to check the counter.

Boards are matched by UUID, never by index: torch numbers the boards that
``CUDA_VISIBLE_DEVICES`` leaves, fastest first, while NVML numbers all of them by bus address and
ignores that variable. CUDA resolves the variable in each of its forms (numbers, ``GPU-`` and
``MIG-`` names, shortened names) before torch returns a UUID.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import fmean
from typing import Any, Self, TypeVar

import psutil
import pynvml
import torch

from effcore.energy.sources.base import (
    SHARED_USE_UNKNOWN,
    SOURCES,
    BoardState,
    EnergySource,
    EnergyUnavailable,
    Reading,
    SharedUse,
)
from effcore.records import EnergyQuality

#: NVIDIA's NVML reference gives ±5 % of the present draw for board power (on Fermi and
#: Kepler; none is given for later cards or for the counter). Against an external meter
#: arXiv 2312.02741 found -5.8 % on A100, -5.3 % on RTX 4090, +12.7 % on RTX 2060 Super.
INSTRUMENT_ERROR_FRAC = 0.05
#: Field ids of board power: averaged over the last second, and over the shortest time available.
POWER_FIELDS = (pynvml.NVML_FI_DEV_POWER_AVERAGE, pynvml.NVML_FI_DEV_POWER_INSTANT)
#: Largest total share of SM time of other processes that does not count as shared use.
MAX_FOREIGN_SM_FRAC = 0.02
VISIBLE_DEVICES_VARIABLE = "CUDA_VISIBLE_DEVICES"
#: Reasons that hold clocks below what the work needs. Idling, clocks fixed by the user, display
#: and sync boost are excluded, because they are intended.
THROTTLE_REASONS = {
    pynvml.nvmlClocksThrottleReasonSwPowerCap: "power cap",
    pynvml.nvmlClocksThrottleReasonHwSlowdown: "hardware slowdown",
    pynvml.nvmlClocksThrottleReasonSwThermalSlowdown: "thermal limit",
    pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "hardware thermal slowdown",
    pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "power brake",
}
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
_UNSUPPORTED_CALL_CODES = (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
_FOREIGN_JOULES_NOTE = "this figure includes that energy, which cannot be separated from the run's"

T = TypeVar("T")


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
        self._sm_samples_since_us = 0  # on the driver's clock, µs
        self._read_sm_fracs()  # which discards the samples from before
        self.device_uuid = uuid
        self.source = "NVML energy counter"
        self.scope = f"GPU board {name}"
        version = _first_answer(pynvml.nvmlSystemGetDriverVersion, default="")
        self.card, self.driver = name, f"NVIDIA driver {version}" if version else ""
        self.left_out = "CPU, memory, power supply and cooling"
        self.notes = (
            f"±{INSTRUMENT_ERROR_FRAC:.0%} is NVIDIA's figure for board power; independent "
            "tests found 0 to 13 %, by card (arXiv 2312.02741)",
            f"includes all use of the board by any process; excludes {self.left_out}",
        )

    @classmethod
    def open(cls, device: str) -> Self:
        """Open the counter of the board of torch's ``device``."""
        uuid = board_uuid(device)
        try:
            with contextlib.ExitStack() as cleanup:
                pynvml.nvmlInit()
                cleanup.callback(_shut_down_nvml)
                handle = _find_board_handle(uuid)
                name = _first_answer(
                    lambda: str(pynvml.nvmlDeviceGetName(handle)), default="of unknown name"
                )
                source = cls(handle, name, uuid, device)
                source.read()  # raises here, not during a run, if the card has no counter
                cleanup.pop_all()
        except pynvml.NVMLError as error:
            raise _explain_nvml_error(error) from error
        return source

    def read(self) -> Reading:
        """Read the counter (J since the driver was loaded) and the power drawn (W)."""
        counter = self.read_counter()
        average_w = instant_w = math.nan  # a failure of these does not affect the energy
        with contextlib.suppress(pynvml.NVMLError):
            average_w, instant_w = (
                float(field.value.uiVal) / 1000
                if field.nvmlReturn == pynvml.NVML_SUCCESS
                else math.nan  # a card or driver lacks this field
                for field in pynvml.nvmlDeviceGetFieldValues(self._handle, POWER_FIELDS)
            )
        power_w = instant_w if math.isnan(average_w) else average_w
        if math.isnan(power_w):  # averaged over a time that depends on the card
            power_w = _first_number(lambda: pynvml.nvmlDeviceGetPowerUsage(self._handle)) / 1000
        return Reading.point(counter.t_mono, power_w, counter.energy_j, average_w, instant_w)

    def read_counter(self) -> Reading:
        """Read the counter alone; see :meth:`read`."""
        if self._forked:  # NVML's state belongs to the parent process
            raise EnergyUnavailable(
                "NVML does not work after a fork", "open the meter in the process that trains"
            )
        # Taken before the call: after it, Python may wait milliseconds for the interpreter lock.
        t_mono = time.monotonic()
        try:
            energy_mj = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except pynvml.NVMLError as error:
            raise _explain_nvml_error(error) from error
        return Reading.point(t_mono, math.nan, energy_mj / 1000)

    def state(self) -> BoardState | None:
        """Return temperature, clocks, limit, throttling and utilisation; never raises.

        Each value is queried by itself, since some cards and drivers lack some of them.
        """
        if self._forked:
            return None
        handle = self._handle
        reason_bits = _first_number(
            lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle),
            # Its name before driver 535:
            lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
        )
        throttle_reasons = None
        if not math.isnan(reason_bits):
            bits = int(reason_bits)
            throttle_reasons = tuple(text for bit, text in THROTTLE_REASONS.items() if bits & bit)
        return BoardState(
            temperature_c=_first_number(
                lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
                lambda: pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU),
            ),
            sm_clock_mhz=_first_number(
                lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)
            ),
            power_limit_w=_first_number(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle))
            / 1000,
            throttle_reasons=throttle_reasons,
            utilisation_frac=_first_number(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
            / 100,
            t=time.monotonic(),
        )

    def shared_use(self) -> SharedUse | None:
        """Return the use of the board by other processes since the last call; never raises."""
        if self._forked:
            return None
        handle = self._handle
        pids: set[int] | None = _first_answer(
            lambda: {p.pid for p in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)},
            lambda: {p.pid for p in pynvml.nvmlDeviceGetComputeRunningProcesses_v2(handle)},
            default=None,
        )
        uses_gpu: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        return shared_use_from_processes(
            os.getpid(), uses_gpu, pids, self._read_sm_fracs(), psutil.pid_exists
        )

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

    def _read_sm_fracs(self) -> dict[int, float] | None:
        """Return each process's mean share of SM time since the last call; ``None`` if unknown."""
        since_us = self._sm_samples_since_us
        try:
            samples = pynvml.nvmlDeviceGetProcessUtilization(self._handle, since_us)
        except pynvml.NVMLError as error:
            # pynvml raises SUCCESS for an empty list, and some drivers return NOT_FOUND.
            is_empty = error.value in (pynvml.NVML_SUCCESS, pynvml.NVML_ERROR_NOT_FOUND)
            return {} if is_empty else None
        shares = defaultdict(list)
        for sample in samples:
            if sample.timeStamp > since_us:
                shares[sample.pid].append(sample.smUtil / 100)
        self._sm_samples_since_us = max([since_us, *(sample.timeStamp for sample in samples)])
        return {pid: fmean(values) for pid, values in shares.items()}


def _first_answer(*queries: Callable[[], T], default: T) -> T:
    """Return the result of the first query that succeeds."""
    for query in queries:
        with contextlib.suppress(
            pynvml.NVMLError, pynvml.NVMLLibraryMismatchError, AttributeError
        ):  # AttributeError: an older pynvml
            return query()
    return default


def _first_number(*queries: Callable[[], float]) -> float:
    """Return the result of the first query that succeeds; NaN, never 0, if all fail."""
    return float(_first_answer(*queries, default=math.nan))


def _shut_down_nvml() -> None:
    with contextlib.suppress(pynvml.NVMLError):  # nothing is lost if it fails
        pynvml.nvmlShutdown()


def _explain_nvml_error(error: pynvml.NVMLError) -> EnergyUnavailable:
    default = (f"NVML answered: {error}", "check that nvidia-smi works here")
    return EnergyUnavailable(*REASONS_AND_REMEDIES.get(error.value, default))


# The board that torch uses ---------------------------------------------------------------


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
        # The first sentence of torch's message, without advice and links.
        torch_message = re.split(r"\.\s|\n", str(error).strip(), maxsplit=1)[0].rstrip(".")
        raise EnergyUnavailable(
            f"torch cannot use {device!r}{visible_text} ({torch_message})", remedy
        ) from error
    if uuid.startswith("MIG-"):
        raise _mig_slice_error("the run uses a slice of a GPU (MIG)")
    return uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"


def _find_board_handle(uuid: str) -> Any:
    """Return NVML's handle of a whole board.

    Raises:
        EnergyUnavailable: It is a slice, or split into slices (MIG).
        pynvml.NVMLError: NVML does not know it, or fails.
    """
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError_NotFound:
        slice_uuid = uuid.replace("GPU-", "MIG-", 1)  # CUDA may give the UUID of a slice
        if (
            _first_answer(lambda: pynvml.nvmlDeviceGetHandleByUUID(slice_uuid), default=None)
            is not None
        ):
            raise _mig_slice_error("the run uses a slice of a GPU (MIG)") from None
        raise
    try:
        current, _pending = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError as error:
        if error.value in _UNSUPPORTED_CALL_CODES:  # a card or driver without MIG
            return handle
        raise
    if current == pynvml.NVML_DEVICE_MIG_ENABLE:
        raise _mig_slice_error("the GPU is split into slices (MIG)")
    return handle


def _mig_slice_error(what: str) -> EnergyUnavailable:
    return EnergyUnavailable(
        f"{what}: the counter covers the whole board, not this run's slice",
        "run on a GPU with MIG off",
    )


# Other processes on it -------------------------------------------------------------------


def shared_use_from_processes(
    own_pid: int,
    uses_gpu: bool,
    pids: set[int] | None,
    sm_fracs: dict[int, float] | None,
    pid_exists: Callable[[int], bool],
) -> SharedUse:
    """Return the use by processes other than ``own_pid``, from both of the driver's lists.

    The lists may give different ids for the same process: in a container, either or both may
    contain the host's ids. If a list lacks this process although it uses the GPU, the busiest id
    that belongs to no visible process is taken to be this process.

    Args:
        own_pid: Id of this process.
        uses_gpu: Whether this process uses the GPU, so that it should be in the lists.
        pids: Ids of computing processes; ``None`` if not reported.
        sm_fracs: Shares of SM time by process id, 0 to 1; ``None`` if not reported.
        pid_exists: Whether a process with that id is visible.
    """
    if pids is None and sm_fracs is None:
        return SharedUse(False, f"{SHARED_USE_UNKNOWN}the driver does not report it")
    listed = {*(pids or ()), *(sm_fracs or ())}
    hidden = {pid for pid in listed if not pid_exists(pid)} if uses_gpu else set()

    def without_own_process(shares: dict[int, float]) -> dict[int, float]:
        own_entries = [own_pid] if own_pid in shares else [pid for pid in shares if pid in hidden]
        own_entry = max(own_entries, key=shares.__getitem__, default=own_pid)
        return {pid: share for pid, share in shares.items() if pid != own_entry}

    if others := without_own_process(dict.fromkeys(pids or (), 0.0)):
        description = f"{_process_list_text(others)} computed on this board too"
        return SharedUse(True, f"{description}: {_FOREIGN_JOULES_NOTE}")
    shares = without_own_process(sm_fracs or {})
    busy = {pid: share for pid, share in shares.items() if share > 0}
    if (share := sum(busy.values())) > MAX_FOREIGN_SM_FRAC:
        description = f"{_process_list_text(busy)} took {share:.0%} of the SM time"
        return SharedUse(True, f"{description}: {_FOREIGN_JOULES_NOTE}")
    if uses_gpu and own_pid not in listed:
        return SharedUse(False, f"{SHARED_USE_UNKNOWN}process ids are hidden, as in a container")
    return SharedUse(False, "")


def _process_list_text(shares: dict[int, float]) -> str:
    listed = ", ".join(str(pid) for pid in sorted(shares))
    return f"process {listed}" if len(shares) == 1 else f"processes {listed}"
