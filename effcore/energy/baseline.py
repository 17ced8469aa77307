"""What a run took beyond an idle board: second to the gross joules, never instead of them."""

from __future__ import annotations

from dataclasses import replace

from effcore.events import Energy, Quality

#: One from before training and one from after it.
LEAST_READINGS = 2


def idle_power_w(idle: Energy) -> tuple[float, float, float] | None:
    """Return lower end, value and upper end of an idle reading's mean power, W, if it has one."""
    if idle.joules is None or idle.lo is None or idle.hi is None or not idle.seconds:
        return None
    return idle.lo / idle.seconds, idle.joules / idle.seconds, idle.hi / idle.seconds


def dynamic(gross: Energy) -> Energy:
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
        return _none(gross, "no dynamic energy: the run has no joules of its own")
    if len(gross.idle_w) < LEAST_READINGS:
        return _none(
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
            *gross.notes,
        ),
    )


def _none(gross: Energy, why: str) -> Energy:
    quality = Quality.UNAVAILABLE
    source = f"{gross.source}, dynamic"
    notes = (why, *gross.notes)
    return replace(
        gross, joules=None, lo=None, hi=None, quality=quality, source=source, notes=notes
    )
