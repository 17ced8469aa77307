"""Runs metered by NVML's wrapper over the fake library, in the fake's own time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pynvml
import pytest

from effcore.energy.meter import RunMeter
from effcore.energy.sources.nvml import NvmlSource
from effcore.records import Energy
from tests.energy.fake_nvml import FakeNvml, install
from tests.energy.scripted import Turns

COUNTER = "nvmlDeviceGetTotalEnergyConsumption"
FIELDS = "nvmlDeviceGetFieldValues"
USAGE = "nvmlDeviceGetPowerUsage"
#: Every code that the wrapper knows, and one that it does not.
EVERY_CODE = sorted(
    {getattr(pynvml, name) for name in dir(pynvml) if name.startswith("NVML_ERROR_")} | {4711}
)


class NvmlRun:
    """One run on one device: its fake library and its meter.

    Args:
        fake: The library, installed.
        device: Torch's name of the device.
        phases: See :class:`RunMeter`.
    """

    def __init__(self, fake: FakeNvml, device: str = "cuda", phases: bool = False) -> None:
        self.fake = fake
        self._draw = random.Random(0)  # how late turns are taken, up to 1 ms
        source = NvmlSource.open(device)
        self.meter = RunMeter(source, lambda: fake.t, make_scheduler=self._sampler, phases=phases)
        self.began_s = fake.t
        self.meter.start()

    def _sampler(self, turn: Callable[[], float | None], name: str) -> Turns:
        self.turns = Turns(turn, name, self.fake, lambda: self._draw.uniform(0, 0.001))
        return self.turns

    def until(self, t: float) -> None:
        """Let time pass up to ``t``."""
        self.turns.pass_time(t)

    def stop(self) -> tuple[Energy, float]:
        """Return what the meter says, and the truth, J."""
        true_j = self.true_j(self.began_s, self.fake.t)
        return self.meter.stop(), true_j

    def true_j(self, since_s: float, until_s: float) -> float:
        return (self.fake.used_mj(until_s) - self.fake.used_mj(since_s)) / 1000


@contextmanager
def nvml_run(
    fake: FakeNvml, monkeypatch: pytest.MonkeyPatch, phases: bool = False
) -> Iterator[NvmlRun]:
    """Meter a run on the fake; it must have let go of the library in the end."""
    monkeypatch.setattr(time, "monotonic", lambda: fake.t)
    with install(fake):
        run = NvmlRun(fake, phases=phases)
        yield run
        run.meter.stop()
    assert fake.users == 0


def constant(t: float) -> float:
    return 200.0


def idle(t: float) -> float:
    return 61.0


def square(t: float) -> float:
    """100 ms of 600 W, then 300 ms of 80 W: 210 W on average."""
    return 600.0 if round(t * 1000) % 400 < 100 else 80.0


def spikes(t: float) -> float:
    """40 ms of 600 W, then 360 ms of 80 W."""
    return 600.0 if round(t * 1000) % 400 < 40 else 80.0


def bursty(seconds: float, step_s: float = 0.066, seed: int = 0) -> Callable[[float], float]:
    """Return the power of training: steps of four phases, none of them quite like another.

    Args:
        seconds: Length.
        step_s: Mean length of a step.
        seed: Of the lengths and powers.
    """
    draw, parts, filled = np.random.default_rng(seed), [], 0
    while filled < 1000 * (seconds + 2):
        slow = 1000 * step_s * draw.lognormal(0, 0.15)
        for watts, share in ((90, 0.12), (450, 0.27), (560, 0.52), (320, 0.09)):
            length = max(1, round(slow * share))
            parts.append(np.full(length, watts + draw.normal(0, 15)))
            filled += length
    watts_by_ms = np.concatenate(parts).tolist()
    return lambda t: float(watts_by_ms[int(t * 1000 + 1e-6)])
