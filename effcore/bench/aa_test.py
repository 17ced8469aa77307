"""Joules of identical trainings against each other: what a saving of nothing looks like.

A meter that finds a saving between two equal trainings would find one anywhere. Pairs are
interleaved, which of the two goes first alternates, and the instrument's own error cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from effcore.bench.eta import with_eta
from effcore.config import resolve
from effcore.energy.meter import RunMeter
from effcore.records import Energy, EnergyQuality, RunConfig
from effcore.studies.statistics import paired_difference
from effcore.training.trainer import train

#: Fewer pairs say too little of their own scatter.
MIN_PAIRS = 8


@dataclass(frozen=True, slots=True)
class AATest:
    """What the pairs came to.

    Attributes:
        meter: The instrument and what it covers.
        quality: How the joules came to be known.
        pairs: Joules of both trainings of each pair.
        seconds: Length of the shortest.
        ratio: Geometric mean of the second's joules over the first's.
        lo: Lower end of its 95% t interval.
        hi: Upper end.
    """

    meter: str
    quality: EnergyQuality
    pairs: tuple[tuple[float, float], ...]
    seconds: float
    ratio: float
    lo: float
    hi: float

    @property
    def holds_one(self) -> bool:
        """Whether the interval holds 1, as it should in 95 of 100 cases."""
        return self.lo <= 1.0 <= self.hi

    def __str__(self) -> str:
        """Say the ratio with its interval, and what it is of."""
        verdict = "holds 1, as it should" if self.holds_one else "does not hold 1: find out why"
        return (
            f"joules of equal trainings, second ÷ first: {self.ratio:.4f} ({self.lo:.4f} to "
            f"{self.hi:.4f}) over {len(self.pairs)} pairs of {self.seconds:.1f} s at least, "
            f"{self.quality.value.upper()} · {self.meter}; the interval {verdict}"
        )


def run_aa_test(
    task: str,
    epochs: int | None,
    pairs: int,
    device: str,
    say: Callable[[str], None],
    open_meter: Callable[[str], RunMeter] = RunMeter.open,
) -> AATest:
    """Train the same again and again, and compare the joules in pairs.

    Args:
        task: Id of the task, trained densely at its default size, always with the same seed.
        epochs: Passes of each training; the task's own by default.
        pairs: How many; ``LEAST_PAIRS`` at least.
        device: Where to train, and what to meter.
        say: Takes progress messages.
        open_meter: Opens a meter on a device.

    Raises:
        RuntimeError: Nothing measures the device, or a training has no joules of its own.
        ValueError: Too few pairs.
    """
    if pairs < MIN_PAIRS:
        raise ValueError(f"pairs={pairs} is not allowed: expected {MIN_PAIRS} or more")
    config = resolve({"task": task, "selection": "dense", "epochs": epochs, "device": device})
    _refuse_unmeasured(open_meter(device), device)
    _train_to_end(config)  # warm-up
    tell, found = with_eta(say, pairs), []
    for pair in range(pairs):
        taken = [_train_metered(config, open_meter(device)) for _ in range(2)]
        found.append(taken if pair % 2 == 0 else taken[::-1])
        tell(
            f"{task}: pair {pair + 1}/{pairs} {found[-1][0].short_text()}, "
            f"{found[-1][1].short_text()}"
        )
    return _aa_result(found)


def _aa_result(found: list[list[Energy]]) -> AATest:
    joules = [(first.joules or 0.0, second.joules or 0.0) for first, second in found]
    logs = [[math.log(each) for each in side] for side in zip(*joules, strict=True)]
    log_ratio = paired_difference(logs[1], logs[0])
    one = found[0][0]
    return AATest(
        meter=f"{one.scope} · {one.source}",
        quality=one.quality,
        pairs=tuple(joules),
        seconds=min(energy.seconds for pair in found for energy in pair),
        ratio=math.exp(log_ratio.mean),
        lo=math.exp(log_ratio.lo),
        hi=math.exp(log_ratio.hi),
    )


def _refuse_unmeasured(meter: RunMeter, device: str) -> None:
    """Refuse before anything trains."""
    energy = meter.stop()  # which lets the instrument go
    if not meter.has_source:
        raise RuntimeError(f"nothing meters {device!r}: {'; '.join(energy.notes)}")
    if not meter.is_measured:
        raise RuntimeError(
            f"nothing measures {device!r}: {energy.source} is no measurement, and what it says of "
            "equal trainings shows nothing of a meter; see python -m effcore doctor"
        )


def _train_metered(config: RunConfig, meter: RunMeter) -> Energy:
    with meter:
        _train_to_end(config)
    energy = meter.energy()
    if energy.quality is not EnergyQuality.MEASURED or energy.joules is None or energy.contended:
        others = "others used what was read" if energy.contended else energy.short_text()
        raise RuntimeError(f"a training has no joules of its own ({others}): {energy.notes}")
    return energy


def _train_to_end(config: RunConfig) -> None:
    for _ in train(config):
        pass
