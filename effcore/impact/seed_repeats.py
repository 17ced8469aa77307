"""Repeats of a run and its reference with other seeds in the store.

One pair of runs does not show the variation over seeds. Runs with the same settings and other
seeds do, if the store has full training of those seeds, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from effcore.impact.reference_comparison import RunSaving, compare_with_reference
from effcore.records import RunConfig, RunStatus, Snapshot
from effcore.store import RunSummary
from effcore.store.run_records import is_reference_candidate, reference_settings


class DenseReferencePair(NamedTuple):
    """A run and full training of the same seed, both finished."""

    own: RunSummary
    dense: RunSummary


class SeedRepeats(NamedTuple):
    """All seeds of a run's settings in the store.

    Attributes:
        pairs: A pair for each seed, sorted by seed.
        failed_seeds: Seeds on which a run with these settings failed.
    """

    pairs: tuple[DenseReferencePair, ...]
    failed_seeds: tuple[int, ...]


def find_seed_repeats(snapshot: Snapshot, stored: Iterable[RunSummary]) -> SeedRepeats:
    """Return the pairs with a run's settings, including the run's own if it has a reference.

    Args:
        snapshot: The run.
        stored: Runs of the store, newest first; if a seed was trained twice, the newest run
            counts. Steered runs do not count, nor do those of another machine, whose seconds and
            joules are not comparable.
    """
    eligible = [run for run in stored if not (run.exploratory or run.imported)]
    same_settings = [
        run for run in eligible if _without_seed(run.config) == _without_seed(snapshot.config)
    ]
    if is_reference_candidate(snapshot.config) or snapshot.exploratory:
        return SeedRepeats((), ())
    references = {
        repr(reference_settings(run.config)): run
        for run in reversed(eligible)
        if is_reference_candidate(run.config) and _is_finished(run)
    }
    own = {run.config.seed: run for run in reversed(same_settings) if _is_finished(run)}
    pairs = [
        DenseReferencePair(run, references[key])
        for run in own.values()
        if (key := repr(reference_settings(run.config))) in references
    ]
    failed = {run.config.seed for run in same_settings if run.status is RunStatus.FAILED} - set(own)
    return SeedRepeats(tuple(sorted(pairs, key=lambda p: p.own.config.seed)), tuple(sorted(failed)))


def saving_over_seeds(repeats: SeedRepeats) -> RunSaving | None:
    """Return the saving over all seeds.

    Args:
        repeats: At least two pairs.
    """
    pairs = [(pair.own, pair.dense) for pair in repeats.pairs]
    return compare_with_reference(pairs, repeats.failed_seeds)


def _without_seed(config: RunConfig) -> RunConfig:
    return replace(config, seed=0)


def _is_finished(run: RunSummary) -> bool:
    return run.status is RunStatus.FINISHED and run.end is not None and run.end.metric is not None
