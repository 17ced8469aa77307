"""Idle baseline of a run, and its dynamic energy: the gross energy less the idle energy.

Dynamic energy is shown beside the gross energy, never in place of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from effcore.energy.sources.base import EnergySource
from effcore.records import Energy, EnergyQuality

#: One reading before training and one after it.
MIN_IDLE_READINGS = 2
#: Intended length of an idle reading, s: a board takes seconds to settle, and its idle power
#: fluctuates. Results from shorter readings carry a note.
FULL_IDLE_S = 10.0
#: An idle reading may end this much early, s: it ends at one of the meter's readings.
IDLE_SLACK_S = 0.2


def idle_power_w(idle: Energy) -> tuple[float, float, float] | None:
    """Return the mean power of an idle reading, W: lower end, value, upper end; or ``None``."""
    if idle.joules is None or idle.lo is None or idle.hi is None or not idle.seconds:
        return None
    return idle.lo / idle.seconds, idle.joules / idle.seconds, idle.hi / idle.seconds


def is_same_instrument(energy: Energy, source: EnergySource) -> bool:
    """Return whether an energy was read by ``source``'s instrument, on the same board."""
    fields = ("source", "scope", "device_uuid")
    return all(getattr(energy, name) == getattr(source, name) for name in fields)


def with_idle_readings(energy: Energy, readings: Iterable[Energy]) -> Energy:
    """Return ``energy`` with the idle readings that have joules and no other user of the board."""
    unshared_readings = [idle for idle in readings if not idle.contended]
    powers_and_seconds = [
        (power, idle.seconds) for idle in unshared_readings if (power := idle_power_w(idle))
    ]
    powers, seconds = (
        tuple(power for power, _ in powers_and_seconds),
        tuple(idle_seconds for _, idle_seconds in powers_and_seconds),
    )
    return replace(energy, idle_w=powers, idle_s=seconds)


def has_short_idle_readings(energy: Energy) -> bool:
    """Return whether an idle reading of the run is too short or of unknown length."""
    lengths_known = len(energy.idle_s) == len(energy.idle_w)
    return not lengths_known or any(
        seconds < FULL_IDLE_S - IDLE_SLACK_S for seconds in energy.idle_s
    )


def idle_duration_text(energy: Energy) -> str:
    """Return a text on how long the idle power was read, and whether that is too short."""
    if len(energy.idle_s) != len(energy.idle_w):
        return "reading time not recorded"
    lengths = dict.fromkeys(f"{seconds:.1f} s" for seconds in energy.idle_s)
    text = f"read for {' and '.join(lengths)}"
    return (
        f"{text}, shorter than the intended {FULL_IDLE_S:g} s"
        if has_short_idle_readings(energy)
        else text
    )


def dynamic_energy(gross: Energy) -> Energy:
    """Return the gross energy less the energy of an idle board over the same time.

    The interval is the widest that both errors allow. The interval of the idle power spans
    all readings: a board is warmer after a run and then idles at a higher power.

    Args:
        gross: The run's energy, with idle readings from before and after training; see
            ``RunMeter.idle_baseline``.

    Returns:
        An energy whose source is marked as dynamic; without joules where the run has none or
        an idle reading is missing.
    """
    if gross.joules is None or gross.lo is None or gross.hi is None:
        return _without_dynamic_energy(gross, "no dynamic energy: the run has no single value")
    if len(gross.idle_w) < MIN_IDLE_READINGS:
        return _without_dynamic_energy(
            gross, "no dynamic energy: it needs an idle reading from before training and one "
            "from after it",
        )  # fmt: skip
    lows, values, highs = zip(*gross.idle_w, strict=True)
    mean_w = sum(values) / len(values)
    return replace(
        gross,
        joules=gross.joules - mean_w * gross.seconds,
        lo=gross.lo - max(highs) * gross.seconds,
        hi=gross.hi - min(lows) * gross.seconds,
        source=f"{gross.source}, dynamic: less {mean_w:,.1f} W of the idle board",
        notes=(
            f"the gross energy is {gross.joules:,.1f} J {gross.quality.value.upper()}",
            f"idle power: {idle_duration_text(gross)}",
            *gross.notes,
        ),
    )


def _without_dynamic_energy(gross: Energy, why: str) -> Energy:
    quality = EnergyQuality.UNAVAILABLE
    source = f"{gross.source}, dynamic"
    notes = (why, *gross.notes)
    return replace(
        gross, joules=None, lo=None, hi=None, quality=quality, source=source, notes=notes
    )
