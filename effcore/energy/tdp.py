"""The processor's rated power as a person states it: in the environment, or kept in a file.

The environment wins. The file is written by the Energy page and read whenever a meter is
opened, so that what is stated there holds from the next run on, in every process.
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

#: Names the environment variable with the thermal design power, W, of the logical cores
#: this process may use: on a machine of one's own, its CPU's TDP.
TDP_VARIABLE = "EFFCORE_CPU_TDP_W"
TDP_RANGE_W = (1.0, 2000.0)
#: More than the file ever holds; a larger one is not ours.
_MAX_FILE_BYTES = 1000


def tdp_file() -> Path:
    """Return where the power stated on the page is kept."""
    return default_home() / "rated-power.json"


def store_tdp(watts: float | None) -> None:
    """Keep the processor's thermal design power, W, for later runs; ``None`` forgets it.

    Raises:
        ValueError: It is no power.
        OSError: The file cannot be written.
    """
    path = tdp_file()
    if watts is None:
        path.unlink(missing_ok=True)
        return
    if not _is_valid_tdp(watts):
        raise ValueError(f"watts={watts} is not allowed: expected {_allowed_tdp_text()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps({"cpu_tdp_w": float(watts)}), encoding="utf-8")
    beside.replace(path)


def stored_tdp_w() -> float | None:
    """Return what :func:`store_tdp` kept, W; ``None`` where that is nothing, or damaged."""
    with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
        with tdp_file().open("rb") as file:
            watts = json.loads(file.read(_MAX_FILE_BYTES)).get("cpu_tdp_w")
        if _is_valid_tdp(watts):
            return float(watts)
    return None


def stated_tdp_w() -> tuple[float, str]:
    """Return the thermal design power, W, that is stated, and where.

    Raises:
        EnergyUnavailable: It is stated nowhere, or not a number of watts within ``TDP_RANGE_W``.
    """
    text = os.environ.get(TDP_VARIABLE)
    if text:
        return _tdp_from_environment(text), f"from {TDP_VARIABLE}"
    kept = stored_tdp_w()
    if kept is None:
        raise EnergyUnavailable(
            "the CPU's rated power is not stated",
            f"state it on the Energy page, or set {TDP_VARIABLE} to its TDP in watts",
        )
    return kept, "as stated on the Energy page"


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
