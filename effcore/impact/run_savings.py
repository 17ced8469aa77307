"""Joules per example of one run."""

from __future__ import annotations

from collections.abc import Iterator

from effcore.impact.costs import EnergyQuantity, joules_range
from effcore.records import EnergyQuality, Snapshot

#: Qualities that may be shown at the top of a page; an estimate only follows processor time.
HEADLINE_QUALITIES = (EnergyQuality.MEASURED, EnergyQuality.MODELLED, EnergyQuality.RECORDED)


def example_counts(snapshot: Snapshot) -> tuple[int, int]:
    """Return the numbers of examples trained on and considered so far."""
    if snapshot.end is not None:
        return snapshot.end.examples_trained, snapshot.end.examples_considered
    if snapshot.steps.shape[1] == 0:
        return 0, 0
    trained, seen = (int(snapshot.column(name)[-1]) for name in ("trained", "considered"))
    return trained, seen


def joules_per_example(snapshot: Snapshot) -> Iterator[tuple[str, EnergyQuantity]]:
    """Yield joules per example trained on and per example seen, if they are known.

    Each amount comes with its kind of examples, ``trained on`` or ``seen``.

    Raises:
        ImpactError: The energy record is contradictory.
    """
    joules, quality = joules_range(snapshot.energy), snapshot.energy.quality
    for examples, name in zip(example_counts(snapshot), ("trained on", "seen"), strict=True):
        if joules is not None and examples:
            amount = joules.times(1 / examples)
            unit = f"J per example {name}"
            yield name, EnergyQuantity(amount, unit, quality, is_unit_conversion=True)
