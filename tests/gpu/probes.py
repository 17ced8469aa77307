"""What is asked of a real board: how often it refreshes what it shows, and how it counts loads."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from effcore.energy.sources.base import EnergySource
from effcore.records import FloatArray


class Watched(NamedTuple):
    """Readings taken as fast as is asked, shape (n,) each.

    Attributes:
        t: Monotonic seconds.
        taken_s: How long each took.
        shown: By name: the counter, J, average and instant power, W.
    """

    t: FloatArray
    taken_s: FloatArray
    shown: dict[str, FloatArray]

    def refresh_s(self, name: str) -> float:
        """Return the median time between two changes of what is shown; NaN without two."""
        changed = self.t[1:][np.diff(self.shown[name]) != 0]
        return float(np.median(np.diff(changed))) if len(changed) > 1 else float("nan")


def watched(
    source: EnergySource, seconds: float, hz: float, wait: Callable[[float], None] = time.sleep
) -> Watched:
    """Read an instrument at a rate, for some seconds."""
    rows = []
    until_s = time.monotonic() + seconds
    while (began_s := time.monotonic()) < until_s:
        now = source.read()
        ended_s = time.monotonic()
        powers = (now.power_average_w, now.power_instant_w)
        rows.append((began_s, ended_s - began_s, now.energy_j, *powers))
        wait(max(1 / hz - (ended_s - began_s), 0.0))
    t, taken_s, *shown = np.array(rows).T
    return Watched(t, taken_s, dict(zip(("counter", "average", "instant"), shown, strict=True)))


class Load:
    """Matrix products on a GPU, for a time.

    Args:
        device: Torch's name of it.
        size: Rows and columns; large enough that a product takes a millisecond or so.
    """

    def __init__(self, device: str, size: int = 4096) -> None:
        self._a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
        self._device = device

    def busy(self, seconds: float) -> None:
        """Multiply for some seconds; what was launched has then been done."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            torch.mm(self._a, self._a)
            torch.cuda.synchronize(self._device)

    def square(self, period_s: float, duty: float, seconds: float, late_s: float = 0.0) -> None:
        """Be busy for a share of each period, the first beginning ``late_s`` from now."""
        begin_s = time.monotonic() + late_s
        time.sleep(late_s)
        for number in range(round(seconds / period_s)):
            self.busy(max(begin_s + (number + duty) * period_s - time.monotonic(), 0.0))
            time.sleep(max(begin_s + (number + 1) * period_s - time.monotonic(), 0.0))
