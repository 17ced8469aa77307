"""Adding and comparing energies: qualities never mix, and what is missing is not left out.

Joules add where quality, instrument and scope are the same. Ends of intervals add as ends:
what an instrument errs by, it errs by in every window, so that errors do not average out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from effcore.energy.window_energy import UNTIMED_EDGE_ERROR_STEPS
from effcore.records import Energy, EnergyQuality

#: What the edges of a window may err by (p95), as seconds of its mean power: 7.6 % of 1 s and
#: 1.6 % of 5 s were found for bursty loads and a counter that refreshes every 100 ms; more
#: where an energy says that its counter moves in longer steps.
EDGE_ERROR_S = 0.08

#: What a sum decides itself; further fields of an energy go by :func:`_shared`.
#: Facts of windows that add.
_ADDED_FACTS = ("ticks", "throttled_s")
_EXPLICITLY_SUMMED_FIELDS = ("joules", "lo", "hi", "seconds", "quality", "source", "scope", "notes")
#: What must be alike, where both sides tell it, for a saving to be the method's own.
_FIELDS_THAT_MUST_MATCH = {"card": "card or processor", "power_limit_w": "power limit in W"}
_ESTIMATE_RESERVATION = (
    "an estimated saving restates CPU time and is no evidence of its own: show seconds and FLOPs"
)
#: Why a saving of this quality must not stand as a result.
_RESERVATIONS = {
    EnergyQuality.ESTIMATED: _ESTIMATE_RESERVATION,
    EnergyQuality.MODELLED: "a saving by a model of the chip, which no instrument has seen",
    EnergyQuality.SUSPECT: "the instrument contradicts itself: repeat the measurement",
    EnergyQuality.RECORDED: "a saving between recordings, not of this machine",
}


class EnergySumError(ValueError):
    """Energies that must not be added or compared; the message says why."""


class EnergySaving(NamedTuple):
    """What one run took less than another, as a share of the other's joules.

    Attributes:
        saved_frac: The value; ``None`` where only the interval is known.
        lo: Lower end; negative where more may have been used.
        hi: Upper end.
        quality: Of both energies.
        headline: Whether it may stand as a result of its own.
        notes: What a reader must know before quoting it.
    """

    saved_frac: float | None
    lo: float
    hi: float
    quality: EnergyQuality
    headline: bool
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """Say the saving with its quality; never without."""
        ends = f"{self.lo:.1%} to {self.hi:.1%} of the joules, {self.quality.value.upper()}"
        return ends if self.saved_frac is None else f"{self.saved_frac:.1%} ({ends})"


def sum_energies(energies: Sequence[Energy]) -> Energy:
    """Return the sum of windows that do not overlap.

    The sum has a point only if all have one, and an interval only if all have one. If one
    has neither, there is no total: it is ``UNAVAILABLE`` and says what is missing.

    Raises:
        EnergySumError: There are none, or they differ in quality, instrument or scope; use
            :func:`sum_by_quality` to have them side by side.
    """
    if not energies:
        raise EnergySumError("nothing to add: energies is empty; give at least one")
    missing = [energy for energy in energies if not has_joules(energy)]
    if missing:
        return _unavailable_total(energies, missing)
    kinds = {_addition_key(energy) for energy in energies}
    if len(kinds) > 1:
        seen = "; ".join(sorted(" · ".join(kind) for kind in kinds))
        raise EnergySumError(
            f"energies of {len(kinds)} kinds do not add ({seen}): use by_quality to have them "
            "side by side"
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

    Windows without joules are one entry of their own, so that they are not overlooked.
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
    """Return how much less ``used`` is than ``reference``, with what it is worth.

    Args:
        used: What the method took, until the same target as the reference.
        reference: What it is compared with.
        same_session: Both were taken by the same instrument on the same card in one session.
            What the instrument errs by then cancels in the ratio, and only the edges of the
            windows are left; otherwise each may err in its own way, up to its interval.

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
        raise EnergySumError(f"reference is {reference.short_text()}: expected more than nothing")
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
    why = _RESERVATIONS.get(used.quality)
    notes = (*((why,) if why else ()), *_merged_notes((used, reference)))
    return EnergySaving(value, *ends, used.quality, why is None, notes)


def _check_comparable(used: Energy, reference: Energy) -> None:
    """Refuse what differs in more than the method.

    Raises:
        EnergySumError: It does.
    """
    if _addition_key(used) != _addition_key(reference):
        one, other = (" · ".join(_addition_key(energy)) for energy in (used, reference))
        raise EnergySumError(f"a saving of {one} against {other} means nothing: measure both alike")
    if used.device_uuid != reference.device_uuid:
        raise EnergySumError(
            f"a saving of board {used.device_uuid} against {reference.device_uuid} is also one "
            "between boards: measure both on the same"
        )
    for name, what in _FIELDS_THAT_MUST_MATCH.items():
        ours, theirs = getattr(used, name), getattr(reference, name)
        if ours and theirs and ours != theirs:
            raise EnergySumError(
                f"the {what} was {ours} and for the reference {theirs}, which saves or costs by "
                "itself: measure both alike"
            )
    if used.contended or reference.contended:
        raise EnergySumError(
            "others used the board that was read: its joules are not those of the runs alone"
        )


def has_joules(energy: Energy) -> bool:
    """Return whether an energy has joules, be it a value or an interval."""
    interval = energy.lo is not None and energy.hi is not None
    return energy.quality is not EnergyQuality.UNAVAILABLE and (
        energy.joules is not None or interval
    )


def _addition_key(energy: Energy) -> tuple[str, ...]:
    quality = energy.quality if has_joules(energy) else EnergyQuality.UNAVAILABLE
    return (quality.value, energy.source, energy.scope)


def _unavailable_total(energies: Sequence[Energy], missing: Sequence[Energy]) -> Energy:
    """Return the total of a whole of which a part is missing."""
    one = missing[0]
    why = one.notes[0] if one.notes else one.short_text()
    count = f"{len(missing)} of {len(energies)} energies"
    what = f"no total: {count} missing, {one.source} of {one.scope}: {why}"
    return dataclasses.replace(
        one,
        **_remaining_sum_fields(energies),
        joules=None,
        lo=None,
        hi=None,
        seconds=sum(energy.seconds for energy in energies),
        quality=EnergyQuality.UNAVAILABLE,
        notes=(what, *_merged_notes(energies)),
    )


def _remaining_sum_fields(energies: Sequence[Energy]) -> dict[str, Any]:
    """Return the further fields of a sum: what all share, and a flag that any has raised.

    Anything else of a single window says nothing of the whole and goes back to its default.
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(energies[0]):
        if field.name in _EXPLICITLY_SUMMED_FIELDS:
            continue
        values = [getattr(energy, field.name) for energy in energies]
        if field.name in _ADDED_FACTS:
            found[field.name] = None if None in values else sum(values)
        elif field.name == "max_gap_s":
            found[field.name] = max(values)
        elif isinstance(field.default, bool):
            found[field.name] = any(values)
        else:
            same = all(value == values[0] for value in values)
            found[field.name] = values[0] if same else field.default
    if not found["idle_w"]:
        found["idle_s"] = ()
    return found


def _sum_or_none(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else math.fsum(value for value in known if value is not None)


def _merged_notes(energies: Sequence[Energy]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note for energy in energies for note in energy.notes))


def _edge_error_frac(energy: Energy) -> float:
    edge_s = max(EDGE_ERROR_S, UNTIMED_EDGE_ERROR_STEPS * energy.step_s)
    return edge_s / energy.seconds if energy.seconds > 0 else math.inf
