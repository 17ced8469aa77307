"""What is said of a race: while it runs, and in the end what was saved and what that cost.

For whoever knows nothing of training. A saving of computation or time is never called one of
energy, and of one pair of runs nothing is made but an illustration.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from effcore.events import Quality, RunStatus, Snapshot
from effcore.impact.ranges import si_text
from effcore.impact.run_savings import savings_against_reference
from effcore.impact.saving import Saving, SavingBasis
from effcore.policies import KINDS
from effcore.summary import metric_text
from effcore.tasks.base import TASKS, Metric
from effcore.tour.bars import comparable, span, spent_by
from effcore.tour.race import Stage


class _Subject(NamedTuple):
    """What a task is about, for sentences: what is done, and what with."""

    doing: str
    things: str


_SUBJECTS: Final = {
    "photo": _Subject("redraw a photograph, pixel by pixel", "pixels"),
    "digits": _Subject("read handwritten digits", "digits"),
    "code": _Subject("guess the next character of program text", "pieces of text"),
    "snippets": _Subject("tell where a piece of program text is from", "pieces of text"),
}
#: What a metric says, by its name.
_MEANS: Final = {
    "psnr": "how close the picture comes to the photograph",
    "accuracy": "the share it gets right",
    "balanced_accuracy": "the share it gets right, every class counting alike",
    "bits_per_byte": "how surprised it is by text it has not seen",
    "r2": "how much of the differences it explains",
}


class Ending(NamedTuple):
    """What is said when both runs are over.

    Attributes:
        saved: Sentences on computation, time and energy.
        cost: Sentences on what it did to the result.
        sure: How far that can be believed.
    """

    saved: tuple[str, ...]
    cost: tuple[str, ...]
    sure: tuple[str, ...]


def subject(task: str) -> _Subject:
    """Return what a task is about."""
    return _SUBJECTS.get(task, _Subject(f"solve a task ({TASKS.get(task).title})", "examples"))


def caption(stage: Stage, dense: Snapshot, efficient: Snapshot) -> str:
    """Return what is said at this moment of a race."""
    match stage:
        case Stage.QUESTION:
            return _question(dense)
        case Stage.DENSE:
            return _usual(dense)
        case Stage.EFFICIENT:
            return _leaving_out(efficient)
        case Stage.RESULT:
            return _headline(dense, efficient)
        case Stage.BROKEN:
            return _broken(dense, efficient)


def _question(dense: Snapshot) -> str:
    doing, things = subject(dense.config.task)
    count = f"all {dense.start.n_train:,} {things}" if dense.start else f"all {things}"
    return (
        f"A computer learns to {doing}, by going over the same {things} again and again. The usual "
        f"way works through {count} every time, even those it has long got right. Is all of that "
        "work needed?"
    )


def _usual(dense: Snapshot) -> str:
    things = subject(dense.config.task).things
    if dense.progress < 0.65:
        return (
            f"First the usual way: all {things}, every time. The grey bars fill with what that "
            "takes. They are what the other way is measured against."
        )
    return (
        f"It works as hard on {things} that it got right long ago as on those it still gets wrong: "
        "the bars fill as fast as in the beginning."
    )


def _leaving_out(efficient: Snapshot) -> str:
    things, config = subject(efficient.config.task).things, efficient.config
    if efficient.progress < 0.5:
        how = KINDS["selection"].get(config.selection).summary
        if config.selection == "confident-skip":
            how = (
                f"{things} it gets right are left out, and looked at again every "
                f"{config.knobs['revisit']} rounds, in case they were forgotten."
            )
        return f"Now the efficient way, from the same start: {how[0].lower()}{how[1:]}"
    words = f"What it does not spend on {things} it knows, it spends on those it does not."
    if config.budget is not None:
        words += f" It stops at {config.budget:.0%} of the computation."
    if (left_out := _left_out(efficient)) is not None:
        words = f"So far {left_out:.0%} of the {things} it came by were left out. {words}"
    return words


def _left_out(look: Snapshot) -> float | None:
    """Return the share of the examples considered that were not trained on."""
    if not look.steps_done:
        return None
    considered, trained = look.column("considered")[-1], look.column("trained")[-1]
    return float(1.0 - trained / considered) if considered else None


def _headline(dense: Snapshot, efficient: Snapshot) -> str:
    found = savings_against_reference(efficient, dense)
    if SavingBasis.FLOPS not in found:
        return "Both runs are over."
    saved = found[SavingBasis.FLOPS].fraction.lo
    less = f"{saved:.0%} less computation" if saved > 0 else "no less computation"
    return f"The efficient way took {less}, and {_outcome(dense, efficient)}."


def _outcome(dense: Snapshot, efficient: Snapshot) -> str:
    gain = _gain(dense, efficient)
    if gain is None:
        return "what it came to is not known"
    margin = TASKS.get(dense.config.task).metric.margin
    if gain > margin:
        return "came out better"
    return "came out as good" if gain >= -margin else "came out worse"


def _gain(dense: Snapshot, efficient: Snapshot) -> float | None:
    """Return by how much the efficient run is better, in the metric's own scale."""
    if dense.end is None or efficient.end is None:
        return None
    mine, other = efficient.end.metric, dense.end.metric
    if mine is None or other is None:
        return None
    return mine - other if TASKS.get(dense.config.task).metric.higher_is_better else other - mine


def _broken(dense: Snapshot, efficient: Snapshot) -> str:
    name, look = ("usual", dense)
    if dense.status is RunStatus.FINISHED:
        name, look = "efficient", efficient
    why = f" {look.reason[0].upper()}{look.reason[1:]}." if look.reason else ""
    what = "failed" if look.status is RunStatus.FAILED else f"was {look.status.value}"
    return f"The {name} run {what}, so there is nothing to compare.{why}"


# The end ----------------------------------------------------------------------------------


def ending(dense: Snapshot, efficient: Snapshot) -> Ending:
    """Return what is said of two finished runs."""
    found = savings_against_reference(efficient, dense)
    saved = (*_computation(found, dense, efficient), *_time(found, dense, efficient))
    return Ending((*saved, _energy(found, dense, efficient)), _cost(dense, efficient), _SURE)


def _less(saving: Saving) -> str:
    share = saving.fraction.lo
    return f"{abs(share):.0%} {'less' if share >= 0 else 'more'}"


def _computation(
    found: dict[SavingBasis, Saving], dense: Snapshot, efficient: Snapshot
) -> tuple[str, ...]:
    if SavingBasis.FLOPS not in found:
        return ()
    mine, other = (si_text(spent_by(look, "flops"), "FLOP") for look in (efficient, dense))
    return (
        f"Computation: {_less(found[SavingBasis.FLOPS])}. {mine} instead of {other}, and choosing "
        "what "
        "to leave out is included.",
    )


def _time(
    found: dict[SavingBasis, Saving], dense: Snapshot, efficient: Snapshot
) -> tuple[str, ...]:
    if SavingBasis.SECONDS not in found:
        return ()
    mine, other = (span(spent_by(look, "seconds")) for look in (efficient, dense))
    return (f"Time: {_less(found[SavingBasis.SECONDS])}. {mine} instead of {other}.",)


def _energy(found: dict[SavingBasis, Saving], dense: Snapshot, efficient: Snapshot) -> str:
    mine, other = efficient.energy, dense.energy
    both = f"{mine.short()} against {other.short()}"
    if (saving := found.get(SavingBasis.JOULES)) is not None and saving.quality is not None:
        words = f"Energy: {_fewer(saving)} joules, {saving.quality.value}. {both}."
        return words if saving.measured else f"{words} {saving.claim}."
    if mine.quality is Quality.ESTIMATED and comparable(mine, other):
        return (
            f"Energy: not measured, so no saving of it is claimed. It is only estimated from "
            f"processor time ({both}), which says the same as the seconds over again."
        )
    if mine.contended or other.contended:
        return "Energy: others used the same device, so what the runs took of it is not known."
    why = f": {mine.notes[0]}" if mine.notes and mine.quality is Quality.UNAVAILABLE else ""
    return f"Energy: not known, so nothing is said of it{why}."


def _fewer(saving: Saving) -> str:
    lo, hi = saving.fraction
    if lo < 0 < hi:
        return f"between {-lo:.0%} more and {hi:.0%} fewer"
    ends, way = ((lo, hi), "fewer") if hi > 0 else ((-hi, -lo), "more")
    first, last = (f"{end:.0%}" for end in ends)
    return f"{first} {way}" if first == last else f"{first} to {last} {way}"


def _cost(dense: Snapshot, efficient: Snapshot) -> tuple[str, ...]:
    metric, gain = TASKS.get(dense.config.task).metric, _gain(dense, efficient)
    if gain is None or dense.end is None or efficient.end is None:
        return ("What the runs came to is not known on both sides.",)
    mine, other = (metric_text(metric, look.end.metric) for look in (efficient, dense) if look.end)
    way = "more is better" if metric.higher_is_better else "less is better"
    means = f"{metric.label}, {means_of(metric)}; {way}: {mine} against {other}."
    size, margin = (_amount(metric, value) for value in (abs(gain), metric.margin))
    if gain > metric.margin:
        return f"Nothing: the result is even better, by {size}.", means
    if gain >= -metric.margin:
        return f"Nothing that counts: {size} of difference, where up to {margin} are none.", means
    return f"The result is worse by {size}, where up to {margin} would not have counted.", means


def means_of(metric: Metric) -> str:
    """Return what a metric says, in words for whoever has never heard of it."""
    return _MEANS.get(metric.name, "what the task is judged by")


def _amount(metric: Metric, value: float) -> str:
    amount = f"{metric.factor * value:.{metric.digits}f}"
    return f"{amount} {metric.difference_unit}".rstrip()


_SURE: Final = (
    "One pair of runs with one seed is an illustration and no verdict: with another seed it may "
    "come out otherwise.",
    "Nor does it say whether simply training for less would have done as well. Comparing over "
    "several seeds answers both.",
)
