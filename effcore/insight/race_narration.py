"""What is said of a race: while it runs, and in the end what was saved and what that cost.

For whoever knows nothing of training. A saving of computation or time is never called one of
energy, and of one pair of runs nothing is made but an illustration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from effcore.impact.ranges import si_text
from effcore.impact.reference_comparison import compare_with_reference
from effcore.impact.saving import Saving, SavingBasis
from effcore.impact.saving_text import saving_and_quality_text
from effcore.insight.race_bars import duration_text, energies_comparable, spent_so_far
from effcore.insight.race_plan import RaceStage
from effcore.policies.combination import POLICY_REGISTRIES
from effcore.records import EnergyQuality, RunStatus, Snapshot
from effcore.runs.summary import metric_text
from effcore.tasks.base import TASKS, Metric


class _TaskSubject(NamedTuple):
    """What a task is about, for sentences: what is done, and what with."""

    doing: str
    things: str


_TASK_SUBJECTS: Final = {
    "photo": _TaskSubject("redraw a photograph, pixel by pixel", "pixels"),
    "digits": _TaskSubject("read handwritten digits", "digits"),
    "code": _TaskSubject("guess the next character of program text", "pieces of text"),
    "snippets": _TaskSubject("tell where a piece of program text is from", "pieces of text"),
}
#: What a metric says, by its name.
_METRIC_MEANINGS: Final = {
    "psnr": "how close the picture comes to the photograph",
    "accuracy": "the share it gets right",
    "balanced_accuracy": "the share it gets right, every class counting alike",
    "bits_per_byte": "how surprised it is by text it has not seen",
    "r2": "how much of the differences it explains",
}


class RaceEnding(NamedTuple):
    """What is said when both runs are over.

    Attributes:
        saved: Sentences on computation, time and energy.
        cost: Sentences on what it did to the result.
        sure: How far that can be believed.
    """

    saved: tuple[str, ...]
    cost: tuple[str, ...]
    sure: tuple[str, ...]


def task_subject(task: str) -> _TaskSubject:
    """Return what a task is about."""
    return _TASK_SUBJECTS.get(
        task, _TaskSubject(f"solve a task ({TASKS.get(task).title})", "examples")
    )


def stage_caption(stage: RaceStage, dense: Snapshot, efficient: Snapshot) -> str:
    """Return what is said at this moment of a race."""
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
        f"A computer learns to {doing}, by going over the same {things} again and again. The usual "
        f"way works through {count} every time, even those it has long got right. Is all of that "
        "work needed?"
    )


def _dense_caption(dense: Snapshot) -> str:
    things = task_subject(dense.config.task).things
    if dense.progress < 0.65:
        return (
            f"First the usual way: all {things}, every time. The grey bars fill with what that "
            "takes. They are what the other way is measured against."
        )
    return (
        f"It works as hard on {things} that it got right long ago as on those it still gets wrong: "
        "the bars fill as fast as in the beginning."
    )


def _efficient_caption(efficient: Snapshot) -> str:
    things, config = task_subject(efficient.config.task).things, efficient.config
    if efficient.progress < 0.5:
        how = POLICY_REGISTRIES["selection"].get(config.selection).summary
        if config.selection == "confident-skip":
            how = (
                f"{things} it gets right are left out, and looked at again every "
                f"{config.knobs['revisit']} rounds, in case they were forgotten."
            )
        return f"Now the efficient way, from the same start: {how[0].lower()}{how[1:]}"
    words = f"What it does not spend on {things} it knows, it spends on those it does not."
    if config.budget is not None:
        words += f" It stops at {config.budget:.0%} of the computation."
    if (left_out := _skipped_examples_frac(efficient)) is not None:
        words = f"So far {left_out:.0%} of the {things} it came by were left out. {words}"
    return words


def _skipped_examples_frac(snapshot: Snapshot) -> float | None:
    """Return the share of the examples considered that were not trained on."""
    if not snapshot.steps_done:
        return None
    considered, trained = snapshot.column("considered")[-1], snapshot.column("trained")[-1]
    return float(1.0 - trained / considered) if considered else None


def _result_caption(dense: Snapshot, efficient: Snapshot) -> str:
    found = compare_with_reference([(efficient, dense)])
    if found is None:
        return "Both runs are over."
    saved = found.saved_compute_frac
    less = f"{saved:.0%} less computation" if saved > 0 else "no less computation"
    return f"The efficient way took {less}, and {_outcome_text(dense, efficient)}."


def _outcome_text(dense: Snapshot, efficient: Snapshot) -> str:
    gain = _metric_gain(dense, efficient)
    if gain is None:
        return "what it came to is not known"
    margin = TASKS.get(dense.config.task).metric.margin
    if gain > margin:
        return "came out better"
    return "came out as good" if gain >= -margin else "came out worse"


def _metric_gain(dense: Snapshot, efficient: Snapshot) -> float | None:
    """Return by how much the efficient run is better, in the metric's own scale."""
    if dense.end is None or efficient.end is None:
        return None
    mine, other = efficient.end.metric, dense.end.metric
    if mine is None or other is None:
        return None
    return mine - other if TASKS.get(dense.config.task).metric.higher_is_better else other - mine


def _broken_caption(dense: Snapshot, efficient: Snapshot) -> str:
    name, look = ("usual", dense)
    if dense.status is RunStatus.FINISHED:
        name, look = "efficient", efficient
    why = f" {look.reason[0].upper()}{look.reason[1:]}." if look.reason else ""
    what = "failed" if look.status is RunStatus.FAILED else f"was {look.status.value}"
    return f"The {name} run {what}, so there is nothing to compare.{why}"


# The end ----------------------------------------------------------------------------------


def race_ending(dense: Snapshot, efficient: Snapshot) -> RaceEnding:
    """Return what is said of two finished runs."""
    saving = compare_with_reference([(efficient, dense)])
    found = {} if saving is None else saving.savings
    saved = (
        *_computation_sentences(found, dense, efficient),
        *_time_sentences(found, dense, efficient),
    )
    in_short = () if saving is None else (f"In short: {saving_and_quality_text(saving)}.",)
    return RaceEnding(
        (*saved, _energy_sentence(found, dense, efficient)),
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
    mine, other = (si_text(spent_so_far(look, "flops"), "FLOP") for look in (efficient, dense))
    return (
        f"Computation: {_less_or_more_text(savings[SavingBasis.FLOPS])}. {mine} instead of "
        f"{other}, and choosing "
        "what "
        "to leave out is included.",
    )


def _time_sentences(
    savings: Mapping[SavingBasis, Saving], dense: Snapshot, efficient: Snapshot
) -> tuple[str, ...]:
    if SavingBasis.SECONDS not in savings:
        return ()
    mine, other = (duration_text(spent_so_far(look, "seconds")) for look in (efficient, dense))
    return (
        f"Time: {_less_or_more_text(savings[SavingBasis.SECONDS])}. {mine} instead of {other}.",
    )


def _energy_sentence(
    savings: Mapping[SavingBasis, Saving], dense: Snapshot, efficient: Snapshot
) -> str:
    mine, other = efficient.energy, dense.energy
    both = f"{mine.short_text()} against {other.short_text()}"
    if (saving := savings.get(SavingBasis.JOULES)) is not None and saving.quality is not None:
        words = f"Energy: {_fewer_joules_text(saving)} joules, {saving.quality.value}. {both}."
        return words if saving.measured else f"{words} {saving.claim}."
    if mine.quality is EnergyQuality.ESTIMATED and energies_comparable(mine, other):
        return (
            f"Energy: not measured, so no saving of it is claimed. It is only estimated from "
            f"processor time ({both}), which says the same as the seconds over again."
        )
    if mine.contended or other.contended:
        return "Energy: others used the same device, so what the runs took of it is not known."
    why = f": {mine.notes[0]}" if mine.notes and mine.quality is EnergyQuality.UNAVAILABLE else ""
    return f"Energy: not known, so nothing is said of it{why}."


def _fewer_joules_text(saving: Saving) -> str:
    lo, hi = saving.fraction
    if lo < 0 < hi:
        return f"between {-lo:.0%} more and {hi:.0%} fewer"
    ends, way = ((lo, hi), "fewer") if hi > 0 else ((-hi, -lo), "more")
    first, last = (f"{end:.0%}" for end in ends)
    return f"{first} {way}" if first == last else f"{first} to {last} {way}"


def _quality_sentences(dense: Snapshot, efficient: Snapshot) -> tuple[str, ...]:
    metric, gain = TASKS.get(dense.config.task).metric, _metric_gain(dense, efficient)
    if gain is None or dense.end is None or efficient.end is None:
        return ("What the runs came to is not known on both sides.",)
    mine, other = (metric_text(metric, look.end.metric) for look in (efficient, dense) if look.end)
    way = "more is better" if metric.higher_is_better else "less is better"
    means = f"{metric.label}, {metric_meaning(metric)}; {way}: {mine} against {other}."
    size, margin = (_difference_text(metric, value) for value in (abs(gain), metric.margin))
    if gain > metric.margin:
        return f"Nothing: the result is even better, by {size}.", means
    if gain >= -metric.margin:
        return f"Nothing that counts: {size} of difference, where up to {margin} are none.", means
    return f"The result is worse by {size}, where up to {margin} would not have counted.", means


def metric_meaning(metric: Metric) -> str:
    """Return what a metric says, in words for whoever has never heard of it."""
    return _METRIC_MEANINGS.get(metric.name, "what the task is judged by")


def _difference_text(metric: Metric, value: float) -> str:
    amount = f"{metric.factor * value:.{metric.digits}f}"
    return f"{amount} {metric.difference_unit}".rstrip()


_CERTAINTY_SENTENCES: Final = (
    "One pair of runs with one seed is an illustration and no verdict: with another seed it may "
    "come out otherwise.",
    "Nor does it say whether simply training for less would have done as well. Comparing over "
    "several seeds answers both.",
)
