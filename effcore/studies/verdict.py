"""The verdict: is it as good as full training, and better than simply training for less?

Two questions are asked of an arm, each over paired seeds: whether it is not inferior to
full dense training (D100) by more than a margin fixed beforehand, and whether it is better
than dense training of the same compute (D-B). Student's t decides both; with several arms
their p-values are adjusted by Holm's method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from effcore.studies.statistics import (
    PairedDifference,
    bca_interval,
    holm_adjusted,
    p_value_above,
    paired_difference,
    pairs_needed,
    sign_flip_p_value,
)

#: One-sided levels: a 95% bound decides on inferiority, a 95% two-sided interval on superiority.
NONINFERIORITY_ALPHA, SUPERIORITY_ALPHA = 0.05, 0.025
#: Fewer pairs decide nothing; with several arms at once it takes more.
MIN_SEEDS, MIN_SEEDS_SEVERAL_ARMS = 6, 10


class Outcome(StrEnum):
    """What a verdict comes to.

    ``WIN``: as good as full training, and better than the same compute spent densely.
    ``TIE``: as good as full training, no better than the same compute spent densely.
    ``BETTER_FOR_LESS``: better than the same compute spent densely, short of full training.
    ``LOSS``: shown to be worse than full training by more than the margin, or worse than the
    same compute spent densely.
    ``OVERTRAINED``: the same compute spent densely is as good as full training by itself.
    ``INCONCLUSIVE``: nothing of it is shown.
    ``TOO_FEW_SEEDS``: too few seeds to say anything.
    ``BROKE_DOWN``: a run of it broke down where dense training did not; nothing else counts then.
    """

    WIN = "win"
    TIE = "tie"
    BETTER_FOR_LESS = "better for less"
    LOSS = "loss"
    OVERTRAINED = "over-trained"
    INCONCLUSIVE = "inconclusive"
    TOO_FEW_SEEDS = "too few seeds"
    BROKE_DOWN = "broke down"


@dataclass(frozen=True)
class ArmDifference:
    """An arm against another, the better the higher.

    Attributes:
        against: Name of the other arm.
        values: By seed.
        paired: Mean, t interval and bound.
        limit: What it was asked to lie above.
        alpha: At which one-sided level, the number of arms allowed for.
        p: The answer, adjusted where several arms are asked.
        p_below: The same of the opposite, that it lies below.
    """

    against: str
    values: tuple[float, ...]
    paired: PairedDifference
    limit: float
    alpha: float
    p: float
    p_below: float

    @property
    def is_worse(self) -> bool:
        """Whether it is shown to lie below what it was asked to lie above."""
        return self.p_below < SUPERIORITY_ALPHA

    def bca_interval(self) -> tuple[float, float]:
        """Return the bootstrap interval, to be shown beside."""
        return bca_interval(self.values)

    def sign_flip_p_value(self) -> float:
        """Return the two-sided p of the sign-flip test, to be shown beside."""
        return sign_flip_p_value(self.values)

    def pairs_needed(self) -> int | None:
        """Return how many pairs would settle it, were it as it seems; ``None``: none would."""
        return pairs_needed(self.values, self.limit, self.alpha)


@dataclass(frozen=True)
class Verdict:
    """What is shown of one arm.

    Attributes:
        arm: Its name.
        outcome: What it comes to.
        margin: The difference of no consequence, in the metric's scale.
        against_full: Against D100.
        against_matched: Against D-B.
        noninferior: Whether not inferior to D100; ``None`` where the seeds are too few.
        superior: Whether better than D-B; likewise.
        min_seeds: Seeds without which nothing is decided.
        shortening: D-B against D100.
        overtrained: Whether D-B is shown to be not inferior to D100, so that training for less is
            all it takes; ``None`` where the seeds are too few.
    """

    arm: str
    outcome: Outcome
    margin: float
    against_full: ArmDifference
    against_matched: ArmDifference
    noninferior: bool | None
    superior: bool | None
    min_seeds: int
    shortening: ArmDifference
    overtrained: bool | None

    @property
    def differences(self) -> tuple[ArmDifference, ArmDifference]:
        """Against D100 and against D-B."""
        return self.against_full, self.against_matched

    def answer(self, difference: ArmDifference) -> bool | None:
        """Return whether what was asked of one of the two differences is shown."""
        return self.noninferior if difference is self.against_full else self.superior


def min_seeds_for(arms: int) -> int:
    """Return the fewest paired seeds that decide anything of so many arms."""
    return MIN_SEEDS if arms <= 1 else MIN_SEEDS_SEVERAL_ARMS


def too_few_seeds_text(arms: int, seeds: int) -> str:
    """Return what is to be said beforehand of seeds that decide nothing; else nothing."""
    least = min_seeds_for(arms)
    if seeds >= least:
        return ""
    what = "A verdict" if arms <= 1 else f"A verdict on {arms} policies"
    return f"{what} needs at least {least} paired seeds; of {seeds} there will be none."


def judge_arms(
    arms: Mapping[str, Sequence[float]],
    full: Sequence[float],
    matched: Sequence[float],
    margin: float,
    planned_arms: int = 1,
) -> list[Verdict]:
    """Judge arms, all of the same seeds in the same order.

    Args:
        arms: Values by arm, the better the higher.
        full: Values of full dense training.
        matched: Values of dense training of the same compute.
        margin: The difference of no consequence, positive.
        planned_arms: How many arms were to be judged, where some broke down and are not there: what
            is asked of the others was fixed beforehand, and does not hang on results.

    Raises:
        ValueError: Fewer than two seeds, different numbers of them, a value that is not finite,
            or a margin that is not positive.
    """
    if not margin > 0:
        raise ValueError(f"margin={margin!r} is not allowed: it must be above 0")
    for name, values in {"D100": full, "D-B": matched, **arms}.items():
        if not np.isfinite(values).all():
            raise ValueError(
                f"{name}={list(values)} is not allowed: leave out seeds on which an arm has no "
                "finite value, in all arms alike"
            )
    family = max(planned_arms, len(arms))
    against_full = _differences_against(arms, "D100", full, -margin, NONINFERIORITY_ALPHA, family)
    against_matched = _differences_against(arms, "D-B", matched, 0.0, SUPERIORITY_ALPHA, family)
    shortening = judge_difference("D100", matched, full, -margin, NONINFERIORITY_ALPHA)
    least = min_seeds_for(family)
    return [
        _arm_verdict(arm, margin, one, two, shortening, least)
        for arm, one, two in zip(arms, against_full, against_matched, strict=True)
    ]


def judge_difference(
    against: str, own: Sequence[float], other: Sequence[float], limit: float, alpha: float
) -> ArmDifference:
    """Ask one question of one arm: whether it lies above another by more than ``limit``.

    Args:
        against: Name of the other arm.
        own: Values of the arm by seed, the better the higher.
        other: Values of the other.
        limit: What the mean difference is asked to lie above.
        alpha: One-sided level.

    Raises:
        ValueError: Fewer than two pairs.
    """
    return _differences_against({"": own}, against, other, limit, alpha, 1)[0]


def _differences_against(
    arms: Mapping[str, Sequence[float]],
    against: str,
    other: Sequence[float],
    limit: float,
    alpha: float,
    family: int,
) -> list[ArmDifference]:
    """Ask of each arm whether it lies above another by more than ``limit``."""
    values = [tuple(np.subtract(own, other).tolist()) for own in arms.values()]
    above = holm_adjusted([p_value_above(each, limit) for each in values], family)
    below = holm_adjusted(
        [p_value_above([-value for value in each], -limit) for each in values], family
    )
    first = alpha / family  # what Holm's method asks of the strongest of several
    return [
        ArmDifference(against, each, paired_difference(own, other), limit, first, *p)
        for each, own, *p in zip(values, arms.values(), above, below, strict=True)
    ]


def _arm_verdict(
    arm: str,
    margin: float,
    full: ArmDifference,
    matched: ArmDifference,
    shortening: ArmDifference,
    least: int,
) -> Verdict:
    noninferior: bool | None = None
    superior: bool | None = None
    overtrained: bool | None = None
    kind = Outcome.TOO_FEW_SEEDS
    if full.paired.n >= least:
        noninferior, superior = full.p < NONINFERIORITY_ALPHA, matched.p < SUPERIORITY_ALPHA
        overtrained = shortening.p < NONINFERIORITY_ALPHA
        kind = _outcome_of(noninferior, superior, overtrained, full.is_worse or matched.is_worse)
    return Verdict(
        arm, kind, margin, full, matched, noninferior, superior, least, shortening, overtrained
    )


def _outcome_of(noninferior: bool, superior: bool, overtrained: bool, worse: bool) -> Outcome:
    if worse and not superior:
        return Outcome.LOSS
    if overtrained:  # whatever else is shown, shortening is all it takes
        return Outcome.OVERTRAINED
    if noninferior:
        return Outcome.WIN if superior else Outcome.TIE
    return Outcome.BETTER_FOR_LESS if superior else Outcome.INCONCLUSIVE


_OUTCOME_SENTENCES = {
    Outcome.WIN: "As good as full training, and better than the same compute spent densely.",
    Outcome.TIE: "As good as full training, but not shown to be better than the same compute spent "
    "densely: training for less may do as well.",
    Outcome.BETTER_FOR_LESS: "Better than the same compute spent densely, but not shown to be as "
    "good as full training.",
    Outcome.OVERTRAINED: "Over-trained: the same compute spent densely is as good as full "
    "training, so training for less is all it takes here.",
    Outcome.INCONCLUSIVE: "Inconclusive: neither as good as full training nor better than the same "
    "compute spent densely is shown.",
    Outcome.TOO_FEW_SEEDS: "Too few seeds to say.",
    Outcome.BROKE_DOWN: "Broke down.",
}


def verdict_text(verdict: Verdict, write: Callable[[float], str], unit: str = "") -> str:
    """Return the verdict in plain words with its evidence.

    Args:
        verdict: What was shown.
        write: Writes a difference in the metric's scale as a number with its sign.
        unit: Of the numbers so written.
    """
    return f"{outcome_sentence(verdict)} {evidence_text(verdict, write, unit)}"


def evidence_text(verdict: Verdict, write: Callable[[float], str], unit: str = "") -> str:
    """Return the numbers behind a verdict, and how many seeds would show more."""
    words = []
    for told, name in (
        (verdict.against_full, "full training"),
        (verdict.against_matched, "the same compute"),
    ):
        each = told.paired
        words.append(
            f"Against {name}: {f'{write(each.mean)} {unit}'.rstrip()} "
            f"({write(each.lo)} to {write(each.hi)})."
        )
    if verdict.outcome is Outcome.TOO_FEW_SEEDS:
        words.append(f"At least {verdict.min_seeds} are needed.")
    elif verdict.outcome is Outcome.INCONCLUSIVE or (
        verdict.outcome is Outcome.BETTER_FOR_LESS and not verdict.against_full.is_worse
    ):
        words.append(_seeds_needed_sentence(verdict))
    return " ".join(words)


def outcome_sentence(verdict: Verdict) -> str:
    """Return what was shown, and against which baseline it is worse where that was shown."""
    lost = []
    if verdict.against_full.is_worse:
        lost.append("loses more than the margin against full training")
    if verdict.against_matched.is_worse:
        lost.append("loses to the same compute spent densely")
    if verdict.outcome is Outcome.LOSS:
        return f"Worse: it {' and '.join(lost)}."
    if verdict.outcome is Outcome.BETTER_FOR_LESS and lost:
        return f"Better than the same compute spent densely, but worse: it {' and '.join(lost)}."
    return _OUTCOME_SENTENCES[verdict.outcome]


def _seeds_needed_sentence(verdict: Verdict) -> str:
    """Return how many seeds would show that nothing is lost, were it as it seems."""
    needed = verdict.against_full.pairs_needed()
    if needed is None:
        return "As it looks now, more seeds would not show it to be as good as full training."
    count = max(needed, verdict.min_seeds)
    return f"As it looks now, about {count} seeds would show it to be as good as full training."
