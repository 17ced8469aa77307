"""What a run took beyond an idle board: second to the gross joules, never instead of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from effcore.energy.sources.base import EnergySource
from effcore.records import Energy, EnergyQuality

#: One from before training and one from after it.
MIN_IDLE_READINGS = 2
#: An idle reading is meant to last so long, s: a board takes seconds to come to rest, and what
#: it draws at rest goes up and down. Whatever comes of a shorter one says so.
FULL_IDLE_S = 10.0
#: A reading ends with the reading that is due, which may be so much before its time, s.
IDLE_SLACK_S = 0.2


def idle_power_w(idle: Energy) -> tuple[float, float, float] | None:
    """Return lower end, value and upper end of an idle reading's mean power, W, if it has one."""
    if idle.joules is None or idle.lo is None or idle.hi is None or not idle.seconds:
        return None
    return idle.lo / idle.seconds, idle.joules / idle.seconds, idle.hi / idle.seconds


def is_same_instrument(energy: Energy, source: EnergySource) -> bool:
    """Return whether an energy is by an instrument, of the same board."""
    names = ("source", "scope", "device_uuid")
    return all(getattr(energy, name) == getattr(source, name) for name in names)


def with_idle_readings(energy: Energy, readings: Iterable[Energy]) -> Energy:
    """Return an energy with the idle readings beside it, those with joules of the board alone."""
    alone = [idle for idle in readings if not idle.contended]
    told = [(power, idle.seconds) for idle in alone if (power := idle_power_w(idle))]
    powers, seconds = tuple(power for power, _ in told), tuple(length for _, length in told)
    return replace(energy, idle_w=powers, idle_s=seconds)


def has_short_idle_readings(energy: Energy) -> bool:
    """Return whether an idle reading beside it is too short, or of a length that is not known."""
    known = len(energy.idle_s) == len(energy.idle_w)
    return not known or any(seconds < FULL_IDLE_S - IDLE_SLACK_S for seconds in energy.idle_s)


def idle_duration_text(energy: Energy) -> str:
    """Return for how long the idle power was read, for readers; where too short, it says so."""
    if len(energy.idle_s) != len(energy.idle_w):
        return "for how long is not recorded"
    lengths = dict.fromkeys(f"{seconds:.1f} s" for seconds in energy.idle_s)
    said = f"read for {' and '.join(lengths)}"
    return (
        f"{said}, short of the {FULL_IDLE_S:g} s that are meant"
        if has_short_idle_readings(energy)
        else said
    )


def dynamic_energy(gross: Energy) -> Energy:
    """Return the gross joules less those of an idle board over the same time.

    Its interval is the widest that both errors allow, and that of the idle power spans
    the readings: boards are warmer after a run, and idle higher.

    Args:
        gross: The run's joules, with idle readings from before training and from after it;
            see ``RunMeter.idle_baseline``.

    Returns:
        Joules whose source says that they are dynamic; none where the run or a reading has
        none of its own.
    """
    if gross.joules is None or gross.lo is None or gross.hi is None:
        return _without_dynamic_energy(gross, "no dynamic energy: the run has no joules of its own")
    if len(gross.idle_w) < MIN_IDLE_READINGS:
        return _without_dynamic_energy(
            gross, "no dynamic energy: an idle reading from before training and one from after "
            "it are needed",
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
