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

from effcore.events import RunConfig, RunEnd, RunStatus, Snapshot
from effcore.impact.ranges import ImpactError, number_text
from effcore.impact.runs import PLAIN, policies_of, task_of
from effcore.impact.saving import Basis, Saving, saving_of, saving_of_energies
from effcore.store import RunSummary

#: What a run and its dense twin share; the policies, their knobs and the budget may differ.
_SHARED = (
    *("task", "model", "size", "data", "epochs", "batch_size", "learning_rate", "seed"),
    *("device", "optimizer", "precision", "threads", "clip_norm"),
)


class Pair(NamedTuple):
    """A run and full dense training of the same seed, both finished."""

    own: RunSummary
    dense: RunSummary


class Repeats(NamedTuple):
    """What there is of a run's setting.

    Attributes:
        pairs: One for each seed, by seed.
        broke: Seeds on which the setting broke down.
    """

    pairs: tuple[Pair, ...]
    broke: tuple[int, ...]


def repeats_of(look: Snapshot, stored: Iterable[RunSummary]) -> Repeats:
    """Return the pairs of a run's setting, the run's own among them if it has a twin.

    Args:
        look: The run.
        stored: Runs of the store, newest first: of a seed that was trained twice the newest
            counts. Runs that were steered do not, nor do another machine's, whose seconds and
            joules do not compare with those of this one.
    """
    steady = [run for run in stored if not (run.exploratory or run.imported)]
    alike = [run for run in steady if _seedless(run.config) == _seedless(look.config)]
    if not policies_of(look.config) or look.exploratory:
        return Repeats((), ())
    twins = {_shared(run.config): run for run in reversed(steady) if _is_full(run)}
    own = {run.config.seed: run for run in reversed(alike) if _finished(run)}
    pairs = [Pair(run, twins[key]) for run in own.values() if (key := _shared(run.config)) in twins]
    broke = {run.config.seed for run in alike if run.status is RunStatus.FAILED} - set(own)
    return Repeats(tuple(sorted(pairs, key=lambda p: p.own.config.seed)), tuple(sorted(broke)))


def savings_over(found: Repeats) -> dict[Basis, Saving]:
    """Return what a setting saved over its seeds, by what is compared; joules first, if any.

    Args:
        found: At least two pairs, so that there is a scatter.
    """
    pairs = found.pairs
    where = f"{task_of(pairs[0].own.config)}, {len(pairs)} pairs of runs, each with the same seed"
    notes = (_judged(pairs), *_broke(found.broke))
    savings: dict[Basis, Saving] = {}
    energies = [(p.own.energy, p.dense.energy) for p in pairs]
    known = [(own, dense) for own, dense in energies if own is not None and dense is not None]
    if len(known) == len(pairs):
        with contextlib.suppress(ImpactError):  # estimates, or not all of them metered alike
            savings[Basis.JOULES] = saving_of_energies(known, where)
    for basis, name in ((Basis.FLOPS, "flops_spent"), (Basis.SECONDS, "seconds")):
        spent = [[getattr(_end(run), name) for run in side] for side in zip(*pairs, strict=True)]
        with contextlib.suppress(ImpactError):  # a clock that stood still
            savings[basis] = saving_of(spent[0], spent[1], basis, where)
    return {b: replace(saving, notes=(*saving.notes, *notes)) for b, saving in savings.items()}


def _seedless(config: RunConfig) -> RunConfig:
    return replace(config, seed=0)


def _shared(config: RunConfig) -> tuple[object, ...]:
    fields = {name: getattr(config, name) for name in _SHARED}
    return tuple((fields | {"data": tuple(sorted(config.data.items()))}).values())


def _is_full(run: RunSummary) -> bool:
    config = run.config
    plain = (config.selection, config.update, config.intensity) == PLAIN
    return plain and config.budget in (None, 1.0) and _finished(run)


def _finished(run: RunSummary) -> bool:
    return run.status is RunStatus.FINISHED and run.end is not None and run.end.metric is not None


def _end(run: RunSummary) -> RunEnd:
    assert run.end is not None, "what has finished has an end"
    return run.end


def _judged(pairs: Sequence[Pair]) -> str:
    own, dense = (
        number_text(fmean(_end(run).metric or 0.0 for run in side))
        for side in zip(*pairs, strict=True)
    )
    name = _end(pairs[0].own).metric_name
    return f"{name} {own} on average against {dense} of dense training"


def _broke(seeds: Sequence[int]) -> Iterable[str]:
    if seeds:
        yield f"it broke down on {len(seeds)} more, which are left out"
