"""Who else uses an NVIDIA board.

The list of processes and the list of who took SM time need not name a process by the same
number: in a container one may give the host's, or both. Where a list lacks this process
although it uses the GPU, a number that no process has here is taken to be this one.
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

#: Others that take no larger share of SM time than this between them do not matter.
MAX_FOREIGN_SM_FRAC = 0.02


class GpuProcessMonitor:
    """Looks at who computes on one board.

    Args:
        handle: NVML's device handle.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._since_us = 0  # of the driver's clock; what came before is not this run's
        self._read_sm_fracs()

    def check_shared_use(self) -> SharedUse:
        """Return who was there since the last look; never raises."""
        present: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        pids, shares = self._read_compute_pids(), self._read_sm_fracs()
        return shared_use_from_processes(os.getpid(), present, pids, shares, psutil.pid_exists)

    def _read_compute_pids(self) -> set[int] | None:
        """Return the processes that compute; ``None`` where the driver does not tell."""
        for ask in ("nvmlDeviceGetComputeRunningProcesses",
                    "nvmlDeviceGetComputeRunningProcesses_v2"):  # fmt: skip
            try:
                return {process.pid for process in getattr(pynvml, ask)(self._handle)}
            except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError, AttributeError):
                continue
        return None

    def _read_sm_fracs(self) -> dict[int, float] | None:
        """Return each process's mean share of SM time since the last call."""
        try:
            samples = pynvml.nvmlDeviceGetProcessUtilization(self._handle, self._since_us)
        except pynvml.NVMLError as error:
            # An empty list is raised as SUCCESS, or as NOT_FOUND by the driver itself.
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
    """Return what both lists say of others than process ``own_pid``.

    Args:
        own_pid: This process.
        uses_gpu: Whether it uses the GPU, so that it should be in the lists.
        pids: Processes that compute; ``None`` where that is not told.
        sm_fracs: Their shares of SM time, 0 to 1; ``None`` where that is not told.
        pid_exists: Whether a process of that number can be seen from here.
    """
    if pids is None and sm_fracs is None:
        return SharedUse(False, f"{SHARED_USE_UNKNOWN}the driver does not tell")
    unseen = {pid for pid in {*(pids or ()), *(sm_fracs or ())} if not pid_exists(pid)}
    shares = _without_own_process(own_pid, unseen if uses_gpu else set(), sm_fracs or {})
    others = _without_own_process(
        own_pid, unseen if uses_gpu else set(), dict.fromkeys(pids or (), 0.0)
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
        return SharedUse(
            False, f"{SHARED_USE_UNKNOWN}process numbers are hidden, as in a container"
        )
    return SharedUse(False, "")


_FOREIGN_JOULES_NOTE = "its joules are in this figure and cannot be told from the run's"


def _without_own_process(
    own_pid: int, hidden_pids: set[int], shares: dict[int, float]
) -> dict[int, float]:
    """Leave out this process, or the busiest one that may be it under another number."""
    hidden = [] if own_pid in shares else [pid for pid in shares if pid in hidden_pids]
    ours = max(hidden, key=shares.__getitem__) if hidden else own_pid
    return {pid: share for pid, share in shares.items() if pid != ours}


def _process_list_text(shares: dict[int, float]) -> str:
    listed = ", ".join(str(pid) for pid in sorted(shares))
    return f"process {listed}" if len(shares) == 1 else f"processes {listed}"
