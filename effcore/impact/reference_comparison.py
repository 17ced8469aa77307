"""Comparison of a finished run with full training of the same seed: saving and quality.

The share of computation saved is 1 − FLOPs spent ÷ FLOPs of full training. It is a saving only
with a finished reference, since only the reference shows what it cost in quality. Without one the
same share is a :class:`ComputationNotSpent`, which no text calls a saving. Both hold a
``SavedFrac``, which is not the skipped share of a run (``SkippedFrac``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple, Protocol

from effcore.impact.ranges import ImpactError, Range, exact_range, number_text
from effcore.impact.saving import (
    SAVING_LIMITS,
    Saving,
    SavingBasis,
    paired_energy_saving,
    paired_saving,
    percent_text,
)
from effcore.records import Energy, RunConfig, RunEnd, RunStatus, SavedFrac, Snapshot, saved_frac
from effcore.records.settings import DENSE_POLICY_IDS
from effcore.registry import UnknownNameError
from effcore.store import RunSummary
from effcore.store.run_records import is_reference_candidate, reference_settings

if TYPE_CHECKING:
    from effcore.tasks.base import Metric


class ComparableRun(Protocol):
    """Fields of a run that a comparison reads; snapshots and list entries have them."""

    @property
    def run_id(self) -> str:
        """Id of the run."""

    @property
    def config(self) -> RunConfig:
        """Configuration of the run."""

    @property
    def status(self) -> RunStatus:
        """Status of the run."""

    @property
    def end(self) -> RunEnd | None:
        """Results, if the run has ended."""

    @property
    def energy(self) -> Energy | None:
        """Energy, if it was recorded."""


@dataclass(frozen=True, slots=True)
class QualityDifference:
    """Mean metric of runs and of their references.

    Attributes:
        own: Mean metric of the runs.
        reference: Mean metric of the references.
        name: The metric's id.
        metric: The metric's definition; ``None`` if the task is not registered.
    """

    own: float
    reference: float
    name: str
    metric: Metric | None

    @property
    def gain(self) -> float:
        """How much better the runs are; negative if they are worse."""
        sign = 1.0 if self.metric is None else self.metric.sign
        return sign * (self.own - self.reference)

    @property
    def is_beyond_margin(self) -> bool:
        """Whether the runs are worse by more than the task's margin."""
        return self.metric is not None and self.gain < -self.metric.margin


@dataclass(frozen=True, slots=True)
class RunSaving:
    """Saving of finished runs against finished full training of the same seeds.

    Attributes:
        saved_compute_frac: Mean share of full training's FLOPs that was not spent.
        savings: Savings with intervals by basis, FLOPs included, joules first.
        quality: Cost in quality; ``None`` if a run has no metric.
        seeds: The seeds compared.
        reference_ids: The references' ids, in the order of the seeds.
        seconds: Mean seconds of the runs and of the references.
    """

    saved_compute_frac: SavedFrac
    savings: Mapping[SavingBasis, Saving]
    quality: QualityDifference | None
    seeds: tuple[int, ...]
    reference_ids: tuple[str, ...]
    seconds: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ComputationNotSpent:
    """Share of full training's computation that a finished run without a reference did not spend.

    Attributes:
        share: 1 − FLOPs spent ÷ FLOPs of full training.
        where: Task and policies, as the end of a sentence.
        seed: The seed that a reference would need.
    """

    share: SavedFrac
    where: str
    seed: int

    @property
    def fraction(self) -> Range:
        """The share as a range."""
        return exact_range(max(self.share, SAVING_LIMITS[0]))

    @property
    def measured(self) -> bool:
        """Whether joules were measured; always false, since FLOPs are counted."""
        return False

    @property
    def claim(self) -> str:
        """Label of the share."""
        return "Computation not spent: its cost in quality is unknown, and no joules were measured"

    @property
    def notes(self) -> tuple[str, ...]:
        """Caveats to read before quoting it."""
        return (f"full training of seed {self.seed} has not finished, so there is no comparison",)

    def __str__(self) -> str:
        """Return the share with its label."""
        return f"{percent_text(self.fraction)} · {self.claim}. {self.where}"


#: A share that can be projected to costs.
ProjectableShare = Saving | ComputationNotSpent


def task_and_policies_text(config: RunConfig) -> str:
    """Return the task, the model, the policies and the budget as text."""
    has_budget = config.budget not in (None, 1.0)
    dense = "same-budget training" if has_budget else "full training"
    policies = " + ".join(policies_besides_dense(config)) or dense
    budget = "" if not has_budget else f" at {config.budget:.0%} of the computation"
    return f"{config.task} ({config.model}, {config.size}) with {policies}{budget}"


def policies_besides_dense(config: RunConfig) -> list[str]:
    """Return the policies other than those of full training."""
    chosen = (config.selection, config.update, config.intensity)
    return [name for name, plain in zip(chosen, DENSE_POLICY_IDS, strict=True) if name != plain]


def compare_with_reference(
    pairs: Sequence[tuple[ComparableRun, ComparableRun]], failed_seeds: Sequence[int] = ()
) -> RunSaving | None:
    """Return the saving of runs against their references; ``None`` if they are not comparable.

    Args:
        pairs: Runs with full training of the same seed. Both must have finished, and may differ
            only in policies, knobs and budget.
        failed_seeds: Seeds on which these settings failed, which a note reports.
    """
    ends = [(own.end, reference.end) for own, reference in pairs if _are_comparable(own, reference)]
    known = [(own, reference) for own, reference in ends if own and reference]
    full = [own.flops_full or reference.flops_spent for own, reference in known]
    spent = [own.flops_spent for own, _ in known]
    if not pairs or len(known) != len(pairs) or min(spent) <= 0 or min(full) <= 0:
        return None
    where = f"{task_and_policies_text(pairs[0][0].config)}, {_pairs_text(len(pairs))}"
    savings: dict[SavingBasis, Saving] = {}
    energies = [(o.energy, r.energy) for o, r in pairs if o.energy and r.energy]
    if len(energies) == len(pairs):
        with contextlib.suppress(ImpactError):  # estimates, or energies of different meters
            savings[SavingBasis.JOULES] = paired_energy_saving(
                [(own, reference) for own, reference in energies if own and reference], where
            )
    savings[SavingBasis.FLOPS] = paired_saving(spent, full, SavingBasis.FLOPS, where)
    seconds = [own.seconds for own, _ in known], [reference.seconds for _, reference in known]
    with contextlib.suppress(ImpactError):  # a duration of zero
        savings[SavingBasis.SECONDS] = paired_saving(*seconds, SavingBasis.SECONDS, where)
    quality = _quality_difference(pairs[0][0].config.task, known)
    notes = (*_quality_notes(quality, len(pairs)), *_failed_seeds_notes(failed_seeds))
    shares = [saved_frac(*flops) or 0.0 for flops in zip(spent, full, strict=True)]
    return RunSaving(
        saved_compute_frac=SavedFrac(fmean(shares)),
        savings={
            basis: replace(saving, notes=(*saving.notes, *notes), result=notes[0])
            for basis, saving in savings.items()
        },
        quality=quality,
        seeds=tuple(own.config.seed for own, _ in pairs),
        reference_ids=tuple(reference.run_id for _, reference in pairs),
        seconds=(fmean(seconds[0]), fmean(seconds[1])),
    )


def computation_not_spent(run: ComparableRun) -> ComputationNotSpent | None:
    """Return the share of full training's computation that a finished run did not spend.

    ``None`` for full training itself, for an unfinished run, and if the FLOPs of full training
    are not known.
    """
    share = run.end.saved_compute_frac if run.end is not None else None
    finished = run.status is RunStatus.FINISHED and not is_reference_candidate(run.config)
    if share is None or not finished or run.end is None or run.end.flops_spent <= 0:
        return None
    return ComputationNotSpent(share, task_and_policies_text(run.config), run.config.seed)


def projectable_shares(
    run: ComparableRun, saving: RunSaving | None
) -> dict[SavingBasis, ProjectableShare]:
    """Return the shares of a run that can be projected to costs, by basis; joules first."""
    if saving is not None:
        return dict(saving.savings)
    share = computation_not_spent(run)
    return {} if share is None else {SavingBasis.FLOPS: share}


def _are_comparable(own: ComparableRun, reference: ComparableRun) -> bool:
    return (
        own.status is RunStatus.FINISHED
        and reference.status is RunStatus.FINISHED
        and not is_reference_candidate(own.config)
        and is_reference_candidate(reference.config)
        and reference_settings(own.config) == reference_settings(reference.config)
    )


def _pairs_text(count: int) -> str:
    if count == 1:
        return "one pair of runs with the same seed"
    return f"{count} pairs of runs, each with the same seed"


def _quality_difference(
    task: str, ends: Sequence[tuple[RunEnd, RunEnd]]
) -> QualityDifference | None:
    own = [end.metric for end, _ in ends if end.metric is not None]
    reference = [end.metric for _, end in ends if end.metric is not None]
    if len(own) != len(ends) or len(reference) != len(ends):
        return None
    from effcore.tasks.base import TASKS  # imports torch, which must not happen at server start

    try:
        metric = TASKS.get(task).metric
    except UnknownNameError:
        metric = None
    return QualityDifference(fmean(own), fmean(reference), ends[0][0].metric_name, metric)


def _quality_notes(quality: QualityDifference | None, pairs: int) -> Iterable[str]:
    if quality is None:
        return ("one of the two results is unknown",)
    mean = " on average" if pairs > 1 else ""
    own, reference = number_text(quality.own), number_text(quality.reference)
    return (f"{quality.name} {own}{mean} against {reference} of full training",)


def _failed_seeds_notes(seeds: Sequence[int]) -> Iterable[str]:
    noun = "seed" if len(seeds) == 1 else "seeds"
    return (f"failed on {len(seeds)} more {noun}, not included",) if seeds else ()


# Other seeds of a run ---------------------------------------------------------------------


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
