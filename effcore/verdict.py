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

from effcore.stats import (
    Paired,
    bca_interval,
    holm,
    p_above,
    paired,
    pairs_needed,
    sign_flip_p,
)

#: One-sided levels: a 95% bound decides on inferiority, a 95% two-sided interval on superiority.
NONINFERIOR_ALPHA, SUPERIOR_ALPHA = 0.05, 0.025
#: Fewer pairs decide nothing; with several arms at once it takes more.
LEAST_SEEDS, LEAST_SEEDS_SEVERAL = 6, 10


class Kind(StrEnum):
    """What a verdict comes to.

    ``WIN``: as good as full training, and better than the same compute spent densely.
    ``TIE``: as good as full training, no better than the same compute spent densely.
    ``BETTER_FOR_LESS``: better than the same compute spent densely, short of full training.
    ``LOSS``: shown to be worse than full training by more than the margin, or worse than the
    same compute spent densely.
    ``OVERTRAINED``: the same compute spent densely is as good as full training by itself.
    ``INCONCLUSIVE``: nothing of it is shown.
    ``TOO_FEW``: too few seeds to say anything.
    ``BROKE``: a run of it broke down where dense training did not; nothing else counts then.
    """

    WIN = "win"
    TIE = "tie"
    BETTER_FOR_LESS = "better for less"
    LOSS = "loss"
    OVERTRAINED = "over-trained"
    INCONCLUSIVE = "inconclusive"
    TOO_FEW = "too few seeds"
    BROKE = "broke down"


@dataclass(frozen=True)
class Difference:
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
    paired: Paired
    limit: float
    alpha: float
    p: float
    p_below: float

    @property
    def worse(self) -> bool:
        """Whether it is shown to lie below what it was asked to lie above."""
        return self.p_below < SUPERIOR_ALPHA

    def bca(self) -> tuple[float, float]:
        """Return the bootstrap interval, to be shown beside."""
        return bca_interval(self.values)

    def sign_flip(self) -> float:
        """Return the two-sided p of the sign-flip test, to be shown beside."""
        return sign_flip_p(self.values)

    def needed(self) -> int | None:
        """Return how many pairs would settle it, were it as it seems; ``None``: none would."""
        return pairs_needed(self.values, self.limit, self.alpha)


@dataclass(frozen=True)
class Verdict:
    """What is shown of one arm.

    Attributes:
        arm: Its name.
        kind: What it comes to.
        margin: The difference of no consequence, in the metric's scale.
        full: Against D100.
        matched: Against D-B.
        noninferior: Whether not inferior to D100; ``None`` where the seeds are too few.
        superior: Whether better than D-B; likewise.
        least: Seeds without which nothing is decided.
    """

    arm: str
    kind: Kind
    margin: float
    full: Difference
    matched: Difference
    noninferior: bool | None
    superior: bool | None
    least: int


def least_seeds(arms: int) -> int:
    """Return the fewest paired seeds that decide anything of so many arms."""
    return LEAST_SEEDS if arms <= 1 else LEAST_SEEDS_SEVERAL


def too_few_words(arms: int, seeds: int) -> str:
    """Return what is to be said beforehand of seeds that decide nothing; else nothing."""
    least = least_seeds(arms)
    if seeds >= least:
        return ""
    what = "A verdict" if arms <= 1 else f"A verdict on {arms} policies"
    return f"{what} needs at least {least} paired seeds; of {seeds} there will be none."


def verdicts(
    arms: Mapping[str, Sequence[float]],
    full: Sequence[float],
    matched: Sequence[float],
    margin: float,
    planned: int = 1,
) -> list[Verdict]:
    """Judge arms, all of the same seeds in the same order.

    Args:
        arms: Values by arm, the better the higher.
        full: Values of full dense training.
        matched: Values of dense training of the same compute.
        margin: The difference of no consequence, positive.
        planned: How many arms were to be judged, where some broke down and are not there: what
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
    family = max(planned, len(arms))
    against_full = _asked(arms, "D100", full, -margin, NONINFERIOR_ALPHA, family)
    against_matched = _asked(arms, "D-B", matched, 0.0, SUPERIOR_ALPHA, family)
    shorter = p_above(np.subtract(matched, full).tolist(), -margin) < NONINFERIOR_ALPHA
    least = least_seeds(family)
    return [
        _judged(arm, margin, one, two, shorter, least)
        for arm, one, two in zip(arms, against_full, against_matched, strict=True)
    ]


def _asked(
    arms: Mapping[str, Sequence[float]],
    against: str,
    other: Sequence[float],
    limit: float,
    alpha: float,
    family: int,
) -> list[Difference]:
    """Ask of each arm whether it lies above another by more than ``limit``."""
    values = [tuple(np.subtract(own, other).tolist()) for own in arms.values()]
    above = holm([p_above(each, limit) for each in values], family)
    below = holm([p_above([-value for value in each], -limit) for each in values], family)
    first = alpha / family  # what Holm's method asks of the strongest of several
    return [
        Difference(against, each, paired(own, other), limit, first, *p)
        for each, own, *p in zip(values, arms.values(), above, below, strict=True)
    ]


def _judged(
    arm: str,
    margin: float,
    full: Difference,
    matched: Difference,
    shorter: bool,
    least: int,
) -> Verdict:
    if full.paired.n < least:
        return Verdict(arm, Kind.TOO_FEW, margin, full, matched, None, None, least)
    noninferior, superior = full.p < NONINFERIOR_ALPHA, matched.p < SUPERIOR_ALPHA
    kind = _kind(noninferior, superior, shorter, full.worse or matched.worse)
    return Verdict(arm, kind, margin, full, matched, noninferior, superior, least)


def _kind(noninferior: bool, superior: bool, shorter: bool, worse: bool) -> Kind:
    if worse and not superior:
        return Kind.LOSS
    if shorter:  # whatever else is shown, shortening is all it takes
        return Kind.OVERTRAINED
    if noninferior:
        return Kind.WIN if superior else Kind.TIE
    return Kind.BETTER_FOR_LESS if superior else Kind.INCONCLUSIVE


_SENTENCES = {
    Kind.WIN: "As good as full training, and better than the same compute spent densely.",
    Kind.TIE: "As good as full training, but not shown to be better than the same compute spent "
    "densely: training for less may do as well.",
    Kind.BETTER_FOR_LESS: "Better than the same compute spent densely, but not shown to be as good "
    "as full training.",
    Kind.OVERTRAINED: "Over-trained: the same compute spent densely is as good as full training, "
    "so training for less is all it takes here.",
    Kind.INCONCLUSIVE: "Inconclusive: neither as good as full training nor better than the same "
    "compute spent densely is shown.",
    Kind.TOO_FEW: "Too few seeds to say.",
    Kind.BROKE: "Broke down.",
}


def sentence(verdict: Verdict, write: Callable[[float], str], unit: str = "") -> str:
    """Return the verdict in plain words with its evidence.

    Args:
        verdict: What was shown.
        write: Writes a difference in the metric's scale as a number with its sign.
        unit: Of the numbers so written.
    """
    words = [_lost(verdict) if verdict.kind is Kind.LOSS else _SENTENCES[verdict.kind]]
    for told, name in ((verdict.full, "full training"), (verdict.matched, "the same compute")):
        each = told.paired
        words.append(
            f"Against {name}: {f'{write(each.mean)} {unit}'.rstrip()} "
            f"({write(each.lo)} to {write(each.hi)})."
        )
    if verdict.kind is Kind.TOO_FEW:
        words.append(f"At least {verdict.least} are needed.")
    elif verdict.kind in (Kind.INCONCLUSIVE, Kind.BETTER_FOR_LESS):
        words.append(_how_many(verdict))
    return " ".join(words)


def _lost(verdict: Verdict) -> str:
    """Return against what it lost."""
    lost = []
    if verdict.full.worse:
        lost.append("loses more than the margin against full training")
    if verdict.matched.worse:
        lost.append("loses to the same compute spent densely")
    return f"Worse: it {' and '.join(lost)}."


def _how_many(verdict: Verdict) -> str:
    """Return how many seeds would show that nothing is lost, were it as it seems."""
    needed = verdict.full.needed()
    if needed is None:
        return "As it looks now, more seeds would not show it to be as good as full training."
    count = max(needed, verdict.least)
    return f"As it looks now, about {count} seeds would show it to be as good as full training."
