"""Texts on what a run saved or did not spend; every page, report and command uses these."""

from __future__ import annotations

from effcore.impact.ranges import number_text
from effcore.impact.reference_comparison import (
    ComparableRun,
    ComputationNotSpent,
    QualityDifference,
    RunSaving,
    compare_with_reference,
    computation_not_spent,
)
from effcore.impact.saving import SavingBasis
from effcore.records import RunStatus

#: How a reader gets the reference that a run lacks.
REFERENCE_HINT = (
    "To compare it, train the reference: the same settings and seed with policy dense and no budget"
)


def saving_and_quality_text(saving: RunSaving) -> str:
    """Return a saving with its cost in quality, as in "−40% computation, −0.36 dB, one seed"."""
    quality = "the two results are not both known"
    if saving.quality is not None:
        quality = quality_change_text(saving.quality)
    return f"{computation_change_text(saving)}, {quality}, {seeds_text(saving)}"


def short_saving_text(saving: RunSaving) -> str:
    """Return a saving for a tile: the change of computation and of quality."""
    if saving.quality is None:
        return change_text(saving.saved_compute_frac)
    return f"{change_text(saving.saved_compute_frac)}, {quality_change_text(saving.quality)}"


def computation_change_text(saving: RunSaving) -> str:
    """Return the change of computation, as in "−40% computation"."""
    return f"{change_text(saving.saved_compute_frac)} computation"


def time_change_text(saving: RunSaving) -> str:
    """Return the change of seconds with both durations; empty if a duration is unknown."""
    if not (change := short_time_change_text(saving)):
        return ""
    own, reference = saving.seconds
    return f"{change}, {own:,.1f} s against {reference:,.1f} s"


def short_time_change_text(saving: RunSaving) -> str:
    """Return the change of seconds, as in "−38% time"; empty if a duration is unknown."""
    if SavingBasis.SECONDS not in saving.savings:
        return ""
    own, reference = saving.seconds
    return f"{change_text(1.0 - own / reference)} time"


def quality_change_text(quality: QualityDifference) -> str:
    """Return the change of the metric in its own unit, as in "−0.36 dB"."""
    if quality.metric is None:
        text = f"{quality.name} {number_text(quality.own)} against "
        return text + number_text(quality.reference)
    metric, change = quality.metric, quality.own - quality.reference
    number = f"{metric.factor * change:+.{metric.digits}f}".replace("-", "−")
    if float(number.replace("−", "-")) == 0:
        number = f"±{number[1:]}"
    return f"{number} {metric.difference_unit}".rstrip()


def seeds_text(saving: RunSaving) -> str:
    """Return how many seeds were compared."""
    return "one seed" if len(saving.seeds) == 1 else f"{len(saving.seeds)} seeds"


def change_text(share_saved: float) -> str:
    """Return a saved share as a signed change in percent; a saving is negative."""
    percent = round(-100 * share_saved)
    return f"{percent:+d}%".replace("-", "−") if percent else "±0%"


def not_spent_sentence(share: ComputationNotSpent) -> str:
    """Return the share not spent, and why it does not count as a saving."""
    return f"{not_spent_text(share)} not spent; no reference of seed {share.seed} has finished"


def not_spent_text(share: ComputationNotSpent) -> str:
    """Return the share not spent, as in "40% of full training's computation"."""
    return f"{not_spent_percent(share)} of full training's computation"


def not_spent_percent(share: ComputationNotSpent) -> str:
    """Return the share not spent, as in "40%"."""
    percent = f"{100 * share.share:.0f}%".replace("-", "−")
    return "0%" if percent == "−0%" else percent


def saving_label_and_sentence(
    run: ComparableRun, reference: ComparableRun | None
) -> tuple[str, str]:
    """Return a label and a text for the computation that a run saved or did not spend."""
    saving = None if reference is None else compare_with_reference([(run, reference)])
    if saving is not None:
        return "Saved", saving_and_quality_text(saving)
    if (share := computation_not_spent(run)) is not None:
        return "Computation not spent", f"{not_spent_sentence(share)}. {REFERENCE_HINT}."
    if run.status is RunStatus.FINISHED:
        return "Full training", "other runs of its seed are compared with it"
    return "Computation not spent", "not known: the run has not finished"
