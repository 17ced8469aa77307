"""Where a figure holds: the machine, the versions, the date."""

from __future__ import annotations

import hashlib
import platform
from datetime import UTC, datetime
from functools import cache
from typing import Any

import psutil
import torch

from effcore import __version__


def measurement_environment() -> dict[str, Any]:
    """Return what a figure depends on: machine, versions, date; no paths, no host name."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "effcore": __version__,
    }


@cache
def processor_fingerprint(device: str) -> str:
    """Return a text that is equal where a run's arithmetic is: of processor, board and system.

    Another processor rounds sums in another order, which moves one run by as much as a margin.

    Args:
        device: Where a run trains, ``cpu``, ``cuda`` or ``cuda:N``.
    """
    names = [_cpu_name(), platform.system()]
    if device != "cpu" and torch.cuda.is_available():
        names.append(torch.cuda.get_device_name(device))
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]


@cache
def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1] for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return (names[0] if names else platform.processor() or "unknown").strip()
