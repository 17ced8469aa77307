"""An A/A test of the energy meter: it must find no saving between identical trainings.

The two trainings of a pair follow each other, and which of them comes first alternates. A
constant error of the meter cancels in the ratio.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from effcore.bench.eta import ProgressSink, with_eta
from effcore.config import resolve
from effcore.energy.meter import RunMeter
from effcore.records import Energy, EnergyQuality, RunConfig
from effcore.studies.statistics import paired_difference
from effcore.training.trainer import train

#: Fewer pairs estimate their variance too poorly.
MIN_PAIRS = 8


@dataclass(frozen=True, slots=True)
class AATest:
    """Result of an A/A test.

    Attributes:
        meter: Energy source and what it covers.
        quality: Whether the joules are measured or estimated.
        pairs: Joules of both trainings of each pair.
        seconds: Duration of the shortest training.
        ratio: Geometric mean of the second training's joules ÷ the first's.
        lo: Lower end of the ratio's 95% t interval.
        hi: Upper end of the interval.
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
        """Whether the interval holds 1, as it should in 95 of 100 tests."""
        return self.lo <= 1.0 <= self.hi

    def __str__(self) -> str:
        """Describe the ratio, its interval and the meter in one sentence."""
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
    say: ProgressSink,
    open_meter: Callable[[str], RunMeter] = RunMeter.open,
) -> AATest:
    """Repeat the same dense training, at the task's default size, and compare joules in pairs.

    Raises:
        RuntimeError: Nothing measures the device, or another process used it during a training.
        ValueError: There are too few pairs.
    """
    if pairs < MIN_PAIRS:
        raise ValueError(f"pairs={pairs} is not allowed: expected {MIN_PAIRS} or more")
    config = resolve({"task": task, "selection": "dense", "epochs": epochs, "device": device})
    _refuse_unmeasured(open_meter(device), device)
    _train_to_end(config)  # warm-up
    say, energies = with_eta(say, pairs), []
    for pair in range(pairs):
        first, second = (_train_metered(config, open_meter(device)) for _ in range(2))
        energies.append((first, second) if pair % 2 == 0 else (second, first))
        texts = ", ".join(energy.short_text() for energy in energies[-1])
        say(f"{task}: pair {pair + 1}/{pairs} {texts}")
    return _aa_result(energies)


def _aa_result(energies: Sequence[tuple[Energy, Energy]]) -> AATest:
    joules = [(first.joules or 0.0, second.joules or 0.0) for first, second in energies]
    first_logs, second_logs = ([math.log(j) for j in side] for side in zip(*joules, strict=True))
    log_ratio = paired_difference(second_logs, first_logs)
    sample = energies[0][0]
    return AATest(
        meter=f"{sample.scope} · {sample.source}",
        quality=sample.quality,
        pairs=tuple(joules),
        seconds=min(energy.seconds for pair in energies for energy in pair),
        ratio=math.exp(log_ratio.mean),
        lo=math.exp(log_ratio.lo),
        hi=math.exp(log_ratio.hi),
    )


def _refuse_unmeasured(meter: RunMeter, device: str) -> None:
    energy = meter.stop()  # closes the energy source
    if not meter.has_source:
        raise RuntimeError(f"nothing meters {device!r}: {'; '.join(energy.notes)}")
    if not meter.is_measured:
        raise RuntimeError(
            f"nothing measures {device!r}: {energy.source} is no measurement, so an A/A test of it "
            "shows nothing; python -m effcore doctor shows how to get a meter"
        )


def _train_metered(config: RunConfig, meter: RunMeter) -> Energy:
    with meter:
        _train_to_end(config)
    energy = meter.energy()
    if energy.quality is not EnergyQuality.MEASURED or energy.joules is None or energy.contended:
        why = "other processes used the device" if energy.contended else energy.short_text()
        raise RuntimeError(f"a training has no joules of its own ({why}): {energy.notes}")
    return energy


def _train_to_end(config: RunConfig) -> None:
    for _ in train(config):
        pass
