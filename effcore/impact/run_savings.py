"""What one run says of joules per example and of savings, beside its dense reference."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from effcore.impact.costs import EnergyQuantity, joules_range
from effcore.impact.ranges import ImpactError, exact_range, number_text
from effcore.impact.saving import (
    SAVING_LIMITS,
    Saving,
    SavingBasis,
    paired_energy_saving,
    paired_saving,
)
from effcore.records import EnergyQuality, RunConfig, RunEnd, RunStatus, Snapshot

#: Policies that skip nothing, by kind.
DENSE_POLICIES: Final = ("dense", "every-step", "full")
#: Qualities that can be said at the top of a page; an estimate restates processor time.
HEADLINE_QUALITIES = (EnergyQuality.MEASURED, EnergyQuality.MODELLED, EnergyQuality.RECORDED)


def example_counts(snapshot: Snapshot) -> tuple[int, int]:
    """Return how many examples were trained on and how many considered, so far."""
    if snapshot.end is not None:
        return snapshot.end.examples_trained, snapshot.end.examples_considered
    if snapshot.steps.shape[1] == 0:
        return 0, 0
    trained, seen = (int(snapshot.column(name)[-1]) for name in ("trained", "considered"))
    return trained, seen


def joules_per_example(snapshot: Snapshot) -> Iterator[EnergyQuantity]:
    """Yield joules per example trained on and per example seen, where they are known.

    Raises:
        ImpactError: The energy record contradicts itself.
    """
    joules, quality = joules_range(snapshot.energy), snapshot.energy.quality
    for examples, name in zip(example_counts(snapshot), ("trained on", "seen"), strict=True):
        if joules is not None and examples:
            each = joules.times(1 / examples)
            yield EnergyQuantity(each, f"J per example {name}", quality, is_unit_conversion=True)


def savings_against_reference(
    own: Snapshot, reference: Snapshot | None
) -> dict[SavingBasis, Saving]:
    """Return what a run saved, by what is compared; joules first, if they can be.

    Args:
        own: The run.
        reference: Its dense reference, which it is compared with; without one only FLOPs are,
            with dense training over the same passes.
    """
    if own.end is None or not policies_besides_dense(own.config) or own.end.flops_spent <= 0:
        return {}
    if not _is_finished(own) or reference is None or not _is_finished(reference):
        return _flops_saving(own, own.end)
    assert reference.end is not None, "what has finished has an end"
    where = f"{task_and_policies_text(own.config)}, one pair of runs with the same seed"
    notes = _metric_note(own.end, reference.end)
    found: dict[SavingBasis, Saving] = {}
    with contextlib.suppress(ImpactError):  # estimates, or nothing that was metered alike
        found[SavingBasis.JOULES] = paired_energy_saving([(own.energy, reference.energy)], where)
    for basis, name in ((SavingBasis.FLOPS, "flops_spent"), (SavingBasis.SECONDS, "seconds")):
        spent = (getattr(own.end, name), getattr(reference.end, name))
        with contextlib.suppress(ImpactError):  # a clock that stood still
            found[basis] = paired_saving(spent[:1], spent[1:], basis, where)
    return {b: replace(saving, notes=(*saving.notes, *notes)) for b, saving in found.items()}


def savings_over_pairs(pairs: Sequence[tuple[Snapshot, Snapshot]]) -> dict[SavingBasis, Saving]:
    """Return what finished runs saved over their dense twins, by what is compared.

    Args:
        pairs: Each run and its twin, seed by seed.
    """
    ends = [(own.end, dense.end) for own, dense in pairs if own.end and dense.end]
    if not ends or len(ends) != len(pairs):
        return {}
    where = f"{task_and_policies_text(pairs[0][0].config)}, {len(pairs)} pairs of runs"
    found: dict[SavingBasis, Saving] = {}
    with contextlib.suppress(ImpactError):  # estimates, or nothing that was metered alike
        energies = [(own.energy, dense.energy) for own, dense in pairs]
        found[SavingBasis.JOULES] = paired_energy_saving(energies, where)
    for basis, name in ((SavingBasis.FLOPS, "flops_spent"), (SavingBasis.SECONDS, "seconds")):
        spent, of = ([getattr(end, name) for end in side] for side in zip(*ends, strict=True))
        with contextlib.suppress(ImpactError):  # a clock that stood still
            found[basis] = paired_saving(spent, of, basis, where)
    return found


def _flops_saving(own: Snapshot, end: RunEnd) -> dict[SavingBasis, Saving]:
    if end.flops_dense <= 0:  # it ended before anything was considered
        return {}
    where = (
        f"{task_and_policies_text(own.config)}, counted against dense training over the same passes"
    )
    notes = ("no dense run was trained beside it, so that what it cost in quality is not known",)
    share = max(end.skipped_compute_frac, SAVING_LIMITS[0])
    return {SavingBasis.FLOPS: Saving(exact_range(share), SavingBasis.FLOPS, where, notes=notes)}


def _is_finished(snapshot: Snapshot) -> bool:
    return snapshot.end is not None and snapshot.status is RunStatus.FINISHED


def task_and_policies_text(config: RunConfig) -> str:
    """Return what was trained by which policies, in words."""
    policies = " + ".join(policies_besides_dense(config))
    return f"{config.task} ({config.model}, {config.size}) with {policies}"


def policies_besides_dense(config: RunConfig) -> list[str]:
    """Return the policies that are not the plain ones."""
    chosen = (config.selection, config.update, config.intensity)
    return [name for name, plain in zip(chosen, DENSE_POLICIES, strict=True) if name != plain]


def _metric_note(own: RunEnd, dense: RunEnd) -> tuple[str, ...]:
    if own.metric is None or dense.metric is None:
        return ("what was reached is not known on both sides",)
    ours, theirs = number_text(own.metric), number_text(dense.metric)
    return (f"{own.metric_name} {ours} against {theirs} of dense training",)
