"""The verdict: each one for a planted truth, and wrong no more often than it may be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from effcore.studies.statistics import (
    bca_interval,
    holm_adjusted,
    p_value_above,
    pairs_needed,
    sign_flip_p_value,
)
from effcore.studies.verdict import (
    MIN_SEEDS,
    MIN_SEEDS_SEVERAL_ARMS,
    Outcome,
    Verdict,
    judge_arms,
    too_few_seeds_text,
    verdict_text,
)

MARGIN = 0.5
#: How much the result of a run depends on its seed, and how much of that arms share.
SHARED, OWN = 0.5, 0.1


def study(
    policy: float, dense: float, seeds: int, rng: np.random.Generator, own: float = OWN
) -> Verdict:
    """Return the verdict over learners whose true metrics are known.

    Args:
        policy: True difference of the policy to full training.
        dense: True difference of the same compute spent densely.
        seeds: Paired seeds.
        rng: Noise.
        own: Noise of each arm.
    """
    shared = rng.normal(95, SHARED, seeds)
    full, matched, arm = (shared + d + rng.normal(0, own, seeds) for d in (0.0, dense, policy))
    return judge_arms({"mine": arm.tolist()}, full.tolist(), matched.tolist(), MARGIN)[0]


@pytest.mark.parametrize(
    ("policy", "dense", "kind"),
    [
        (0.0, -2.0, Outcome.WIN),
        (0.4, -2.0, Outcome.WIN),
        (0.0, 0.0, Outcome.OVERTRAINED),
        (0.5, 0.0, Outcome.OVERTRAINED),
        (-1.5, -3.0, Outcome.BETTER_FOR_LESS),
        (-3.0, -2.0, Outcome.LOSS),
        (-2.0, -2.0, Outcome.LOSS),
    ],
)
def test_a_planted_truth_is_the_verdict(policy: float, dense: float, kind: Outcome) -> None:
    rng = np.random.default_rng(0)
    given = [study(policy, dense, 6, rng).outcome for _ in range(40)]
    assert given.count(kind) >= 38, given


def test_as_good_and_no_better_than_less_is_a_tie() -> None:
    # Less dense compute loses just over half the margin: as good as that is as good as full.
    rng = np.random.default_rng(1)
    given = [study(-0.1, -0.42, 6, rng, own=0.2).outcome for _ in range(60)]
    assert given.count(Outcome.TIE) >= 5
    assert not {Outcome.LOSS, Outcome.BETTER_FOR_LESS} & set(given)


def test_a_truth_lost_in_noise_is_inconclusive_and_says_how_many_seeds_it_takes() -> None:
    rng = np.random.default_rng(2)
    given = [study(-0.2, -0.6, 6, rng, own=1.0) for _ in range(60)]
    open_ = [each for each in given if each.outcome is Outcome.INCONCLUSIVE]
    assert len(open_) > 30
    says = [verdict_text(each, "{:+.2f}".format) for each in open_]
    assert any("seeds should settle it" in words for words in says)
    assert any("More seeds are not expected to show" in words for words in says)


def test_a_loss_says_against_what() -> None:
    rng = np.random.default_rng(9)
    for policy, dense, words in (
        (
            -3.0,
            -2.0,
            "full training by more than the margin and worse than normal training on the same",
        ),
        (-2.0, -2.0, "Loss. It is worse than full training by more than the margin. Against"),
        (0.0, 1.5, "Loss. It is worse than normal training on the same budget. Against"),
    ):
        told = study(policy, dense, 6, rng)
        assert told.outcome is Outcome.LOSS
        assert words in verdict_text(told, "{:+.2f}".format)


def test_better_for_less_but_worse_than_full_training_says_worse() -> None:
    rng = np.random.default_rng(10)
    told = study(-1.5, -3.0, 6, rng)
    assert (told.outcome, told.against_full.is_worse) == (Outcome.BETTER_FOR_LESS, True)
    words = verdict_text(told, "{:+.2f}".format)
    assert words.startswith(
        "Better for less. It beats normal training on the same budget, but is worse than full "
        "training by more than the margin. Against"
    )
    assert "not shown to match" not in words
    assert "seeds" not in words


def test_students_t_is_that_of_scipy() -> None:
    rng = np.random.default_rng(11)
    for n in range(2, 40):
        values = rng.normal(rng.normal(), 1, n)
        expected = stats.ttest_1samp(values, -0.3, alternative="greater").pvalue
        assert p_value_above(values.tolist(), -0.3) == pytest.approx(expected, rel=1e-12)


def test_too_few_seeds_say_so_and_how_many_would_do() -> None:
    rng = np.random.default_rng(3)
    told = study(0.0, -2.0, MIN_SEEDS - 1, rng)
    assert told.outcome is Outcome.TOO_FEW_SEEDS
    assert told.noninferior is told.superior is None
    assert f"It needs at least {MIN_SEEDS} seeds." in verdict_text(told, "{:+.2f}".format)


def test_several_arms_need_more_seeds_and_stronger_evidence() -> None:
    rng = np.random.default_rng(4)
    full = rng.normal(95, 1, MIN_SEEDS_SEVERAL_ARMS)
    matched = full - 1 + rng.normal(0, 0.3, len(full))
    arms = {str(k): (full - 0.25 + rng.normal(0, 0.3, len(full))).tolist() for k in range(5)}
    alone = [
        judge_arms({name: values}, full.tolist(), matched.tolist(), MARGIN)[0]
        for name, values in arms.items()
    ]
    together = judge_arms(arms, full.tolist(), matched.tolist(), MARGIN)
    assert [each.arm for each in together] == list(arms)
    for one, among in zip(alone, together, strict=True):
        assert among.against_full.p >= one.against_full.p
        assert among.against_full.paired == one.against_full.paired
    assert (
        sum(t.against_full.p > o.against_full.p for o, t in zip(alone, together, strict=True)) >= 4
    )
    assert too_few_seeds_text(5, MIN_SEEDS_SEVERAL_ARMS) == too_few_seeds_text(1, MIN_SEEDS) == ""
    assert too_few_seeds_text(5, 8).startswith("A verdict on 5 policies needs at least 10")
    few = judge_arms(
        {name: values[:8] for name, values in arms.items()},
        full[:8].tolist(), matched[:8].tolist(), MARGIN,
    )  # fmt: skip
    assert {each.outcome for each in few} == {Outcome.TOO_FEW_SEEDS}
    left = {name: arms[name] for name in ("0", "1")}
    others = judge_arms(left, full.tolist(), matched.tolist(), MARGIN, planned_arms=5)
    for one, among in zip(alone, others, strict=False):
        assert among.against_full.p >= min(1.0, 4 * one.against_full.p), (
            "who broke down was asked, too"
        )
        assert among.min_seeds == MIN_SEEDS_SEVERAL_ARMS


@pytest.mark.parametrize(
    ("policy", "dense", "kind"),
    [(0.0, -1.0, Outcome.WIN), (0.0, 0.0, Outcome.OVERTRAINED), (-1.0, -1.0, Outcome.LOSS),
     (-1.0, -0.75, Outcome.LOSS), (-0.5, -1.0, Outcome.BETTER_FOR_LESS),
     (-0.5, -0.5, Outcome.INCONCLUSIVE)],
)  # fmt: skip
def test_differences_that_are_all_equal_have_a_verdict(
    policy: float, dense: float, kind: Outcome
) -> None:
    full = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    arm, matched = [v + policy for v in full], [v + dense for v in full]
    told = judge_arms({"mine": arm}, full, matched, MARGIN)[0]
    assert told.outcome is kind
    assert math.isfinite(told.against_full.p)
    assert told.against_full.bca_interval() == pytest.approx((policy, policy))
    assert 0 <= told.against_full.sign_flip_p_value() <= 1


def test_the_t_bound_decides() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        told = study(-0.4, -0.6, 8, rng, own=0.15)
        assert told.noninferior is (told.against_full.paired.bound > -MARGIN)
        assert told.superior is (told.against_matched.paired.lo > 0)


def test_a_margin_must_be_one() -> None:
    with pytest.raises(ValueError, match="margin=0 is not allowed"):
        judge_arms({"mine": [1.0, 2.0]}, [1.0, 2.0], [1.0, 2.0], 0)


def test_a_value_that_is_none_is_refused() -> None:
    whole, lost = [1.0, 2.0], [1.0, math.nan]
    for mine, full, matched in ((lost, whole, whole), (whole, lost, whole), (whole, whole, lost)):
        with pytest.raises(ValueError, match=r"nan\] is not allowed: leave out seeds"):
            judge_arms({"mine": mine}, full, matched, MARGIN)


# Statistics ------------------------------------------------------------------------------


def test_holm_is_as_in_the_worked_example() -> None:
    # Holm 1979: times 4, 3, 2, 1 in order of size, never falling.
    assert holm_adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_adjusted([0.5]) == [0.5]
    assert holm_adjusted([0.9, 0.8]) == [1.0, 1.0]
    assert holm_adjusted([0.04, 0.005], questions=4) == pytest.approx([0.12, 0.02])


def test_sign_flips_are_all_counted() -> None:
    # Of 2^5 flips only the given one and its mirror are as far from zero.
    assert sign_flip_p_value([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 32)
    assert sign_flip_p_value([0.0, 0.0, 0.0]) == 1.0


def test_the_bootstrap_interval_holds_the_mean() -> None:
    values = np.random.default_rng(0).normal(1, 1, 30).tolist()
    lo, hi = bca_interval(values)
    assert lo < np.mean(values) < hi
    assert bca_interval(values) == (lo, hi)
    assert bca_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)


def test_equal_differences_leave_nothing_to_chance() -> None:
    assert p_value_above([0.2, 0.2], 0.1) == 0.0
    assert p_value_above([0.1, 0.1], 0.1) == 1.0
    alike = [0.3 - 0.2, 0.2 - 0.1, 0.1]
    assert len(set(alike)) > 1, "equal but for rounding"
    assert p_value_above(alike, 0.0) == 0.0
    assert p_value_above([0.8 - 0.9] * 6, -0.1) == 1.0, "at the margin, whatever the rounding"
    single = [float(np.float32(k / 45) - np.float32((k - 1) / 45)) for k in range(20, 44)]
    assert len(set(single)) > 1, "metrics are of single precision"
    assert p_value_above(single, 1 / 45) == 1.0
    assert pairs_needed(single, 0.0, 0.05) == 2
    assert bca_interval(alike) == pytest.approx((0.1, 0.1))


def test_so_many_pairs_have_the_power_that_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.0, 0.4, 12)
    n = pairs_needed(values.tolist(), -0.3, 0.05)
    assert n is not None
    centred = (values - values.mean()) / values.std(ddof=1)
    effect = (values.mean() + 0.3) / values.std(ddof=1)
    assert abs(centred.mean()) < 1e-9
    draws = rng.normal(effect, 1.0, (4000, n))
    p = np.asarray(stats.ttest_1samp(draws, 0.0, axis=1, alternative="greater").pvalue)
    assert 0.78 < np.mean(p < 0.05) < 0.9
    assert pairs_needed([-1.0, -1.1], -0.5, 0.05) is None
    assert pairs_needed([0.0, 0.0], -0.5, 0.05) == 2
    alike = [0.935 - 0.94, 0.945 - 0.95, 0.955 - 0.96]
    assert len(set(alike)) > 1, "equal but for rounding"
    assert pairs_needed(alike, -0.5, 0.05) == 2


# How often it is wrong -------------------------------------------------------------------


def test_nothing_wins_against_its_like_more_often_than_it_may() -> None:
    rng = np.random.default_rng(6)
    told = [study(-1.0, -1.0, 6, rng, own=0.3) for _ in range(200)]
    assert sum(each.superior is True for each in told) <= 16


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [6, 10])
@pytest.mark.parametrize("own", [0.3])
def test_both_questions_are_answered_wrongly_at_their_level_or_below(
    seeds: int, own: float
) -> None:
    rng = np.random.default_rng(7)
    told = [study(-MARGIN, -MARGIN, seeds, rng, own) for _ in range(2000)]
    # True differences at the limits: three standard errors of the level are allowed.
    inferior = np.mean([each.noninferior is True for each in told])
    better = np.mean([each.superior is True for each in told])
    covered = np.mean(
        [each.against_full.paired.lo <= -MARGIN <= each.against_full.paired.hi for each in told]
    )
    assert inferior <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)
    assert better <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 2000)
    assert covered == pytest.approx(0.95, abs=3 * math.sqrt(0.05 * 0.95 / 2000))


@pytest.mark.slow
def test_of_several_policies_none_wins_wrongly_more_often_than_one_may() -> None:
    rng, seeds, arms, studies = np.random.default_rng(8), MIN_SEEDS_SEVERAL_ARMS, 3, 600
    inferior = better = 0
    for _ in range(studies):
        shared = rng.normal(95, SHARED, seeds)
        full, matched, *own = (
            (shared + at + rng.normal(0, 0.3, seeds)).tolist()
            for at in (0.0, -MARGIN, *[-MARGIN] * arms)
        )
        told = judge_arms({str(n): each for n, each in enumerate(own)}, full, matched, MARGIN)
        inferior += any(each.noninferior for each in told)
        better += any(each.superior for each in told)
    assert inferior / studies <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)
    assert better / studies <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / studies)
