"""A run and its dense twin again with other seeds, as far as they are in the store.

One pair of runs says nothing of its scatter. Whatever was trained with the same settings and
another seed, beside full dense training of that seed, says some of it.
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
    if is_reference_candidate(snapshot.config) or snapshot.exploratory:
        return SeedRepeats((), ())
    twins = {
        repr(reference_settings(run.config)): run
        for run in reversed(steady)
        if is_reference_candidate(run.config) and _is_finished(run)
    }
    own = {run.config.seed: run for run in reversed(alike) if _is_finished(run)}
    pairs = [
        DenseReferencePair(run, twins[key])
        for run in own.values()
        if (key := repr(reference_settings(run.config))) in twins
    ]
    broke = {run.config.seed for run in alike if run.status is RunStatus.FAILED} - set(own)
    return SeedRepeats(tuple(sorted(pairs, key=lambda p: p.own.config.seed)), tuple(sorted(broke)))


def saving_over_seeds(repeats: SeedRepeats) -> RunSaving | None:
    """Return what a setting saved over its seeds.

    Args:
        repeats: At least two pairs, so that there is a scatter.
    """
    pairs = [(pair.own, pair.dense) for pair in repeats.pairs]
    return compare_with_reference(pairs, repeats.failed_seeds)


def _without_seed(config: RunConfig) -> RunConfig:
    return replace(config, seed=0)


def _is_finished(run: RunSummary) -> bool:
    return run.status is RunStatus.FINISHED and run.end is not None and run.end.metric is not None
