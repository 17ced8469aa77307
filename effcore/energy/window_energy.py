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

from effcore.energy.sources.base import EnergySource, Reading
from effcore.energy.window import MIN_CROSS_CHECK_WINDOW_S, WindowTotals
from effcore.records import Energy, EnergyQuality

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
UNTIMED_EDGE_ERROR_STEPS = 0.8
#: Why a window has no joules over which a counter gained nothing: no device draws nothing.
COUNTER_STOPPED_REASON = (
    "the counter stood still over the whole window: it does not count, though it answers"
)
#: And over which it read something else than numbers.
NOT_A_NUMBER_REASON = "the instrument read something that is no number of joules"
#: Counter and average power must agree within this share.
CROSS_CHECK_TOLERANCE_FRAC = 0.03


def energy_of_window(window: WindowTotals, source: EnergySource) -> Energy:
    """Return the joules with the source's quality; an estimate is never a point."""
    window = window.with_settled_edges()
    notes = (*source.notes, *_window_notes(window, source))
    told = _effective_length_s(window, source) >= MIN_WINDOW_S
    void = window.void_reason or (_implausible_reason(window, source) if told else "")
    if void:
        return unavailable_energy(window.seconds, (void, *notes), source)
    error_frac = source.error_frac + _worst_edge_error_frac(window, source)
    point = (
        told and source.quality is not EnergyQuality.ESTIMATED and math.isfinite(window.energy_j)
    )
    return Energy(
        joules=window.energy_j if point else None,
        lo=window.lo_j * (1 - error_frac) if told else None,
        hi=window.hi_j * (1 + error_frac) if told else None,
        seconds=window.seconds,
        quality=_window_quality(window, source),
        source=source.source,
        scope=source.scope,
        notes=notes,
        ticks=window.counter_updates,
        max_gap_s=window.max_gap_s,
        crosscheck=window.crosscheck,
        contended=window.shared_use.contended,
        throttled_s=window.throttled_s if math.isfinite(window.throttled_s) else None,
        power_limit_w=window.power_limit_w if math.isfinite(window.power_limit_w) else None,
        **_instrument_facts(source),
    )


def unavailable_energy(
    seconds: float, notes: tuple[str, ...], source: EnergySource | None = None
) -> Energy:
    """Return no joules, and why."""
    name, scope = ("no meter", "nothing measured")
    if source is not None:
        name, scope = source.source, source.scope
    facts = {} if source is None else _instrument_facts(source)
    return Energy(None, None, None, seconds, EnergyQuality.UNAVAILABLE, name, scope, notes, **facts)


def _instrument_facts(source: EnergySource) -> dict[str, Any]:
    """Return what holds for every window of an instrument."""
    facts = ("device_uuid", "left_out", "card", "driver", "hz", "step_s")
    return {name: getattr(source, name) for name in facts}


def power_row(window: WindowTotals, now: Reading, source: EnergySource) -> tuple[float, ...]:
    """Return ``POWER_COLUMNS`` without the seconds, after the reading ``now``."""
    window = window.with_settled_edges()
    less, more = 1 - source.error_frac, 1 + source.error_frac
    blank = source.quality is EnergyQuality.ESTIMATED
    powers = (math.nan if blank else now.power_w, now.power_lo_w * less, now.power_hi_w * more)
    if window.void_reason:  # the power is still known, the joules are not
        return (*powers, math.nan, math.nan, math.nan)
    point_j = math.nan if blank else window.energy_j
    return (*powers, point_j, window.lo_j * less, window.hi_j * more)


def _effective_length_s(window: WindowTotals, source: EnergySource) -> float:
    """Return the length that counts: edges weigh on what moves in steps, pauses add some."""
    return window.effective_length_s if any(_edge_errors_s(source)) else window.seconds


def _edge_errors_s(source: EnergySource) -> tuple[float, float]:
    """Return what edges put a window out by, usually and at worst, in seconds' worth of joules."""
    return (
        EDGE_ERRORS_S
        if source.times_counter_updates
        else (UNTIMED_EDGE_ERROR_STEPS * source.step_s, source.step_s)
    )


def _worst_edge_error_frac(window: WindowTotals, source: EnergySource) -> float:
    """Return what its edges may put a window out by at worst, as a share."""
    return (
        _edge_errors_s(source)[1] / window.effective_length_s if window.effective_length_s else 0.0
    )


def _implausible_reason(window: WindowTotals, source: EnergySource) -> str:
    """Return why what was read is no energy; empty where it may be."""
    if not math.isfinite(window.lo_j + window.hi_j):
        return NOT_A_NUMBER_REASON
    counts = source.quality in (EnergyQuality.MEASURED, EnergyQuality.MODELLED)
    return COUNTER_STOPPED_REASON if counts and window.energy_j == 0 else ""


def _is_suspect(window: WindowTotals) -> bool:
    ratio = window.crosscheck
    return window.counts_without_power or (
        ratio is not None and abs(ratio - 1) > CROSS_CHECK_TOLERANCE_FRAC
    )


def _window_quality(window: WindowTotals, source: EnergySource) -> EnergyQuality:
    doubted = source.quality is EnergyQuality.MEASURED and _is_suspect(window)
    return EnergyQuality.SUSPECT if doubted else source.quality


def _window_notes(window: WindowTotals, source: EnergySource) -> list[str]:
    """Return what a reader must know of this window in particular."""
    notes = [*_length_notes(window, source), *_edge_notes(window)]
    if window.failures:
        total = window.readings + window.failures
        notes.append(f"{window.failures} of {total} readings failed")
    if window.shared_use.description:
        notes.append(window.shared_use.description)
    if window.throttled_s > 0:
        notes.append(f"its clocks were held down for {window.throttled_s:.0f} s of it")
    return [*notes, *_cross_check_notes(window, source)]


def _length_notes(window: WindowTotals, source: EnergySource) -> list[str]:
    weight_s, errors_s = _effective_length_s(window, source), _edge_errors_s(source)
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


def _edge_notes(window: WindowTotals) -> list[str]:
    if window.edges:
        return ["its edges are still being timed"]
    if window.untimed_edges:
        return [
            f"{window.untimed_edges} of its {2 * window.parts} edges could not be timed well: each "
            "may "
            "be out by half a step of the counter"
        ]
    return []


def _cross_check_notes(window: WindowTotals, source: EnergySource) -> list[str]:
    ratio = window.crosscheck
    if window.counts_without_power:
        return [
            f"counter and power disagree: over the same {window.checked_s:.1f} s the counter gives "
            f"{window.checked_counter_j:,.1f} J, average power none"
        ]
    if ratio is None:
        asked = source.times_counter_updates and window.seconds >= MIN_CROSS_CHECK_WINDOW_S
        return ["not cross-checked: there is too little average power to do so"] if asked else []
    if not _is_suspect(window):
        return []
    return [
        f"counter and power disagree: over the same {window.checked_s:.1f} s the counter gives "
        f"{window.checked_counter_j:,.1f} J, average power {window.checked_average_j:,.1f} J "
        f"(ratio {ratio:.3f}, allowed {1 - CROSS_CHECK_TOLERANCE_FRAC:.2f} to "
        f"{1 + CROSS_CHECK_TOLERANCE_FRAC:.2f})"
    ]
