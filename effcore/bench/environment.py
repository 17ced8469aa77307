"""The environment that a measurement holds for: the machine, the versions, the date."""

from __future__ import annotations

import platform
from datetime import UTC, datetime

import psutil
import torch

from effcore import __version__
from effcore.studies.run_origin import cpu_name


def measurement_environment() -> dict[str, str | int]:
    """Return machine, versions and date by name; no paths and no host name."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": cpu_name(),
        "cores": psutil.cpu_count() or 1,
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "effcore": __version__,
    }
