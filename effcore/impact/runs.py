"""What one run says of joules per example and of savings, beside its dense reference."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from effcore.events import Quality, RunConfig, RunEnd, RunStatus, Snapshot
from effcore.impact.costs import Quantity, joules_of
from effcore.impact.ranges import ImpactError, exactly, number_text
from effcore.impact.saving import SAVING_LIMITS, Basis, Saving, saving_of, saving_of_energies

#: Policies that skip nothing, by kind.
PLAIN: Final = ("dense", "every-step", "full")
#: Qualities that can be said at the top of a page; an estimate restates processor time.
HEADLINED = (Quality.MEASURED, Quality.MODELLED, Quality.RECORDED)


def examples_of(snapshot: Snapshot) -> tuple[int, int]:
    """Return how many examples were trained on and how many considered, so far."""
    if snapshot.end is not None:
        return snapshot.end.examples_trained, snapshot.end.examples_considered
    if snapshot.steps.shape[1] == 0:
        return 0, 0
    trained, seen = (int(snapshot.column(name)[-1]) for name in ("trained", "considered"))
    return trained, seen


def joules_per_example(snapshot: Snapshot) -> Iterator[Quantity]:
    """Yield joules per example trained on and per example seen, where they are known.

    Raises:
        ImpactError: The energy record contradicts itself.
    """
    joules, quality = joules_of(snapshot.energy), snapshot.energy.quality
    for examples, name in zip(examples_of(snapshot), ("trained on", "seen"), strict=True):
        if joules is not None and examples:
            each = joules.times(1 / examples)
            yield Quantity(each, f"J per example {name}", quality, direct=True)


def savings_of(own: Snapshot, reference: Snapshot | None) -> dict[Basis, Saving]:
    """Return what a run saved, by what is compared; joules first, if they can be.

    Args:
        own: The run.
        reference: Its dense reference, which it is compared with; without one only FLOPs are,
            with dense training over the same passes.
    """
    if own.end is None or not policies_of(own.config) or own.end.flops_spent <= 0:
        return {}
    if not _finished(own) or reference is None or not _finished(reference):
        return _flops_alone(own, own.end)
    assert reference.end is not None, "what has finished has an end"
    where = f"{task_of(own.config)}, one pair of runs with the same seed"
    notes = _judged(own.end, reference.end)
    found: dict[Basis, Saving] = {}
    with contextlib.suppress(ImpactError):  # estimates, or nothing that was metered alike
        found[Basis.JOULES] = saving_of_energies([(own.energy, reference.energy)], where)
    for basis, name in ((Basis.FLOPS, "flops_spent"), (Basis.SECONDS, "seconds")):
        spent = (getattr(own.end, name), getattr(reference.end, name))
        with contextlib.suppress(ImpactError):  # a clock that stood still
            found[basis] = saving_of(spent[:1], spent[1:], basis, where)
    return {b: replace(saving, notes=(*saving.notes, *notes)) for b, saving in found.items()}


def savings_over(pairs: Sequence[tuple[Snapshot, Snapshot]]) -> dict[Basis, Saving]:
    """Return what finished runs saved over their dense twins, by what is compared.

    Args:
        pairs: Each run and its twin, seed by seed.
    """
    ends = [(own.end, dense.end) for own, dense in pairs if own.end and dense.end]
    if not ends or len(ends) != len(pairs):
        return {}
    where = f"{task_of(pairs[0][0].config)}, {len(pairs)} pairs of runs"
    found: dict[Basis, Saving] = {}
    with contextlib.suppress(ImpactError):  # estimates, or nothing that was metered alike
        energies = [(own.energy, dense.energy) for own, dense in pairs]
        found[Basis.JOULES] = saving_of_energies(energies, where)
    for basis, name in ((Basis.FLOPS, "flops_spent"), (Basis.SECONDS, "seconds")):
        spent, of = ([getattr(end, name) for end in side] for side in zip(*ends, strict=True))
        with contextlib.suppress(ImpactError):  # a clock that stood still
            found[basis] = saving_of(spent, of, basis, where)
    return found


def _flops_alone(own: Snapshot, end: RunEnd) -> dict[Basis, Saving]:
    if end.flops_dense <= 0:  # it ended before anything was considered
        return {}
    where = f"{task_of(own.config)}, counted against dense training over the same passes"
    notes = ("no dense run was trained beside it, so that what it cost in quality is not known",)
    share = max(end.skipped_compute_frac, SAVING_LIMITS[0])
    return {Basis.FLOPS: Saving(exactly(share), Basis.FLOPS, where, notes=notes)}


def _finished(snapshot: Snapshot) -> bool:
    return snapshot.end is not None and snapshot.status is RunStatus.FINISHED


def task_of(config: RunConfig) -> str:
    """Return what was trained by which policies, in words."""
    return f"{config.task} ({config.model}, {config.size}) with {' + '.join(policies_of(config))}"


def policies_of(config: RunConfig) -> list[str]:
    """Return the policies that are not the plain ones."""
    chosen = (config.selection, config.update, config.intensity)
    return [name for name, plain in zip(chosen, PLAIN, strict=True) if name != plain]


def _judged(own: RunEnd, dense: RunEnd) -> tuple[str, ...]:
    if own.metric is None or dense.metric is None:
        return ("what was reached is not known on both sides",)
    ours, theirs = number_text(own.metric), number_text(dense.metric)
    return (f"{own.metric_name} {ours} against {theirs} of dense training",)
