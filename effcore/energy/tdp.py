"""The CPU's thermal design power (TDP) as stated by the user, in the environment or in a file.

The environment variable takes precedence. The Energy page writes the file, and it is read
whenever a meter is opened, so that a new value applies from the next run on in every process.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any

from effcore.energy.sources.base import EnergyUnavailable
from effcore.home import default_home

#: Environment variable with the thermal design power, W, of the logical cores that this process
#: may use; where it may use all of them, the CPU's TDP.
TDP_VARIABLE = "EFFCORE_CPU_TDP_W"
TDP_RANGE_W = (1.0, 2000.0)
#: Upper limit of the file's size; a larger file was not written by Effcore.
_MAX_FILE_BYTES = 1000


def tdp_file() -> Path:
    """Return the path of the file with the TDP stated on the Energy page."""
    return default_home() / "rated-power.json"


def store_tdp(watts: float | None) -> None:
    """Store the CPU's thermal design power, W, for later runs; ``None`` deletes it.

    Raises:
        ValueError: ``watts`` is not a number within ``TDP_RANGE_W``.
        OSError: The file cannot be written.
    """
    path = tdp_file()
    if watts is None:
        path.unlink(missing_ok=True)
        return
    if not _is_valid_tdp(watts):
        raise ValueError(f"watts={watts} is not allowed: expected {_allowed_tdp_text()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    new_path = path.with_suffix(".new")
    new_path.write_text(json.dumps({"cpu_tdp_w": float(watts)}), encoding="utf-8")
    new_path.replace(path)


def stored_tdp_w() -> float | None:
    """Return the stored thermal design power, W; ``None`` if the file is missing or damaged."""
    with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
        with tdp_file().open("rb") as file:
            watts = json.loads(file.read(_MAX_FILE_BYTES)).get("cpu_tdp_w")
        if _is_valid_tdp(watts):
            return float(watts)
    return None


def stated_tdp_w() -> tuple[float, str]:
    """Return the stated thermal design power, W, and a text on where it was stated.

    Raises:
        EnergyUnavailable: It is not stated, or not a number within ``TDP_RANGE_W``.
    """
    text = os.environ.get(TDP_VARIABLE)
    if text:
        return _tdp_from_environment(text), f"from {TDP_VARIABLE}"
    stored_w = stored_tdp_w()
    if stored_w is None:
        raise EnergyUnavailable(
            "the CPU's rated power is not stated",
            f"state it on the Energy page, or set {TDP_VARIABLE} to its TDP in watts",
        )
    return stored_w, "as stated on the Energy page"


def _tdp_from_environment(text: str) -> float:
    try:
        watts = float(text)
    except ValueError:
        watts = math.nan
    if not _is_valid_tdp(watts):
        raise EnergyUnavailable(
            f"{TDP_VARIABLE}={text!r} is not a power: expected {_allowed_tdp_text()}",
            "set it to the CPU's thermal design power, or unset it",
        )
    return watts


def _is_valid_tdp(watts: Any) -> bool:
    lo, hi = TDP_RANGE_W
    return isinstance(watts, int | float) and watts is not True and lo <= watts <= hi


def _allowed_tdp_text() -> str:
    lo, hi = TDP_RANGE_W
    return f"watts from {lo:g} to {hi:g}"
