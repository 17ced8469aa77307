"""Sums, comparisons and parts of energies: totals, savings, energy to target, dynamic energy.

Energies add only where quality, instrument and scope are the same, and a sum with a missing
part is unavailable. The ends of intervals add: an instrument's error is the same in every
window, so errors do not average out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from effcore.energy.sources.base import EnergySource
from effcore.energy.window import MIN_WINDOW_S, SHORT_WINDOW_S, UNTIMED_EDGE_ERROR_STEPS
from effcore.records import EVAL_COLUMNS, POWER_COLUMNS, Energy, EnergyQuality, FloatArray, Snapshot

#: Error of a window's edges (95th percentile), as seconds of its mean power: 7.6 % of 1 s and
#: 1.6 % of 5 s were found for bursty loads and a counter that updates every 100 ms. It is larger
#: where an energy states a longer time between updates.
EDGE_ERROR_S = 0.08
#: Idle readings that dynamic energy needs: one before training and one after it.
MIN_IDLE_READINGS = 2
#: Intended length of an idle reading, s: a board takes seconds to settle, and its idle power
#: fluctuates. Results from shorter readings carry a note.
FULL_IDLE_S = 10.0
#: An idle reading may end this much early, s: it ends at one of the meter's readings.
IDLE_SLACK_S = 0.2

#: Facts of windows that add.
_ADDED_FACTS = ("ticks", "throttled_s")
#: Fields that a sum sets itself; :func:`_remaining_sum_fields` sets the others.
_EXPLICITLY_SUMMED_FIELDS = ("joules", "lo", "hi", "seconds", "quality", "source", "scope", "notes")
#: Fields that must be equal, where both sides state them, for a saving to be due to the method.
_FIELDS_THAT_MUST_MATCH = {"card": "card or processor", "power_limit_w": "power limit in W"}
#: Why a saving of this quality must not be shown as a result.
_RESERVATIONS = {
    EnergyQuality.ESTIMATED: "an estimated saving only restates CPU time and is no separate "
    "evidence: show seconds and FLOPs",
    EnergyQuality.MODELLED: "the saving comes from a model of the chip, not from a measurement",
    EnergyQuality.SUSPECT: "the instrument contradicts itself: repeat the measurement",
    EnergyQuality.RECORDED: "the saving is between recordings, not measured on this machine",
}


class EnergySumError(ValueError):
    """Raised for energies that cannot be added or compared; the message gives the reason."""


class EnergySaving(NamedTuple):
    """Energy saved by one run against another, as a fraction of the other's joules."""

    saved_frac: float | None  # ``None`` where only the interval is known
    lo: float  # negative where the run may have used more
    hi: float
    quality: EnergyQuality  # of both energies
    headline: bool  # whether it may be shown as a result by itself
    notes: tuple[str, ...]  # caveats to read before quoting it

    def __str__(self) -> str:
        """Return the saving with its quality."""
        ends = f"{self.lo:.1%} to {self.hi:.1%} of the joules, {self.quality.value.upper()}"
        return ends if self.saved_frac is None else f"{self.saved_frac:.1%} ({ends})"


# Sums ------------------------------------------------------------------------------------


def has_joules(energy: Energy) -> bool:
    """Return whether an energy has a value or an interval."""
    interval = energy.lo is not None and energy.hi is not None
    return energy.quality is not EnergyQuality.UNAVAILABLE and (
        energy.joules is not None or interval
    )


def without_joules(energy: Energy, notes: tuple[str, ...]) -> Energy:
    """Return an energy as unavailable, with the reason as its first note."""
    quality = EnergyQuality.UNAVAILABLE
    return replace(energy, joules=None, lo=None, hi=None, quality=quality, notes=notes)


def sum_energies(energies: Sequence[Energy]) -> Energy:
    """Return the sum of the energies of windows that do not overlap.

    The sum has a point value only if all have one, and an interval only if all have one. If one
    has neither, the total is ``UNAVAILABLE`` and its first note says what is missing.

    Raises:
        EnergySumError: There are none, or they differ in quality, instrument or scope; use
            :func:`sum_by_quality` to get one total for each kind.
    """
    if not energies:
        raise EnergySumError("nothing to add: energies is empty; give at least one")
    notes = _merged_notes(energies)
    seconds = sum(energy.seconds for energy in energies)
    if missing := [energy for energy in energies if not has_joules(energy)]:
        first = missing[0]
        why = first.notes[0] if first.notes else first.short_text()
        count = f"{len(missing)} of {len(energies)} energies"
        notes = (f"no total: {count} missing, {first.source} of {first.scope}: {why}", *notes)
        unavailable = without_joules(first, notes)
        return replace(unavailable, **_remaining_sum_fields(energies), seconds=seconds)
    kinds = {_kind(energy) for energy in energies}
    if len(kinds) > 1:
        raise EnergySumError(
            f"energies of {len(kinds)} kinds cannot be added "
            f"({'; '.join(sorted(' · '.join(kind) for kind in kinds))}): use "
            "sum_by_quality to get one total for each kind"
        )
    return replace(
        energies[0],
        **_remaining_sum_fields(energies),
        joules=_sum_or_none(energy.joules for energy in energies),
        lo=_sum_or_none(energy.lo for energy in energies),
        hi=_sum_or_none(energy.hi for energy in energies),
        seconds=seconds,
        notes=notes,
    )


def sum_by_quality(energies: Iterable[Energy]) -> tuple[Energy, ...]:
    """Return one total for each quality, instrument and scope, in the order of ``EnergyQuality``.

    Windows without joules are totals of their own, with quality ``UNAVAILABLE``.
    """
    groups: dict[tuple[str, ...], list[Energy]] = {}
    for energy in energies:
        groups.setdefault(_kind(energy), []).append(energy)
    order = list(EnergyQuality)
    totals = [sum_energies(group) for group in groups.values()]
    return tuple(sorted(totals, key=lambda energy: order.index(energy.quality)))


def _kind(energy: Energy) -> tuple[str, ...]:
    """Return what must be the same for energies to be added or compared."""
    quality = energy.quality if has_joules(energy) else EnergyQuality.UNAVAILABLE
    return (quality.value, energy.source, energy.scope)


def _remaining_sum_fields(energies: Sequence[Energy]) -> dict[str, Any]:
    """Return the remaining fields of a sum: values that all share, and flags that any sets.

    Any other field describes single windows only and returns to its default.
    """
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(energies[0]):
        if field.name in _EXPLICITLY_SUMMED_FIELDS:
            continue
        values = [getattr(energy, field.name) for energy in energies]
        if field.name in _ADDED_FACTS:
            fields[field.name] = None if None in values else sum(values)
        elif field.name == "max_gap_s":
            fields[field.name] = max(values)
        elif isinstance(field.default, bool):
            fields[field.name] = any(values)
        else:
            same = all(value == values[0] for value in values)
            fields[field.name] = values[0] if same else field.default
    if not fields["idle_w"]:
        fields["idle_s"] = ()
    return fields


def _sum_or_none(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else math.fsum(value for value in known if value is not None)


def _merged_notes(energies: Sequence[Energy]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for energy in energies for note in energy.notes))


# Savings ---------------------------------------------------------------------------------


def compare_energies(
    used: Energy, reference: Energy, *, same_session: bool = False
) -> EnergySaving:
    """Return the energy saved by ``used`` against ``reference``, with interval and caveats.

    Args:
        used: Energy of the method up to the same target as the reference.
        reference: Energy it is compared with.
        same_session: Whether both were measured by the same instrument on the same card in one
            session. The instrument's error then cancels in the ratio and only the error of the
            window edges remains; otherwise each may be off independently, up to its interval.

    Raises:
        EnergySumError: They differ in quality, instrument, scope, board, processor or power limit,
            one has no joules or no interval, others used the board, or the reference is 0.
    """
    _check_comparable(used, reference)
    if used.lo is None or used.hi is None or reference.lo is None or reference.hi is None:
        raise EnergySumError(
            "a saving needs the intervals of both energies: "
            f"used is {used.short_text()}, reference is {reference.short_text()}"
        )
    if reference.lo <= 0 or reference.joules == 0:
        raise EnergySumError(f"reference is {reference.short_text()}: expected more than 0 J")
    value = None
    if used.joules is not None and reference.joules is not None:
        value = 1 - used.joules / reference.joules
    if used.quality is EnergyQuality.ESTIMATED:
        value = None
    ends = (1 - used.hi / reference.lo, 1 - used.lo / reference.hi)
    if same_session and value is not None:
        edge_errors = (
            max(EDGE_ERROR_S, UNTIMED_EDGE_ERROR_STEPS * energy.step_s) / energy.seconds
            if energy.seconds > 0
            else math.inf
            for energy in (used, reference)
        )
        error = (1 - value) * math.hypot(*edge_errors)
        ends = (value - error, value + error)
    reservation = _RESERVATIONS.get(used.quality)
    notes = (*((reservation,) if reservation else ()), *_merged_notes((used, reference)))
    return EnergySaving(value, *ends, used.quality, reservation is None, notes)


def _check_comparable(used: Energy, reference: Energy) -> None:
    """Raise :class:`EnergySumError` where the two energies differ in more than the method."""
    if _kind(used) != _kind(reference):
        used_text, reference_text = (" · ".join(_kind(energy)) for energy in (used, reference))
        raise EnergySumError(
            f"{used_text} cannot be compared with {reference_text}: measure both alike"
        )
    if used.device_uuid != reference.device_uuid:
        raise EnergySumError(
            f"the boards differ ({used.device_uuid}, reference {reference.device_uuid}), which "
            "changes the energy by itself: measure both on the same board"
        )
    for name, field_text in _FIELDS_THAT_MUST_MATCH.items():
        used_value, reference_value = getattr(used, name), getattr(reference, name)
        if used_value and reference_value and used_value != reference_value:
            raise EnergySumError(
                f"the {field_text} was {used_value} and for the reference {reference_value}, which "
                "changes the energy by itself: measure both alike"
            )
    if used.contended or reference.contended:
        raise EnergySumError(
            "other processes used the metered device: its joules are not those of the runs alone"
        )


# Energy to target ------------------------------------------------------------------------


def seconds_to_target(snapshot: Snapshot, target: float, *, higher_is_better: bool) -> float | None:
    """Return the run clock at the first evaluation that reached the target, or ``None``.

    Args:
        snapshot: The run.
        target: Value of the task's metric, in its own scale.
        higher_is_better: Whether a higher metric is better.
    """
    seconds, metric = (snapshot.evals[EVAL_COLUMNS.index(name)] for name in ("seconds", "metric"))
    reached = metric >= target if higher_is_better else metric <= target
    return float(seconds[reached][0]) if reached.any() else None


def energy_to_target(snapshot: Snapshot, target: float, *, higher_is_better: bool) -> Energy | None:
    """Return the energy until the target was reached, with the run's own quality.

    The run's relative error applies to the part as well. The interval also spans the rows of
    the power table on both sides of that time, which may be some way apart in a long run. The
    time is that of an evaluation, so the target may have been reached up to one evaluation
    interval earlier.

    Args:
        snapshot: The run.
        target: Value of the task's metric, in its own scale.
        higher_is_better: Whether a higher metric is better.

    Returns:
        ``None`` where the target was never reached, or within less than ``MIN_WINDOW_S``.
    """
    seconds = seconds_to_target(snapshot, target, higher_is_better=higher_is_better)
    run_energy, power = snapshot.energy, snapshot.power
    if seconds is None or seconds < MIN_WINDOW_S or not power.shape[1] or run_energy.hi is None:
        return None
    times = power[0]
    rows_until, rows_before = (np.searchsorted(times, seconds, side) for side in ("right", "left"))
    row_before_s = float(times[rows_until - 1]) if rows_until else seconds
    row_after_s = float(times[rows_before]) if rows_before < len(times) else seconds
    # The counter's value at the time of the target is off by up to one update.
    untimed_error_s = UNTIMED_EDGE_ERROR_STEPS * run_energy.step_s
    edge_frac = max(EDGE_ERROR_S if run_energy.ticks else 0.0, untimed_error_s) / seconds
    short_window_note = (f"a short window, {seconds:.1f} s",) if seconds < SHORT_WINDOW_S else ()

    def part(total_j: float | None, column: str, at_s: float, factor: float = 1.0) -> float | None:
        share = _energy_share_at(power, column, at_s) * factor
        return None if total_j is None or not np.isfinite(share) else total_j * share

    return replace(
        run_energy,
        ticks=0,
        max_gap_s=0.0,
        crosscheck=None,
        throttled_s=None,
        joules=part(run_energy.joules, "energy_j", seconds),
        lo=part(run_energy.lo, "energy_lo_j", row_before_s, 1 - edge_frac),
        hi=part(run_energy.hi, "energy_hi_j", row_after_s, 1 + edge_frac),
        seconds=seconds,
        notes=(
            *run_energy.notes,
            *short_window_note,
            "up to the first evaluation that reached the target",
        ),
    )


def _energy_share_at(power: FloatArray, column: str, seconds: float) -> float:
    """Return the share of a cumulative column reached at a time; NaN if not known."""
    times, values = power[0], power[POWER_COLUMNS.index(column)]
    known = np.isfinite(values)
    if not known.any() or values[known][-1] <= 0:
        return np.nan
    return float(np.interp(seconds, times[known], values[known]) / values[known][-1])


# Idle power ------------------------------------------------------------------------------


def is_same_instrument(energy: Energy, source: EnergySource) -> bool:
    """Return whether an energy was read by ``source``'s instrument, on the same board."""
    fields = ("source", "scope", "device_uuid")
    return all(getattr(energy, name) == getattr(source, name) for name in fields)


def idle_power_w(idle: Energy) -> tuple[float, float, float] | None:
    """Return the mean power of an idle reading, W: lower end, value, upper end; or ``None``."""
    if idle.joules is None or idle.lo is None or idle.hi is None or not idle.seconds:
        return None
    return idle.lo / idle.seconds, idle.joules / idle.seconds, idle.hi / idle.seconds


def with_idle_readings(energy: Energy, readings: Iterable[Energy]) -> Energy:
    """Return ``energy`` with the idle readings that have joules and no other user of the board."""
    known = [
        (power_w, idle.seconds)
        for idle in readings
        if not idle.contended and (power_w := idle_power_w(idle))
    ]
    powers_w, seconds = tuple(power_w for power_w, _ in known), tuple(idle_s for _, idle_s in known)
    return replace(energy, idle_w=powers_w, idle_s=seconds)


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
    is_short = has_short_idle_readings(energy)
    shortness = f", shorter than the intended {FULL_IDLE_S:g} s" if is_short else ""
    return f"read for {' and '.join(lengths)}{shortness}"


def dynamic_energy(gross: Energy) -> Energy:
    """Return the gross energy less the energy of an idle board over the same time.

    It is shown beside the gross energy, never in place of it. The interval is the widest that
    both errors allow. The interval of the idle power spans all readings: a board is warmer
    after a run and then idles at a higher power.

    Args:
        gross: The run's energy, with idle readings from before and after training; see
            ``RunMeter.idle_baseline``.

    Returns:
        An energy whose source is marked as dynamic; without joules where the run has none or
        an idle reading is missing.
    """
    source = f"{gross.source}, dynamic"
    if gross.joules is None or gross.lo is None or gross.hi is None:
        why = "no dynamic energy: the run has no single value"
        return replace(without_joules(gross, (why, *gross.notes)), source=source)
    if len(gross.idle_w) < MIN_IDLE_READINGS:
        why = (
            "no dynamic energy: it needs an idle reading from before training and one from after it"
        )
        return replace(without_joules(gross, (why, *gross.notes)), source=source)
    lows, values, highs = zip(*gross.idle_w, strict=True)
    mean_w = sum(values) / len(values)
    return replace(
        gross,
        joules=gross.joules - mean_w * gross.seconds,
        lo=gross.lo - max(highs) * gross.seconds,
        hi=gross.hi - min(lows) * gross.seconds,
        source=f"{source}: less {mean_w:,.1f} W of the idle board",
        notes=(
            f"the gross energy is {gross.joules:,.1f} J {gross.quality.value.upper()}",
            f"idle power: {idle_duration_text(gross)}",
            *gross.notes,
        ),
    )
