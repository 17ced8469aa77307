"""Energy record of a window: value, interval, quality and notes.

In simulated bursty loads a counter that updates every 100 ms, with timed updates, had an error
at the window edges of 1.6 % (95th percentile) over 1 s and 0.3 % over 5 s; with untimed updates
7.6 % and 1.6 %. Short windows carry a note, and the shortest get no joules.

Between two counter updates no instrument shows when the power was drawn: not the counter, not
average power, which spans ten updates, and not instant power, which sees a quarter of the time.
The worst case is therefore a load that switches on and off about as often as the counter
updates. Of loads between 600 and 80 W, on for a tenth to three quarters of periods of 30 to
530 ms, some put windows of 1 and 5 s off by 8.0 and 1.6 %, and with updates every 20 ms by 1.7
and 0.3 %. The load's shape is not known, so every interval includes this error.
"""

from __future__ import annotations

import math

from effcore.energy.sources.base import EnergySource, Reading
from effcore.energy.window import MIN_CROSS_CHECK_WINDOW_S, WindowTotals
from effcore.records import Energy, EnergyQuality

#: Shorter windows get no joules, s.
MIN_WINDOW_S = 0.5
#: Shorter windows get a note, s.
SHORT_WINDOW_S = 5.0
#: Edge error of a window with timed updates, as seconds of its mean power (95th percentiles):
#: for training loads, and for the worst loads that switch as often as the counter updates.
EDGE_ERRORS_S = (0.016, 0.08)
#: Edge error with untimed updates, in update periods: at each of two edges up to one period is
#: missing, uniformly distributed, and 1.96 standard deviations of the difference are 0.8 of a
#: period. The worst case is one period.
UNTIMED_EDGE_ERROR_STEPS = 0.8
#: Why a window in which the counter gained nothing has no joules: every device draws power.
COUNTER_STOPPED_REASON = (
    "the counter did not change over the whole window: it answers but does not count"
)
#: Why a window with a reading that is not finite has no joules.
NOT_A_NUMBER_REASON = "the instrument returned a value that is not a finite number of joules"
#: Counter and average power must agree within this share.
CROSS_CHECK_TOLERANCE_FRAC = 0.03


def energy_of_window(window: WindowTotals, source: EnergySource) -> Energy:
    """Return a window's energy with the source's quality; an estimate has no point value."""
    window = window.with_settled_edges()
    notes = (*source.notes, *_window_notes(window, source))
    is_long_enough = _effective_length_s(window, source) >= MIN_WINDOW_S
    void_reason = window.void_reason or (
        _implausible_reason(window, source) if is_long_enough else ""
    )
    if void_reason:
        return unavailable_energy(window.seconds, (void_reason, *notes), source)
    error_frac = source.error_frac + _worst_edge_error_frac(window, source)
    has_point = (
        is_long_enough
        and source.quality is not EnergyQuality.ESTIMATED
        and math.isfinite(window.energy_j)
    )
    return Energy(
        joules=window.energy_j if has_point else None,
        lo=window.lo_j * (1 - error_frac) if is_long_enough else None,
        hi=window.hi_j * (1 + error_frac) if is_long_enough else None,
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
        device_uuid=source.device_uuid,
        left_out=source.left_out,
        card=source.card,
        driver=source.driver,
        hz=source.hz,
        step_s=source.step_s,
    )


def unavailable_energy(
    seconds: float, notes: tuple[str, ...], source: EnergySource | None = None
) -> Energy:
    """Return an energy without joules, with the reasons as notes."""
    quality = EnergyQuality.UNAVAILABLE
    if source is None:
        return Energy(None, None, None, seconds, quality, "no meter", "nothing measured", notes)
    return Energy(
        None,
        None,
        None,
        seconds,
        quality,
        source.source,
        source.scope,
        notes,
        device_uuid=source.device_uuid,
        left_out=source.left_out,
        card=source.card,
        driver=source.driver,
        hz=source.hz,
        step_s=source.step_s,
    )


def power_row(window: WindowTotals, now: Reading, source: EnergySource) -> tuple[float, ...]:
    """Return a power row at the reading ``now``: ``POWER_COLUMNS`` without the seconds."""
    window = window.with_settled_edges()
    lo_factor, hi_factor = 1 - source.error_frac, 1 + source.error_frac
    hides_points = source.quality is EnergyQuality.ESTIMATED
    powers = (
        math.nan if hides_points else now.power_w,
        now.power_lo_w * lo_factor,
        now.power_hi_w * hi_factor,
    )
    if window.void_reason:  # the power is still known, the energy is not
        return (*powers, math.nan, math.nan, math.nan)
    point_j = math.nan if hides_points else window.energy_j
    return (*powers, point_j, window.lo_j * lo_factor, window.hi_j * hi_factor)


def _effective_length_s(window: WindowTotals, source: EnergySource) -> float:
    """Return the length that decides on joules and notes, s: shorter where pauses add edges."""
    return window.effective_length_s if any(_edge_errors_s(source)) else window.seconds


def _edge_errors_s(source: EnergySource) -> tuple[float, float]:
    """Return the usual and the worst edge error, as seconds of the window's mean power."""
    return (
        EDGE_ERRORS_S
        if source.times_counter_updates
        else (UNTIMED_EDGE_ERROR_STEPS * source.step_s, source.step_s)
    )


def _worst_edge_error_frac(window: WindowTotals, source: EnergySource) -> float:
    """Return the worst edge error as a fraction of the window's energy."""
    return (
        _edge_errors_s(source)[1] / window.effective_length_s if window.effective_length_s else 0.0
    )


def _implausible_reason(window: WindowTotals, source: EnergySource) -> str:
    """Return why the totals cannot be a valid energy, or an empty text."""
    if not math.isfinite(window.lo_j + window.hi_j):
        return NOT_A_NUMBER_REASON
    is_counter = source.quality in (EnergyQuality.MEASURED, EnergyQuality.MODELLED)
    return COUNTER_STOPPED_REASON if is_counter and window.energy_j == 0 else ""


def _is_suspect(window: WindowTotals) -> bool:
    ratio = window.crosscheck
    return window.counts_without_power or (
        ratio is not None and abs(ratio - 1) > CROSS_CHECK_TOLERANCE_FRAC
    )


def _window_quality(window: WindowTotals, source: EnergySource) -> EnergyQuality:
    is_suspect = source.quality is EnergyQuality.MEASURED and _is_suspect(window)
    return EnergyQuality.SUSPECT if is_suspect else source.quality


def _window_notes(window: WindowTotals, source: EnergySource) -> list[str]:
    """Return the notes on this window."""
    notes = [*_length_notes(window, source), *_edge_notes(window)]
    if window.failures:
        total = window.readings + window.failures
        notes.append(f"{window.failures} of {total} readings failed")
    if window.shared_use.description:
        notes.append(window.shared_use.description)
    if window.throttled_s > 0:
        notes.append(f"the clocks were throttled for {window.throttled_s:.0f} s of the window")
    return [*notes, *_cross_check_notes(window, source)]


def _length_notes(window: WindowTotals, source: EnergySource) -> list[str]:
    effective_s, errors_s = _effective_length_s(window, source), _edge_errors_s(source)
    parts = f" in {window.parts} parts" if any(errors_s) and window.parts > 1 else ""
    length_text = f"{window.seconds:.2f} s{parts}"
    if effective_s < MIN_WINDOW_S:
        return [
            f"no joules: the window of {length_text} is shorter than {MIN_WINDOW_S:g} s, after "
            "allowing for its edges"
        ]
    if effective_s < SHORT_WINDOW_S:
        usual, worst = (f"{error_s / effective_s:.1%}" for error_s in errors_s)
        error_text = (
            f" by about {usual}, up to {worst} if the load switches as often as the counter updates"
            if any(errors_s)
            else ""
        )
        return [
            f"short window: {length_text} is shorter than {SHORT_WINDOW_S:g} s: its edges may "
            f"change the result{error_text}"
        ]
    return []


def _edge_notes(window: WindowTotals) -> list[str]:
    if window.edges:
        return ["its edges are still being timed"]
    if window.untimed_edges:
        return [
            f"{window.untimed_edges} of its {2 * window.parts} edges could not be timed well: each "
            "may be off by half a counter update"
        ]
    return []


def _cross_check_notes(window: WindowTotals, source: EnergySource) -> list[str]:
    ratio = window.crosscheck
    if window.counts_without_power:
        return [
            f"counter and power disagree: over the same {window.checked_s:.1f} s the counter gives "
            f"{window.checked_counter_j:,.1f} J, average power 0 J"
        ]
    if ratio is None:
        is_expected = source.times_counter_updates and window.seconds >= MIN_CROSS_CHECK_WINDOW_S
        return ["not cross-checked: too few readings of average power"] if is_expected else []
    if not _is_suspect(window):
        return []
    return [
        f"counter and power disagree: over the same {window.checked_s:.1f} s the counter gives "
        f"{window.checked_counter_j:,.1f} J, average power {window.checked_average_j:,.1f} J "
        f"(ratio {ratio:.3f}, allowed {1 - CROSS_CHECK_TOLERANCE_FRAC:.2f} to "
        f"{1 + CROSS_CHECK_TOLERANCE_FRAC:.2f})"
    ]
