"""Where a figure holds: the machine, the versions, the date."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from typing import Any

import psutil
import torch

from effcore import __version__
from effcore.studies.run_origin import cpu_name


def measurement_environment() -> dict[str, Any]:
    """Return what a figure depends on: machine, versions, date; no paths, no host name."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "effcore": __version__,
    }
