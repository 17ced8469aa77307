"""Narration of a race: captions while it runs, and sentences on the result at the end.

The readers are newcomers. A saving of computation or time is never called a saving of energy, and
one pair of runs is called an illustration rather than a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from effcore.energy.arithmetic import has_joules
from effcore.impact.ranges import si_text
from effcore.impact.reference_comparison import compare_with_reference
from effcore.impact.saving import Saving, SavingBasis
from effcore.impact.saving_text import saving_and_quality_text
from effcore.insight.race_recording import RaceStage
from effcore.policies.combination import POLICY_REGISTRIES
from effcore.records import STEP_COLUMNS, Energy, EnergyQuality, RunStatus, Snapshot
from effcore.records.units import clock_text
from effcore.runs.summary import metric_text
from effcore.tasks.base import TASKS, Metric

#: Least progress of a run from which its total is extrapolated.
_MIN_FORECAST_PROGRESS: Final = 0.01
_NO_VALUE: Final = "–"


# Bars -------------------------------------------------------------------------------------


class RaceBar(NamedTuple):
    """One run's bar in a row.

    Attributes:
        text: The amount with its unit; for energy also the quality.
        lo: End of the bar as a share of the width; for an interval its lower end.
        hi: Upper end; if above ``lo``, a band from ``lo`` to ``hi`` is drawn in place of a bar.
    """

    text: str
    lo: float
    hi: float


class RaceRow(NamedTuple):
    """One quantity of both runs.

    Attributes:
        name: Name of the quantity.
        note: Note beside the name.
        dense: Full training's bar.
        efficient: The efficient run's bar.
    """

    name: str
    note: str
    dense: RaceBar
    efficient: RaceBar


def race_rows(dense: Snapshot, efficient: Snapshot) -> list[RaceRow]:
    """Return the rows; energy is included only if it can be compared.

    The full width is the total of full training, or the amount of the efficient run if that is
    larger.
    """
    result = [
        _race_row("Computation", "selection included", _flops_bar, dense, efficient),
        _race_row("Time", "", _time_bar, dense, efficient),
    ]
    energy_pending = not has_joules(efficient.energy) and not efficient.status.is_final
    if has_joules(dense.energy) and (
        energy_pending or energies_comparable(dense.energy, efficient.energy)
    ):
        result.append(
            _race_row("Energy", dense.energy.quality.value, _energy_bar, dense, efficient)
        )
    return result


def energies_comparable(own: Energy, other: Energy) -> bool:
    """Return whether both energies are known, with the same quality, instrument and scope."""
    kinds = {(energy.quality, energy.source, energy.scope) for energy in (own, other)}
    return has_joules(own) and has_joules(other) and len(kinds) == 1


def _race_row(
    name: str,
    note: str,
    amount: Callable[[Snapshot], RaceBar],
    dense: Snapshot,
    efficient: Snapshot,
) -> RaceRow:
    dense_bar, efficient_bar = amount(dense), amount(efficient)
    full_width = max(_expected_total(dense, dense_bar.hi), efficient_bar.hi)
    return RaceRow(
        name, note, _scale_bar(dense_bar, full_width), _scale_bar(efficient_bar, full_width)
    )


def _expected_total(snapshot: Snapshot, so_far: float) -> float:
    """Return a run's total, extrapolated from its progress."""
    if snapshot.status is RunStatus.FINISHED:
        return so_far
    return so_far / snapshot.progress if snapshot.progress >= _MIN_FORECAST_PROGRESS else math.inf


def _scale_bar(amount: RaceBar, full_width: float) -> RaceBar:
    if not full_width > 0:
        return amount._replace(lo=0.0, hi=0.0)
    return amount._replace(lo=amount.lo / full_width, hi=amount.hi / full_width)


def _flops_bar(snapshot: Snapshot) -> RaceBar:
    spent = spent_so_far(snapshot, "flops")
    return RaceBar(si_text(spent, "FLOP") if spent else _NO_VALUE, spent, spent)


def _time_bar(snapshot: Snapshot) -> RaceBar:
    seconds = spent_so_far(snapshot, "seconds")
    return RaceBar(duration_text(seconds) if seconds else _NO_VALUE, seconds, seconds)


def _energy_bar(snapshot: Snapshot) -> RaceBar:
    energy = snapshot.energy
    if not has_joules(energy):
        return RaceBar(_NO_VALUE, 0.0, 0.0)
    if energy.joules is not None:
        return RaceBar(energy.short_text(), energy.joules, energy.joules)
    return RaceBar(energy.short_text(), energy.lo or 0.0, energy.hi or 0.0)


def spent_so_far(snapshot: Snapshot, column: str) -> float:
    """Return the FLOPs or seconds spent: from the run's end, else from the step table."""
    if snapshot.end is not None:
        return snapshot.end.flops_spent if column == "flops" else snapshot.end.seconds
    steps = snapshot.steps
    return float(steps[STEP_COLUMNS.index(column), -1]) if steps.shape[1] else 0.0


def duration_text(seconds: float) -> str:
    """Return a duration as text, in seconds or minutes."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{clock_text(seconds)} min"


class _TaskSubject(NamedTuple):
    """Words for a task in sentences: its activity, and its examples."""

    doing: str
    things: str


_TASK_SUBJECTS: Final = {
    "photo": _TaskSubject("redraw a photograph, pixel by pixel", "pixels"),
    "digits": _TaskSubject("read handwritten digits", "digits"),
    "code": _TaskSubject("guess the next character of program text", "pieces of text"),
    "snippets": _TaskSubject("recognise where a piece of program text is from", "pieces of text"),
}
#: Explanations of the metrics, by name.
_METRIC_MEANINGS: Final = {
    "psnr": "how close the picture comes to the photograph",
    "accuracy": "the share it gets right",
    "balanced_accuracy": "the share it gets right, with every class weighted equally",
    "bits_per_byte": "how surprised it is by text it has not seen",
    "r2": "the share of the differences that it explains",
}


class RaceEnding(NamedTuple):
    """Sentences shown when both runs are over.

    Attributes:
        saved: Savings of computation, time and energy.
        cost: Effect on the result.
        sure: Limits of one pair of runs.
    """

    saved: tuple[str, ...]
    cost: tuple[str, ...]
    sure: tuple[str, ...]


def task_subject(task: str) -> _TaskSubject:
    """Return the words for a task."""
    return _TASK_SUBJECTS.get(
        task, _TaskSubject(f"solve a task ({TASKS.get(task).title})", "examples")
    )


def stage_caption(stage: RaceStage, dense: Snapshot, efficient: Snapshot) -> str:
    """Return the caption at this stage of a race."""
    match stage:
        case RaceStage.QUESTION:
            return _question_caption(dense)
        case RaceStage.DENSE:
            return _dense_caption(dense)
        case RaceStage.EFFICIENT:
            return _efficient_caption(efficient)
        case RaceStage.RESULT:
            return _result_caption(dense, efficient)
        case RaceStage.BROKEN:
            return _broken_caption(dense, efficient)


def _question_caption(dense: Snapshot) -> str:
    doing, things = task_subject(dense.config.task)
    count = f"all {dense.start.n_train:,} {things}" if dense.start else f"all {things}"
    return (
        f"A computer learns to {doing} by going over the same {things} again and again. Full "
        f"training works through {count} every time, even those that the model already gets "
        "right. Is all of that work needed?"
    )


def _dense_caption(dense: Snapshot) -> str:
    things = task_subject(dense.config.task).things
    if dense.progress < 0.65:
        return (
            f"First comes full training: all {things}, every time. The grey bars show what it "
            "costs. The efficient run is measured against them."
        )
    return (
        f"Full training works as hard on {things} that it already gets right as on those it still "
        "gets wrong, so the bars fill as fast as at the start."
    )


def _efficient_caption(efficient: Snapshot) -> str:
    things, config = task_subject(efficient.config.task).things, efficient.config
    if efficient.progress < 0.5:
        how = POLICY_REGISTRIES["selection"].get(config.selection).summary
        if config.selection == "confident-skip":
            how = (
                f"{things} that it gets right are skipped, and trained on again every "
                f"{config.knobs['revisit']} epochs in case they were forgotten."
            )
        return f"Now the efficient run begins from the same start: {how[0].lower()}{how[1:]}"
    text = f"It spends its computation on {things} that it does not know yet."
    if config.budget is not None:
        text += f" It stops at {config.budget:.0%} of full training's computation."
    if (skipped_frac := _skipped_examples_frac(efficient)) is not None:
        text = f"So far it has skipped {skipped_frac:.0%} of the {things}. {text}"
    return text


def _skipped_examples_frac(snapshot: Snapshot) -> float | None:
    """Return the share of the considered examples that were not trained on."""
    if not snapshot.steps_done:
        return None
    considered, trained = snapshot.column("considered")[-1], snapshot.column("trained")[-1]
    return float(1.0 - trained / considered) if considered else None


def _result_caption(dense: Snapshot, efficient: Snapshot) -> str:
    saving = compare_with_reference([(efficient, dense)])
    if saving is None:
        return "Both runs are over."
    saved = saving.saved_compute_frac
    less = f"{saved:.0%} less computation" if saved > 0 else "no less computation"
    return f"The efficient run took {less}, and {_outcome_text(dense, efficient)}."


def _outcome_text(dense: Snapshot, efficient: Snapshot) -> str:
    gain = _metric_gain(dense, efficient)
    if gain is None:
        return "its result is not known"
    margin = TASKS.get(dense.config.task).metric.margin
    if gain > margin:
        return "its result is better"
    return "its result is as good" if gain >= -margin else "its result is worse"


def _metric_gain(dense: Snapshot, efficient: Snapshot) -> float | None:
    """Return how much better the efficient run is, in the metric's own scale."""
    if dense.end is None or efficient.end is None:
        return None
    mine, other = efficient.end.metric, dense.end.metric
    if mine is None or other is None:
        return None
    return TASKS.get(dense.config.task).metric.sign * (mine - other)


def _broken_caption(dense: Snapshot, efficient: Snapshot) -> str:
    name, snapshot = "Full training", dense
    if dense.status is RunStatus.FINISHED:
        name, snapshot = "The efficient run", efficient
    reason = f" {snapshot.reason[0].upper()}{snapshot.reason[1:]}." if snapshot.reason else ""
    ended = "failed" if snapshot.status is RunStatus.FAILED else f"was {snapshot.status.value}"
    return f"{name} {ended}, so there is nothing to compare.{reason}"


# The end ----------------------------------------------------------------------------------


def race_ending(dense: Snapshot, efficient: Snapshot) -> RaceEnding:
    """Return the sentences on two finished runs."""
    saving = compare_with_reference([(efficient, dense)])
    savings = {} if saving is None else saving.savings
    saved = (
        *_computation_sentences(savings, dense, efficient),
        *_time_sentences(savings, dense, efficient),
    )
    in_short = () if saving is None else (f"In short: {saving_and_quality_text(saving)}.",)
    return RaceEnding(
        (*saved, _energy_sentence(savings, dense, efficient)),
        (*_quality_sentences(dense, efficient), *in_short),
        _CERTAINTY_SENTENCES,
    )


def _less_or_more_text(saving: Saving) -> str:
    share = saving.fraction.lo
    return f"{abs(share):.0%} {'less' if share >= 0 else 'more'}"


def _computation_sentences(
    savings: Mapping[SavingBasis, Saving], dense: Snapshot, efficient: Snapshot
) -> tuple[str, ...]:
    if SavingBasis.FLOPS not in savings:
        return ()
    mine, other = (
        si_text(spent_so_far(snapshot, "flops"), "FLOP") for snapshot in (efficient, dense)
    )
    return (
        f"Computation: {_less_or_more_text(savings[SavingBasis.FLOPS])}. {mine} instead of "
        f"{other}, including the cost of selecting what to skip.",
    )


def _time_sentences(
    savings: Mapping[SavingBasis, Saving], dense: Snapshot, efficient: Snapshot
) -> tuple[str, ...]:
    if SavingBasis.SECONDS not in savings:
        return ()
    mine, other = (
        duration_text(spent_so_far(snapshot, "seconds")) for snapshot in (efficient, dense)
    )
    return (
        f"Time: {_less_or_more_text(savings[SavingBasis.SECONDS])}. {mine} instead of {other}.",
    )


def _energy_sentence(
    savings: Mapping[SavingBasis, Saving], dense: Snapshot, efficient: Snapshot
) -> str:
    mine, other = efficient.energy, dense.energy
    both = f"{mine.short_text()} against {other.short_text()}"
    if (saving := savings.get(SavingBasis.JOULES)) is not None and saving.quality is not None:
        text = f"Energy: {_fewer_joules_text(saving)} joules, {saving.quality.value}. {both}."
        return text if saving.measured else f"{text} {saving.claim}."
    if mine.quality is EnergyQuality.ESTIMATED and energies_comparable(mine, other):
        return (
            f"Energy: not measured, so no saving of energy is claimed. It is only estimated from "
            f"processor time ({both}), which adds nothing to the seconds."
        )
    if mine.contended or other.contended:
        return "Energy: other programs used the same device, so the energy of the runs is unknown."
    why = f": {mine.notes[0]}" if mine.notes and mine.quality is EnergyQuality.UNAVAILABLE else ""
    return f"Energy: not known{why}."


def _fewer_joules_text(saving: Saving) -> str:
    lo, hi = saving.fraction
    if lo < 0 < hi:
        return f"between {-lo:.0%} more and {hi:.0%} fewer"
    ends, direction = ((lo, hi), "fewer") if hi > 0 else ((-hi, -lo), "more")
    first, last = (f"{end:.0%}" for end in ends)
    return f"{first} {direction}" if first == last else f"{first} to {last} {direction}"


def _quality_sentences(dense: Snapshot, efficient: Snapshot) -> tuple[str, ...]:
    metric, gain = TASKS.get(dense.config.task).metric, _metric_gain(dense, efficient)
    if gain is None or dense.end is None or efficient.end is None:
        return ("The results of the two runs are not both known.",)
    mine, other = (
        metric_text(metric, snapshot.end.metric) for snapshot in (efficient, dense) if snapshot.end
    )
    better = "higher is better" if metric.higher_is_better else "lower is better"
    values = f"{metric.label}, {metric_meaning(metric)}; {better}: {mine} against {other}."
    size, margin = (_difference_text(metric, value) for value in (abs(gain), metric.margin))
    if gain > metric.margin:
        return f"Nothing: the result is even better, by {size}.", values
    if gain >= -metric.margin:
        return f"Nothing that matters: {size}, within the margin of {margin}.", values
    return f"The result is worse by {size}, more than the margin of {margin}.", values


def metric_meaning(metric: Metric) -> str:
    """Return an explanation of a metric for newcomers."""
    return _METRIC_MEANINGS.get(metric.name, "the measure of the result")


def _difference_text(metric: Metric, value: float) -> str:
    amount = f"{metric.factor * value:.{metric.digits}f}"
    return f"{amount} {metric.difference_unit}".rstrip()


_CERTAINTY_SENTENCES: Final = (
    "One pair of runs with one seed is an illustration, not a verdict: another seed may give "
    "another result.",
    "It also does not show whether normal training on the same budget would do as well. A "
    "comparison over several seeds answers both.",
)
