"""What a run took beyond an idle board: second to the gross joules, never instead of them."""

from __future__ import annotations

from dataclasses import replace

from effcore.events import Energy, Quality


def dynamic(gross: Energy, before: Energy, after: Energy) -> Energy:
    """Return the gross joules less those of an idle board over the same time.

    Its interval is the widest that both errors allow, and that of the idle power spans
    the baselines: boards are warmer after a run, and idle higher.

    Args:
        gross: The run's joules.
        before: Idle baseline from before training; see ``RunMeter.idle_baseline``.
        after: Idle baseline from after it.

    Returns:
        Joules whose source says that they are dynamic; none where one of the three has
        none, or is only estimated.

    Raises:
        ValueError: The three are not of the same instrument.
    """
    for name, idle in (("before", before), ("after", after)):
        if (idle.source, idle.scope) != (gross.source, gross.scope):
            raise ValueError(
                f"{name} is of {idle.source!r} ({idle.scope}), gross of {gross.source!r} "
                f"({gross.scope}): give baselines of the meter that metered the run"
            )
    ends = (_power_w(before), _power_w(after))
    qualities = {gross.quality, before.quality, after.quality}
    if gross.joules is None or gross.lo is None or gross.hi is None or None in ends:
        return _none(gross, "no dynamic energy: run and both baselines need joules of their own")
    if not qualities <= {Quality.MEASURED, Quality.SUSPECT} and len(qualities) > 1:
        return _none(gross, "no dynamic energy: run and baselines are not known in the same way")
    lo_w, hi_w = min(end[0] for end in ends if end), max(end[2] for end in ends if end)
    mean_w = sum(end[1] for end in ends if end) / 2
    return replace(
        gross,
        joules=gross.joules - mean_w * gross.seconds,
        lo=gross.lo - hi_w * gross.seconds,
        hi=gross.hi - lo_w * gross.seconds,
        quality=Quality.SUSPECT if Quality.SUSPECT in qualities else gross.quality,
        source=f"{gross.source}, dynamic: less {mean_w:,.1f} W of the idle board",
        notes=(f"the gross energy is {gross.joules:,.1f} J", *gross.notes),
    )


def _power_w(idle: Energy) -> tuple[float, float, float] | None:
    """Return lower end, value and upper end of the mean power, W."""
    if idle.joules is None or idle.lo is None or idle.hi is None:
        return None
    return idle.lo / idle.seconds, idle.joules / idle.seconds, idle.hi / idle.seconds


def _none(gross: Energy, why: str) -> Energy:
    quality = Quality.UNAVAILABLE
    source = f"{gross.source}, dynamic"
    notes = (why, *gross.notes)
    return replace(
        gross, joules=None, lo=None, hi=None, quality=quality, source=source, notes=notes
    )
