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

from effcore.energy.base import UNSEEN, Tenancy

#: Others that take no larger share of SM time than this between them do not matter.
FOREIGN_SM_FRAC = 0.02


class Tenants:
    """Looks at who computes on one board.

    Args:
        handle: NVML's device handle.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._since_us = 0  # of the driver's clock; what came before is not this run's
        self._sm_fracs()

    def look(self) -> Tenancy:
        """Return who was there since the last look; never raises."""
        present: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        pids, shares = self._pids(), self._sm_fracs()
        return judge(os.getpid(), present, pids, shares, psutil.pid_exists)

    def _pids(self) -> set[int] | None:
        """Return the processes that compute; ``None`` where the driver does not tell."""
        for ask in ("nvmlDeviceGetComputeRunningProcesses",
                    "nvmlDeviceGetComputeRunningProcesses_v2"):  # fmt: skip
            try:
                return {process.pid for process in getattr(pynvml, ask)(self._handle)}
            except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError, AttributeError):
                continue
        return None

    def _sm_fracs(self) -> dict[int, float] | None:
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


def judge(
    own: int,
    present: bool,
    pids: set[int] | None,
    sm_fracs: dict[int, float] | None,
    exists: Callable[[int], bool],
) -> Tenancy:
    """Return what both lists say of others than process ``own``.

    Args:
        own: This process.
        present: Whether it uses the GPU, so that it should be in the lists.
        pids: Processes that compute; ``None`` where that is not told.
        sm_fracs: Their shares of SM time, 0 to 1; ``None`` where that is not told.
        exists: Whether a process of that number can be seen from here.
    """
    if pids is None and sm_fracs is None:
        return Tenancy(False, f"{UNSEEN}the driver does not tell")
    unseen = {pid for pid in {*(pids or ()), *(sm_fracs or ())} if not exists(pid)}
    shares = _without_own(own, unseen if present else set(), sm_fracs or {})
    others = _without_own(own, unseen if present else set(), dict.fromkeys(pids or (), 0.0))
    busy = {pid: share for pid, share in shares.items() if share > 0}
    if others:
        return Tenancy(True, f"{_named(others)} computed on this board too: {_NOT_OURS}")
    if (share := sum(busy.values())) > FOREIGN_SM_FRAC:
        return Tenancy(True, f"{_named(busy)} took {share:.0%} of the SM time: {_NOT_OURS}")
    if present and own not in {*(pids or ()), *(sm_fracs or ())}:
        return Tenancy(False, f"{UNSEEN}process numbers are hidden, as in a container")
    return Tenancy(False, "")


_NOT_OURS = "its joules are in this figure and cannot be told from the run's"


def _without_own(own: int, unseen: set[int], shares: dict[int, float]) -> dict[int, float]:
    """Leave out this process, or the busiest one that may be it under another number."""
    hidden = [] if own in shares else [pid for pid in shares if pid in unseen]
    ours = max(hidden, key=shares.__getitem__) if hidden else own
    return {pid: share for pid, share in shares.items() if pid != ours}


def _named(shares: dict[int, float]) -> str:
    listed = ", ".join(str(pid) for pid in sorted(shares))
    return f"process {listed}" if len(shares) == 1 else f"processes {listed}"
