"""The joules of a window, with their quality and everything a reader must know.

In simulated bursty loads a counter that refreshes every 100 ms, its steps timed, erred at
the edges alone by 1.6 % (95th percentile) over 1 s and 0.3 % over 5 s; untimed by 7.6 %
and 1.6 %. Short windows say so, and the shortest get no joules.

Between two steps nothing tells when the power was drawn: neither the counter, nor average power,
whose second is ten of its steps, nor instant power, which sees a quarter of one. A load that is
on and off about as often as the counter steps is therefore the worst case: of 600 and 80 W, on
for a tenth to three quarters of periods of 30 to 530 ms, some put windows of 1 and 5 s out by 8.0
and 1.6 %, and with steps of 20 ms by 1.7 and 0.3 %. What a load is like is not known, so that this
is part of every interval.
"""

from __future__ import annotations

import math
from typing import Any

from effcore.energy.base import EnergySource, Reading
from effcore.energy.window import CHECKED_WINDOW_S, Window
from effcore.events import Energy, Quality

#: Shorter windows get no joules.
MIN_WINDOW_S = 0.5
#: Shorter windows get a note.
SHORT_WINDOW_S = 5.0
#: Errors of a window's edges in seconds' worth of joules (95th percentiles): as training loads
#: it, and by the worst of loads that are on and off as often as the counter steps.
EDGE_ERRORS_S = (0.016, 0.08)
#: The same of steps that are not timed, in steps: at each of two edges, anything up to one is
#: equally likely to be missing, and 1.96 standard deviations of the difference are 0.8 of one. At
#: worst it is one.
UNTIMED_STEPS = 0.8
#: Why a window has no joules over which a counter gained nothing: no device draws nothing.
STOOD_STILL = "the counter stood still over the whole window: it does not count, though it answers"
#: And over which it read something else than numbers.
NO_NUMBER = "the instrument read something that is no number of joules"
#: Counter and average power must agree within this share.
CHECK_FRAC = 0.03


def energy_of(window: Window, source: EnergySource) -> Energy:
    """Return the joules with the source's quality; an estimate is never a point."""
    window = window.settled()
    notes = (*source.notes, *_notes(window, source))
    told = _weight_s(window, source) >= MIN_WINDOW_S
    void = window.void or (_unlikely(window, source) if told else "")
    if void:
        return without(window.seconds, (void, *notes), source)
    error_frac = source.error_frac + _edge_frac(window, source)
    point = told and source.quality is not Quality.ESTIMATED and math.isfinite(window.energy_j)
    return Energy(
        joules=window.energy_j if point else None,
        lo=window.lo_j * (1 - error_frac) if told else None,
        hi=window.hi_j * (1 + error_frac) if told else None,
        seconds=window.seconds,
        quality=_quality(window, source),
        source=source.source,
        scope=source.scope,
        notes=notes,
        ticks=window.ticks,
        max_gap_s=window.max_gap_s,
        crosscheck=window.crosscheck,
        contended=window.tenancy.contended,
        throttled_s=window.throttled_s if math.isfinite(window.throttled_s) else None,
        power_limit_w=window.power_limit_w if math.isfinite(window.power_limit_w) else None,
        **_instrument(source),
    )


def without(seconds: float, notes: tuple[str, ...], source: EnergySource | None = None) -> Energy:
    """Return no joules, and why."""
    name, scope = ("no meter", "nothing measured")
    if source is not None:
        name, scope = source.source, source.scope
    facts = {} if source is None else _instrument(source)
    return Energy(None, None, None, seconds, Quality.UNAVAILABLE, name, scope, notes, **facts)


def _instrument(source: EnergySource) -> dict[str, Any]:
    """Return what holds for every window of an instrument."""
    facts = ("device_uuid", "left_out", "card", "driver", "hz", "step_s")
    return {name: getattr(source, name) for name in facts}


def row_of(window: Window, now: Reading, source: EnergySource) -> tuple[float, ...]:
    """Return ``POWER_COLUMNS`` without the seconds, after the reading ``now``."""
    window = window.settled()
    less, more = 1 - source.error_frac, 1 + source.error_frac
    blank = source.quality is Quality.ESTIMATED
    powers = (math.nan if blank else now.power_w, now.power_lo_w * less, now.power_hi_w * more)
    if window.void:  # the power is still known, the joules are not
        return (*powers, math.nan, math.nan, math.nan)
    point_j = math.nan if blank else window.energy_j
    return (*powers, point_j, window.lo_j * less, window.hi_j * more)


def _weight_s(window: Window, source: EnergySource) -> float:
    """Return the length that counts: edges weigh on what moves in steps, pauses add some."""
    return window.weight_s if any(_edge_errors_s(source)) else window.seconds


def _edge_errors_s(source: EnergySource) -> tuple[float, float]:
    """Return what edges put a window out by, usually and at worst, in seconds' worth of joules."""
    return EDGE_ERRORS_S if source.ticks else (UNTIMED_STEPS * source.step_s, source.step_s)


def _edge_frac(window: Window, source: EnergySource) -> float:
    """Return what its edges may put a window out by at worst, as a share."""
    return _edge_errors_s(source)[1] / window.weight_s if window.weight_s else 0.0


def _unlikely(window: Window, source: EnergySource) -> str:
    """Return why what was read is no energy; empty where it may be."""
    if not math.isfinite(window.lo_j + window.hi_j):
        return NO_NUMBER
    counts = source.quality in (Quality.MEASURED, Quality.MODELLED)
    return STOOD_STILL if counts and window.energy_j == 0 else ""


def _suspect(window: Window) -> bool:
    ratio = window.crosscheck
    return window.unpowered or (ratio is not None and abs(ratio - 1) > CHECK_FRAC)


def _quality(window: Window, source: EnergySource) -> Quality:
    doubted = source.quality is Quality.MEASURED and _suspect(window)
    return Quality.SUSPECT if doubted else source.quality


def _notes(window: Window, source: EnergySource) -> list[str]:
    """Return what a reader must know of this window in particular."""
    notes = [*_length_notes(window, source), *_edge_notes(window)]
    if window.failures:
        total = window.readings + window.failures
        notes.append(f"{window.failures} of {total} readings failed")
    if window.tenancy.words:
        notes.append(window.tenancy.words)
    if window.throttled_s > 0:
        notes.append(f"its clocks were held down for {window.throttled_s:.0f} s of it")
    return [*notes, *_check_notes(window, source)]


def _length_notes(window: Window, source: EnergySource) -> list[str]:
    weight_s, errors_s = _weight_s(window, source), _edge_errors_s(source)
    parts = f" in {window.parts} parts" if any(errors_s) and window.parts > 1 else ""
    said = f"{window.seconds:.2f} s{parts}"
    if weight_s < MIN_WINDOW_S:
        return [f"no joules: the window of {said} is below {MIN_WINDOW_S:g} s, edges considered"]
    if weight_s < SHORT_WINDOW_S:
        usual, worst = (f"{error_s / weight_s:.1%}" for error_s in errors_s)
        size = (
            f" by about {usual}, up to {worst} if it is on and off as often as the counter steps"
            if any(errors_s)
            else ""
        )
        return [f"short window: {said} is below {SHORT_WINDOW_S:g} s: its edges weigh on it{size}"]
    return []


def _edge_notes(window: Window) -> list[str]:
    if window.edges:
        return ["its edges are still being timed"]
    if window.loose:
        return [
            f"{window.loose} of its {2 * window.parts} edges could not be timed well: each may "
            "be out by half a step of the counter"
        ]
    return []


def _check_notes(window: Window, source: EnergySource) -> list[str]:
    ratio = window.crosscheck
    if window.unpowered:
        return [
            f"counter and power disagree: over the same {window.checked_s:.1f} s the counter gives "
            f"{window.checked_counter_j:,.1f} J, average power none"
        ]
    if ratio is None:
        asked = source.ticks and window.seconds >= CHECKED_WINDOW_S
        return ["not cross-checked: there is too little average power to do so"] if asked else []
    if not _suspect(window):
        return []
    return [
        f"counter and power disagree: over the same {window.checked_s:.1f} s the counter gives "
        f"{window.checked_counter_j:,.1f} J, average power {window.checked_average_j:,.1f} J "
        f"(ratio {ratio:.3f}, allowed {1 - CHECK_FRAC:.2f} to {1 + CHECK_FRAC:.2f})"
    ]
