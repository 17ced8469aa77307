"""Use of an NVIDIA board by other processes.

The driver's process list and its list of SM time may give different ids for the same process:
in a container, either or both may contain the host's ids. If a list lacks this process although
it uses the GPU, an id that belongs to no visible process is taken to be this process.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from statistics import fmean
from typing import Any

import psutil
import pynvml
import torch

from effcore.energy.sources.base import SHARED_USE_UNKNOWN, SharedUse

#: Largest total share of SM time of other processes that does not count as shared use.
MAX_FOREIGN_SM_FRAC = 0.02


class GpuProcessMonitor:
    """Checks which other processes compute on one board.

    Args:
        handle: NVML's device handle.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._since_us = 0  # on the driver's clock, µs; samples before the first call are discarded
        self._read_sm_fracs()

    def check_shared_use(self) -> SharedUse:
        """Return the use by other processes since the last check; never raises."""
        uses_gpu: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        pids, shares = self._read_compute_pids(), self._read_sm_fracs()
        return shared_use_from_processes(os.getpid(), uses_gpu, pids, shares, psutil.pid_exists)

    def _read_compute_pids(self) -> set[int] | None:
        """Return the ids of computing processes; ``None`` if the driver does not report them."""
        for function_name in ("nvmlDeviceGetComputeRunningProcesses",
                    "nvmlDeviceGetComputeRunningProcesses_v2"):  # fmt: skip
            try:
                return {process.pid for process in getattr(pynvml, function_name)(self._handle)}
            except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError, AttributeError):
                continue
        return None

    def _read_sm_fracs(self) -> dict[int, float] | None:
        """Return each process's mean share of SM time since the last call."""
        try:
            samples = pynvml.nvmlDeviceGetProcessUtilization(self._handle, self._since_us)
        except pynvml.NVMLError as error:
            # pynvml raises SUCCESS for an empty list, and some drivers return NOT_FOUND.
            empty = error.value in (pynvml.NVML_SUCCESS, pynvml.NVML_ERROR_NOT_FOUND)
            return {} if empty else None
        shares = defaultdict(list)
        for sample in samples:
            if sample.timeStamp > self._since_us:
                shares[sample.pid].append(sample.smUtil / 100)
        self._since_us = max([self._since_us, *(sample.timeStamp for sample in samples)])
        return {pid: fmean(values) for pid, values in shares.items()}


def shared_use_from_processes(
    own_pid: int,
    uses_gpu: bool,
    pids: set[int] | None,
    sm_fracs: dict[int, float] | None,
    pid_exists: Callable[[int], bool],
) -> SharedUse:
    """Return the use by processes other than ``own_pid``, from both lists.

    Args:
        own_pid: Id of this process.
        uses_gpu: Whether this process uses the GPU, so that it should be in the lists.
        pids: Ids of computing processes; ``None`` if not reported.
        sm_fracs: Shares of SM time by process id, 0 to 1; ``None`` if not reported.
        pid_exists: Whether a process with that id is visible.
    """
    if pids is None and sm_fracs is None:
        return SharedUse(False, f"{SHARED_USE_UNKNOWN}the driver does not report it")
    unknown_pids = {pid for pid in {*(pids or ()), *(sm_fracs or ())} if not pid_exists(pid)}
    shares = _without_own_process(own_pid, unknown_pids if uses_gpu else set(), sm_fracs or {})
    others = _without_own_process(
        own_pid, unknown_pids if uses_gpu else set(), dict.fromkeys(pids or (), 0.0)
    )
    busy = {pid: share for pid, share in shares.items() if share > 0}
    if others:
        return SharedUse(
            True, f"{_process_list_text(others)} computed on this board too: {_FOREIGN_JOULES_NOTE}"
        )
    if (share := sum(busy.values())) > MAX_FOREIGN_SM_FRAC:
        return SharedUse(
            True,
            f"{_process_list_text(busy)} took {share:.0%} of the SM time: {_FOREIGN_JOULES_NOTE}",
        )
    if uses_gpu and own_pid not in {*(pids or ()), *(sm_fracs or ())}:
        return SharedUse(False, f"{SHARED_USE_UNKNOWN}process ids are hidden, as in a container")
    return SharedUse(False, "")


_FOREIGN_JOULES_NOTE = "this figure includes that energy, which cannot be separated from the run's"


def _without_own_process(
    own_pid: int, hidden_pids: set[int], shares: dict[int, float]
) -> dict[int, float]:
    """Return ``shares`` without this process, or without the busiest hidden one that may be it."""
    hidden = [] if own_pid in shares else [pid for pid in shares if pid in hidden_pids]
    own_entry = max(hidden, key=shares.__getitem__) if hidden else own_pid
    return {pid: share for pid, share in shares.items() if pid != own_entry}


def _process_list_text(shares: dict[int, float]) -> str:
    listed = ", ".join(str(pid) for pid in sorted(shares))
    return f"process {listed}" if len(shares) == 1 else f"processes {listed}"
