"""Sums and comparisons of energies.

Energies add only where quality, instrument and scope are the same, and a sum with a missing
part is unavailable. The ends of intervals add: an instrument's error is the same in every
window, so errors do not average out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from effcore.energy.window_energy import UNTIMED_EDGE_ERROR_STEPS
from effcore.records import Energy, EnergyQuality

#: Error of a window's edges (95th percentile), as seconds of its mean power: 7.6 % of 1 s and
#: 1.6 % of 5 s were found for bursty loads and a counter that updates every 100 ms. It is larger
#: where an energy states a longer time between updates.
EDGE_ERROR_S = 0.08

#: Facts of windows that add.
_ADDED_FACTS = ("ticks", "throttled_s")
#: Fields that a sum sets itself; :func:`_remaining_sum_fields` sets the others.
_EXPLICITLY_SUMMED_FIELDS = ("joules", "lo", "hi", "seconds", "quality", "source", "scope", "notes")
#: Fields that must be equal, where both sides state them, for a saving to be due to the method.
_FIELDS_THAT_MUST_MATCH = {"card": "card or processor", "power_limit_w": "power limit in W"}
_ESTIMATE_RESERVATION = (
    "an estimated saving only restates CPU time and is no separate evidence: show seconds and FLOPs"
)
#: Why a saving of this quality must not be shown as a result.
_RESERVATIONS = {
    EnergyQuality.ESTIMATED: _ESTIMATE_RESERVATION,
    EnergyQuality.MODELLED: "the saving comes from a model of the chip, not from a measurement",
    EnergyQuality.SUSPECT: "the instrument contradicts itself: repeat the measurement",
    EnergyQuality.RECORDED: "the saving is between recordings, not measured on this machine",
}


class EnergySumError(ValueError):
    """Raised for energies that cannot be added or compared; the message gives the reason."""


class EnergySaving(NamedTuple):
    """Energy saved by one run against another, as a fraction of the other's joules.

    Attributes:
        saved_frac: The value; ``None`` where only the interval is known.
        lo: Lower end of the interval; negative where the run may have used more.
        hi: Upper end of the interval.
        quality: Quality of both energies.
        headline: Whether it may be shown as a result by itself.
        notes: Caveats to read before quoting it.
    """

    saved_frac: float | None
    lo: float
    hi: float
    quality: EnergyQuality
    headline: bool
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """Return the saving with its quality."""
        ends = f"{self.lo:.1%} to {self.hi:.1%} of the joules, {self.quality.value.upper()}"
        return ends if self.saved_frac is None else f"{self.saved_frac:.1%} ({ends})"


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
    missing = [energy for energy in energies if not has_joules(energy)]
    if missing:
        return _unavailable_total(energies, missing)
    addition_keys = {_addition_key(energy) for energy in energies}
    if len(addition_keys) > 1:
        listed_keys = "; ".join(sorted(" · ".join(kind) for kind in addition_keys))
        raise EnergySumError(
            f"energies of {len(addition_keys)} kinds cannot be added ({listed_keys}): use "
            "sum_by_quality to get one total for each kind"
        )
    first = energies[0]
    return dataclasses.replace(
        first,
        **_remaining_sum_fields(energies),
        joules=_sum_or_none(energy.joules for energy in energies),
        lo=_sum_or_none(energy.lo for energy in energies),
        hi=_sum_or_none(energy.hi for energy in energies),
        seconds=sum(energy.seconds for energy in energies),
        notes=_merged_notes(energies),
    )


def sum_by_quality(energies: Iterable[Energy]) -> tuple[Energy, ...]:
    """Return one total for each quality, instrument and scope, in the order of ``EnergyQuality``.

    Windows without joules are totals of their own, with quality ``UNAVAILABLE``.
    """
    groups: dict[tuple[str, ...], list[Energy]] = {}
    for energy in energies:
        groups.setdefault(_addition_key(energy), []).append(energy)
    order = list(EnergyQuality)
    totals = [sum_energies(group) for group in groups.values()]
    return tuple(sorted(totals, key=lambda energy: order.index(energy.quality)))


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
        error = (1 - value) * math.hypot(
            *(_edge_error_frac(energy) for energy in (used, reference))
        )
        ends = (value - error, value + error)
    reservation = _RESERVATIONS.get(used.quality)
    notes = (*((reservation,) if reservation else ()), *_merged_notes((used, reference)))
    return EnergySaving(value, *ends, used.quality, reservation is None, notes)


def _check_comparable(used: Energy, reference: Energy) -> None:
    """Raise :class:`EnergySumError` where the two energies differ in more than the method."""
    if _addition_key(used) != _addition_key(reference):
        used_text, reference_text = (
            " · ".join(_addition_key(energy)) for energy in (used, reference)
        )
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


def has_joules(energy: Energy) -> bool:
    """Return whether an energy has a value or an interval."""
    interval = energy.lo is not None and energy.hi is not None
    return energy.quality is not EnergyQuality.UNAVAILABLE and (
        energy.joules is not None or interval
    )


def _addition_key(energy: Energy) -> tuple[str, ...]:
    quality = energy.quality if has_joules(energy) else EnergyQuality.UNAVAILABLE
    return (quality.value, energy.source, energy.scope)


def _unavailable_total(energies: Sequence[Energy], missing: Sequence[Energy]) -> Energy:
    first_missing = missing[0]
    why = first_missing.notes[0] if first_missing.notes else first_missing.short_text()
    count = f"{len(missing)} of {len(energies)} energies"
    total_note = (
        f"no total: {count} missing, {first_missing.source} of {first_missing.scope}: {why}"
    )
    return dataclasses.replace(
        first_missing,
        **_remaining_sum_fields(energies),
        joules=None,
        lo=None,
        hi=None,
        seconds=sum(energy.seconds for energy in energies),
        quality=EnergyQuality.UNAVAILABLE,
        notes=(total_note, *_merged_notes(energies)),
    )


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


def _edge_error_frac(energy: Energy) -> float:
    edge_s = max(EDGE_ERROR_S, UNTIMED_EDGE_ERROR_STEPS * energy.step_s)
    return edge_s / energy.seconds if energy.seconds > 0 else math.inf
