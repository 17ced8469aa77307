"""What a meter's thread costs the training loop beside it: alternating blocks of wall time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from effcore.bench.reference_loop import reference_loop
from effcore.bench.trainer_overhead import steps_per_second
from effcore.config import resolve
from effcore.energy.meter import RunMeter
from effcore.energy.sources.base import EnergySource
from effcore.records.run_clock import RunClock
from effcore.studies.statistics import MedianInterval, median_interval

#: Passes no measurement reaches, so that the loop does not end under the clock.
_ENDLESS_EPOCHS = 1000


def meter_speed_ratio(
    task: str,
    blocks: int,
    seconds: float,
    say: Callable[[str], None],
    device: str = "cpu",
    open_source: Callable[[], EnergySource] | None = None,
) -> tuple[MedianInterval, list[float], str]:
    """Return steps per second with a meter over those without, and each ratio.

    The same loop goes on through all blocks; the meter is started and stopped between
    them, outside the clock. Sampling is meant to cost less than 0.5 %: a ratio of 0.995.

    Args:
        task: Id of the task, trained densely at its default size.
        blocks: Pairs of blocks; which of the two goes first alternates.
        seconds: Length of a block.
        say: Takes progress messages.
        device: Where to train, and what to meter.
        open_source: Opens the instrument for each block; the best one here by default.

    Returns:
        The ratio with its interval, its values by block, and the meter's name.

    Raises:
        RuntimeError: Nothing meters the device.
    """
    config = resolve(
        {"task": task, "selection": "dense", "epochs": _ENDLESS_EPOCHS, "device": device}
    )
    loop = reference_loop(config)
    steps_per_second(loop, seconds)  # warm-up
    ratios, name = [], ""
    for block in range(blocks):
        rates = {}
        for metered in (block % 2 == 0, block % 2 == 1):
            meter = _open_meter(device, open_source) if metered else None
            rates[metered] = _metered_rate(loop, seconds, meter)
            name = meter.energy().source if meter else name
        ratios.append(rates[True] / rates[False])
        say(f"{task}: block {block + 1}/{blocks} ratio {ratios[-1]:.4f}")
    return median_interval(ratios), ratios, name


def _open_meter(device: str, open_source: Callable[[], EnergySource] | None) -> RunMeter:
    if open_source is not None:
        return RunMeter(open_source(), RunClock())
    meter = RunMeter.open(device, RunClock())
    if not meter.has_source:
        raise RuntimeError(f"nothing meters {device!r}: {'; '.join(meter.energy().notes)}")
    return meter


def _metered_rate(loop: Iterator[Any], seconds: float, meter: RunMeter | None) -> float:
    """Return the loop's steps per second, beside a meter where one is given."""
    if meter is None:
        return steps_per_second(loop, seconds)
    meter.start()
    try:
        return steps_per_second(loop, seconds)
    finally:
        meter.stop()
