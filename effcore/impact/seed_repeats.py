"""A run and its dense twin again with other seeds, as far as they are in the store.

One pair of runs says nothing of its scatter. Whatever was trained with the same settings and
another seed, beside full dense training of that seed, says some of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

from effcore.impact.ranges import ImpactError, number_text
from effcore.impact.run_savings import (
    DENSE_POLICIES,
    policies_besides_dense,
    task_and_policies_text,
)
from effcore.impact.saving import Saving, SavingBasis, paired_energy_saving, paired_saving
from effcore.records import RunConfig, RunEnd, RunStatus, Snapshot
from effcore.store import RunSummary

#: What a run and its dense twin share; the policies, their knobs and the budget may differ.
_SHARED_SETTINGS = (
    *("task", "model", "size", "data", "epochs", "batch_size", "learning_rate", "seed"),
    *("device", "optimizer", "precision", "threads", "clip_norm"),
)


class DenseReferencePair(NamedTuple):
    """A run and full dense training of the same seed, both finished."""

    own: RunSummary
    dense: RunSummary


class SeedRepeats(NamedTuple):
    """What there is of a run's setting.

    Attributes:
        pairs: One for each seed, by seed.
        failed_seeds: Seeds on which the setting broke down.
    """

    pairs: tuple[DenseReferencePair, ...]
    failed_seeds: tuple[int, ...]


def find_seed_repeats(snapshot: Snapshot, stored: Iterable[RunSummary]) -> SeedRepeats:
    """Return the pairs of a run's setting, the run's own among them if it has a twin.

    Args:
        snapshot: The run.
        stored: Runs of the store, newest first: of a seed that was trained twice the newest
            counts. Runs that were steered do not, nor do another machine's, whose seconds and
            joules do not compare with those of this one.
    """
    steady = [run for run in stored if not (run.exploratory or run.imported)]
    alike = [run for run in steady if _without_seed(run.config) == _without_seed(snapshot.config)]
    if not policies_besides_dense(snapshot.config) or snapshot.exploratory:
        return SeedRepeats((), ())
    twins = {_shared_settings(run.config): run for run in reversed(steady) if _is_dense_full(run)}
    own = {run.config.seed: run for run in reversed(alike) if _is_finished(run)}
    pairs = [
        DenseReferencePair(run, twins[key])
        for run in own.values()
        if (key := _shared_settings(run.config)) in twins
    ]
    broke = {run.config.seed for run in alike if run.status is RunStatus.FAILED} - set(own)
    return SeedRepeats(tuple(sorted(pairs, key=lambda p: p.own.config.seed)), tuple(sorted(broke)))


def savings_over_seeds(repeats: SeedRepeats) -> dict[SavingBasis, Saving]:
    """Return what a setting saved over its seeds, by what is compared; joules first, if any.

    Args:
        repeats: At least two pairs, so that there is a scatter.
    """
    pairs = repeats.pairs
    trained = task_and_policies_text(pairs[0].own.config)
    where = f"{trained}, {len(pairs)} pairs of runs, each with the same seed"
    notes = (_mean_metric_note(pairs), *_failed_seeds_note(repeats.failed_seeds))
    savings: dict[SavingBasis, Saving] = {}
    energies = [(p.own.energy, p.dense.energy) for p in pairs]
    known = [(own, dense) for own, dense in energies if own is not None and dense is not None]
    if len(known) == len(pairs):
        with contextlib.suppress(ImpactError):  # estimates, or not all of them metered alike
            savings[SavingBasis.JOULES] = paired_energy_saving(known, where)
    for basis, name in ((SavingBasis.FLOPS, "flops_spent"), (SavingBasis.SECONDS, "seconds")):
        spent = [
            [getattr(_run_end(run), name) for run in side] for side in zip(*pairs, strict=True)
        ]
        with contextlib.suppress(ImpactError):  # a clock that stood still
            savings[basis] = paired_saving(spent[0], spent[1], basis, where)
    return {b: replace(saving, notes=(*saving.notes, *notes)) for b, saving in savings.items()}


def _without_seed(config: RunConfig) -> RunConfig:
    return replace(config, seed=0)


def _shared_settings(config: RunConfig) -> tuple[object, ...]:
    fields = {name: getattr(config, name) for name in _SHARED_SETTINGS}
    return tuple((fields | {"data": tuple(sorted(config.data.items()))}).values())


def _is_dense_full(run: RunSummary) -> bool:
    config = run.config
    plain = (config.selection, config.update, config.intensity) == DENSE_POLICIES
    return plain and config.budget in (None, 1.0) and _is_finished(run)


def _is_finished(run: RunSummary) -> bool:
    return run.status is RunStatus.FINISHED and run.end is not None and run.end.metric is not None


def _run_end(run: RunSummary) -> RunEnd:
    assert run.end is not None, "what has finished has an end"
    return run.end


def _mean_metric_note(pairs: Sequence[DenseReferencePair]) -> str:
    own, dense = (
        number_text(fmean(_run_end(run).metric or 0.0 for run in side))
        for side in zip(*pairs, strict=True)
    )
    name = _run_end(pairs[0].own).metric_name
    return f"{name} {own} on average against {dense} of dense training"


def _failed_seeds_note(seeds: Sequence[int]) -> Iterable[str]:
    if seeds:
        yield f"it broke down on {len(seeds)} more, which are left out"
