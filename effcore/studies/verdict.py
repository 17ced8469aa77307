"""The verdict on a policy: does it match full training, and does it beat same-budget training?

A policy, called an arm here, is compared over paired seeds. It matches full training where it
is not inferior by more than a margin that was fixed beforehand. It beats same-budget training
where its mean is higher. Student's t decides both questions. Where several arms are judged
together, Holm's method adjusts the p-values of each question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

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

#: Names of full training and of same-budget training in stored studies, JSON and tables.
DENSE_FULL, DENSE_MATCHED = "D100", "D-B"
#: One-sided levels: a 95% bound decides on inferiority, a 95% two-sided interval on superiority.
NONINFERIORITY_ALPHA, SUPERIORITY_ALPHA = 0.05, 0.025
#: Fewest paired seeds for a verdict on one arm, and on several arms judged together.
MIN_SEEDS, MIN_SEEDS_SEVERAL_ARMS = 6, 10


class Outcome(StrEnum):
    """The outcome of a verdict; the first that applies, in this order, is taken.

    ``BROKE_DOWN``: a run broke down on a seed where full and same-budget training did not.
    ``TOO_FEW_SEEDS``: fewer paired seeds than a verdict needs.
    ``LOSS``: shown to be worse than full training by more than the margin, or worse than
    same-budget training, and not shown to beat same-budget training.
    ``OVERTRAINED``: same-budget training is shown to match full training.
    ``WIN``: matches full training and beats same-budget training.
    ``TIE``: matches full training, not shown to beat same-budget training.
    ``BETTER_FOR_LESS``: beats same-budget training, not shown to match full training.
    ``INCONCLUSIVE``: neither is shown.
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
    """Paired differences of an arm from a baseline; higher is better.

    Attributes:
        against: Name of the baseline.
        values: Difference of each seed.
        paired: Mean, t interval and bound.
        limit: The mean is tested to lie above this.
        alpha: One-sided level of the test, divided by the number of arms judged together.
        p: p-value that the mean lies above the limit, adjusted by Holm's method.
        p_below: p-value that the mean lies below the limit, likewise.
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
        """Whether the mean is shown to lie below the limit."""
        return self.p_below < SUPERIORITY_ALPHA

    def bca_interval(self) -> tuple[float, float]:
        """Return the bootstrap interval, which is shown but does not decide."""
        return bca_interval(self.values)

    def sign_flip_p_value(self) -> float:
        """Return the two-sided p of the sign-flip test, which is shown but does not decide."""
        return sign_flip_p_value(self.values)

    def pairs_needed(self) -> int | None:
        """Return how many pairs the test needs if mean and scatter stay; ``None``: too many."""
        return pairs_needed(self.values, self.limit, self.alpha)


@dataclass(frozen=True)
class Verdict:
    """The verdict on one arm.

    Attributes:
        arm: Its name.
        outcome: The outcome.
        margin: The difference of no consequence, in the metric's scale.
        against_full: Differences from full training.
        against_matched: Differences from same-budget training.
        noninferior: Whether it matches full training; ``None`` with too few seeds.
        superior: Whether it beats same-budget training; likewise.
        min_seeds: The fewest seeds that a verdict needs.
        shortening: Differences of same-budget from full training.
        overtrained: Whether same-budget training matches full training, so that fewer epochs are
            enough; ``None`` with too few seeds.
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
        """From full training and from same-budget training."""
        return self.against_full, self.against_matched

    def answer(self, difference: ArmDifference) -> bool | None:
        """Return the answer that one of the two differences gives."""
        return self.noninferior if difference is self.against_full else self.superior


def min_seeds_for(arms: int) -> int:
    """Return the fewest paired seeds for a verdict on a number of arms judged together."""
    return MIN_SEEDS if arms <= 1 else MIN_SEEDS_SEVERAL_ARMS


def too_few_seeds_text(arms: int, seeds: int) -> str:
    """Return a warning where the seeds are too few for a verdict; empty where they suffice."""
    least = min_seeds_for(arms)
    if seeds >= least:
        return ""
    what = "A verdict" if arms <= 1 else f"A verdict on {arms} policies"
    return f"{what} needs at least {least} paired seeds; of {seeds} there will be none."


class ArmAndBaselineMetrics(NamedTuple):
    """Final metrics of an arm and of its baselines by seed, in the same order; higher is better."""

    own: Sequence[float]
    full: Sequence[float]
    matched: Sequence[float]


def judge_arms(
    arms: Mapping[str, Sequence[float]],
    full: Sequence[float],
    matched: Sequence[float],
    margin: float,
    planned_arms: int = 1,
) -> list[Verdict]:
    """Judge arms that share their baselines; see :func:`judge_family`.

    Args:
        arms: Values of each arm; higher is better.
        full: Values of full training.
        matched: Values of same-budget training.
        margin: The difference of no consequence, positive.
        planned_arms: As for :func:`judge_family`.

    Raises:
        ValueError: As for :func:`judge_family`.
    """
    family = {name: ArmAndBaselineMetrics(own, full, matched) for name, own in arms.items()}
    return judge_family(family, margin, planned_arms)


def judge_family(
    arms: Mapping[str, ArmAndBaselineMetrics], margin: float, planned_arms: int = 1
) -> list[Verdict]:
    """Judge arms together, each against its own baselines.

    Args:
        arms: Values of each arm and of its baselines.
        margin: The difference of no consequence, positive.
        planned_arms: How many arms the study planned. Arms that broke down are not among
            ``arms`` but count for Holm's method, so that the correction does not depend on
            results.

    Raises:
        ValueError: Fewer than two seeds, different numbers of them, a value that is not finite,
            or a margin that is not positive.
    """
    if not margin > 0:
        raise ValueError(f"margin={margin!r} is not allowed: it must be above 0")
    for name, values in arms.items():
        for own_name, each in zip((name, DENSE_FULL, DENSE_MATCHED), values, strict=True):
            if not np.isfinite(each).all():
                raise ValueError(
                    f"{own_name}={list(each)} is not allowed: leave out seeds on which an arm has "
                    "no finite value, in all arms alike"
                )
    if not arms:
        return []
    count = max(planned_arms, len(arms))
    against_full = _differences(
        DENSE_FULL, [(v.own, v.full) for v in arms.values()], -margin, NONINFERIORITY_ALPHA, count
    )
    against_matched = _differences(
        DENSE_MATCHED, [(v.own, v.matched) for v in arms.values()], 0.0, SUPERIORITY_ALPHA, count
    )
    shortening = [
        _differences(DENSE_FULL, [(v.matched, v.full)], -margin, NONINFERIORITY_ALPHA, 1)[0]
        for v in arms.values()
    ]
    least = min_seeds_for(count)
    return [
        _arm_verdict(arm, margin, full, matched, shorter, least)
        for arm, full, matched, shorter in zip(
            arms, against_full, against_matched, shortening, strict=True
        )
    ]


@dataclass(frozen=True)
class PairAnswer:
    """Two variants compared by themselves, without a correction for other comparisons.

    Attributes:
        paired: Mean difference of the first from the second, with its interval and bound.
        noninferior: Whether the first is not inferior by the margin; ``None`` with too few seeds.
        better: Whether the first is better; likewise.
    """

    paired: PairedDifference
    noninferior: bool | None
    better: bool | None


def compare_pair(
    first: Sequence[float], second: Sequence[float], margin: float, min_seeds: int = MIN_SEEDS
) -> PairAnswer:
    """Compare two variants over paired seeds; higher is better.

    Args:
        first: Values of the first by seed.
        second: Values of the second.
        margin: The difference of no consequence, positive.
        min_seeds: Fewer seeds than this answer nothing.

    Raises:
        ValueError: Fewer than two pairs.
    """
    paired = paired_difference(first, second)
    if paired.n < min_seeds:
        return PairAnswer(paired, None, None)
    values = np.subtract(first, second).tolist()
    return PairAnswer(
        paired,
        noninferior=p_value_above(values, -margin) < NONINFERIORITY_ALPHA,
        better=p_value_above(values, 0.0) < SUPERIORITY_ALPHA,
    )


def _differences(
    against: str,
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]],
    limit: float,
    alpha: float,
    family: int,
) -> list[ArmDifference]:
    """Test for each pair whether the first lies above the second by more than ``limit``."""
    values = [tuple(np.subtract(own, other).tolist()) for own, other in pairs]
    above = holm_adjusted([p_value_above(each, limit) for each in values], family)
    below = holm_adjusted(
        [p_value_above([-value for value in each], -limit) for each in values], family
    )
    first = alpha / family  # Holm's method tests the smallest p at this level
    return [
        ArmDifference(against, each, paired_difference(own, other), limit, first, *p)
        for each, (own, other), *p in zip(values, pairs, above, below, strict=True)
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
    if overtrained:  # fewer epochs are enough, whatever else is shown
        return Outcome.OVERTRAINED
    if noninferior:
        return Outcome.WIN if superior else Outcome.TIE
    return Outcome.BETTER_FOR_LESS if superior else Outcome.INCONCLUSIVE


_OUTCOME_SENTENCES = {
    Outcome.WIN: "Win. It matches full training and beats normal training on the same budget.",
    Outcome.TIE: "Tie. It matches full training, but is not shown to beat normal training on the "
    "same budget, which may do as well.",
    Outcome.BETTER_FOR_LESS: "Better for less. It beats normal training on the same budget, but is "
    "not shown to match full training.",
    Outcome.OVERTRAINED: "Easy task: normal training on the smaller budget already matches full "
    "training. Train for fewer epochs.",
    Outcome.INCONCLUSIVE: "Inconclusive. These runs do not show that it matches full training, nor "
    "that it beats normal training on the same budget.",
    Outcome.TOO_FEW_SEEDS: "Too few seeds for a verdict.",
    Outcome.BROKE_DOWN: "It broke down.",
}


def verdict_text(verdict: Verdict, write: Callable[[float], str], unit: str = "") -> str:
    """Return the verdict in plain words with its evidence.

    Args:
        verdict: The verdict.
        write: Writes a difference in the metric's scale as a number with its sign.
        unit: Unit of the numbers that are so written.
    """
    return f"{outcome_sentence(verdict)} {evidence_text(verdict, write, unit)}"


def evidence_text(verdict: Verdict, write: Callable[[float], str], unit: str = "") -> str:
    """Return the numbers behind a verdict, and how many seeds should settle an open one."""
    sentences = []
    for difference, name in (
        (verdict.against_full, "full training"),
        (verdict.against_matched, "same-budget training"),
    ):
        paired = difference.paired
        sentences.append(
            f"Against {name}: {f'{write(paired.mean)} {unit}'.rstrip()} "
            f"({write(paired.lo)} to {write(paired.hi)})."
        )
    if verdict.outcome is Outcome.TOO_FEW_SEEDS:
        sentences.append(f"It needs at least {verdict.min_seeds} seeds.")
    elif verdict.outcome is Outcome.INCONCLUSIVE or (
        verdict.outcome is Outcome.BETTER_FOR_LESS and not verdict.against_full.is_worse
    ):
        sentences.append(_seeds_needed_sentence(verdict))
    return " ".join(sentences)


def outcome_sentence(verdict: Verdict) -> str:
    """Return the outcome in a sentence, which names every baseline that it is worse than."""
    worse = []
    if verdict.against_full.is_worse:
        worse.append("worse than full training by more than the margin")
    if verdict.against_matched.is_worse:
        worse.append("worse than normal training on the same budget")
    if verdict.outcome is Outcome.LOSS:
        return f"Loss. It is {' and '.join(worse)}."
    if verdict.outcome is Outcome.BETTER_FOR_LESS and worse:
        return f"Better for less. It beats normal training on the same budget, but is {worse[0]}."
    return _OUTCOME_SENTENCES[verdict.outcome]


def _seeds_needed_sentence(verdict: Verdict) -> str:
    needed = verdict.against_full.pairs_needed()
    if needed is None:
        return "More seeds are not expected to show that it matches full training."
    return f"About {max(needed, verdict.min_seeds)} seeds should settle it."
