"""Texts on idle power, which is included in the joules, and on the energy above idle."""

from __future__ import annotations

from effcore.energy.arithmetic import (
    MIN_IDLE_READINGS,
    dynamic_energy,
    has_short_idle_readings,
    idle_duration_text,
)
from effcore.impact.ranges import number_text
from effcore.records import Energy, EnergyQuality


def idle_power_text(energy: Energy) -> str | None:
    """Return the power of the idle board before or after a run; ``None`` if it was not read."""
    if not energy.idle_w or energy.quality is EnergyQuality.UNAVAILABLE:
        return None
    powers = [f"{number_text(value)} W" for _, value, _ in energy.idle_w]
    quality = energy.quality.value.upper()
    if len(powers) < MIN_IDLE_READINGS:
        return f"{powers[0]} {quality}, from one reading, {idle_duration_text(energy)}"
    both = f"{powers[0]} before and {powers[-1]} after training, {quality}"
    return f"{both}, {idle_duration_text(energy)}"


def above_idle_text(energy: Energy) -> str | None:
    """Return the joules above idle and their share; ``None`` if they are not known."""
    net = dynamic_energy(energy)
    if net.joules is None or net.lo is None or net.hi is None or not energy.joules:
        return None
    quality = net.quality.value.upper()
    ends = f"{number_text(net.lo)} to {number_text(net.hi)} J {quality}"
    above = f"{net.short_text()}, {net.joules / energy.joules:.0%} of the total; {ends}"
    return (
        f"{above}; imprecise, since the idle readings are short"
        if has_short_idle_readings(energy)
        else above
    )
