"""The parts that selection policies share, against what their docstrings say."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effcore.policies.selection.base import BudgetState
from effcore.policies.selection.score_functions import (
    confidence_and_correctness,
    el2n_scores,
    least_variance_uniform_share,
    proportional_probabilities,
    raise_to_class_floor,
    systematic_sample,
    winsorise_scores,
)

SCORES = st.lists(st.integers(1, 800).map(lambda i: i / 8), min_size=4, max_size=40)
SHARES = st.integers(1, 20).map(lambda i: i / 20)


def number(value: float) -> torch.Tensor:
    return torch.tensor(value)


@given(SCORES, SHARES, SHARES)
def test_probabilities_have_the_wanted_mean_and_are_proportional_below_one(
    scores: list[float], keep: float, uniform: float
) -> None:
    score_N = torch.tensor(scores)
    pi_N = proportional_probabilities(score_N, keep, number(uniform))
    assert float(pi_N.mean()) == pytest.approx(keep, abs=1e-4)
    mixed_N = (1 - uniform) * score_N / score_N.mean() + uniform
    ratio_N = (pi_N / mixed_N)[pi_N < 1]
    if len(ratio_N) > 1:
        torch.testing.assert_close(ratio_N, ratio_N[:1].expand_as(ratio_N), rtol=1e-4, atol=0)
    if len(ratio_N):  # who is certain would else have had more than 1
        assert bool((mixed_N[pi_N >= 1] * ratio_N[0] >= 1 - 1e-4).all())


def test_what_is_unknown_is_certain_and_the_others_share_the_rest() -> None:
    pi_N = proportional_probabilities(torch.tensor([math.inf, 1.0, 1.0, 2.0]), 0.5, number(0.0))
    assert pi_N.tolist() == pytest.approx([1, 0.25, 0.25, 0.5], abs=1e-4)
    pi_N = proportional_probabilities(
        torch.tensor([math.inf, math.inf, 1.0, 1.0]), 0.25, number(0.0)
    )
    assert pi_N[:2].tolist() == [1, 1]
    assert bool((pi_N[2:] > 0).all())  # hardly ever, but not never
    assert bool((pi_N[2:] < 1e-6).all())


def test_scores_that_are_all_zero_count_alike() -> None:
    assert proportional_probabilities(torch.zeros(8), 0.25, number(0.0)).tolist() == pytest.approx(
        [0.25] * 8
    )


@given(SCORES, SHARES)
def test_winsorised_scores_end_at_the_quantile(scores: list[float], quantile: float) -> None:
    limit = sorted(scores)[math.ceil(quantile * (len(scores) - 1) - 1e-6)]
    got = winsorise_scores(torch.tensor([*scores, math.inf]), quantile).tolist()
    assert got == [min(score, limit) for score in scores] + [math.inf]


@given(st.lists(st.tuples(st.integers(0, 3), SHARES), min_size=1, max_size=40), SHARES)
def test_no_class_falls_below_its_floor_and_nobody_loses(
    examples: list[tuple[int, float]], floor: float
) -> None:
    group_N = torch.tensor([group for group, _ in examples])
    pi_N = torch.tensor([pi for _, pi in examples])
    raised_N = raise_to_class_floor(pi_N, group_N, 4, floor)
    assert bool((raised_N >= pi_N - 1e-6).all())
    assert bool((raised_N <= 1).all())
    for group in set(group_N.tolist()):
        own = group_N == group
        least = min(1.0, floor * float(pi_N.mean()))
        assert float(raised_N[own].mean()) >= least - 1e-5
        if float(pi_N[own].mean()) >= least:
            torch.testing.assert_close(raised_N[own], pi_N[own])


def test_without_classes_there_is_no_floor() -> None:
    pi_N = torch.tensor([0.1, 0.9])
    assert raise_to_class_floor(pi_N, None, 0, 1.0) is pi_N


def test_the_gate_opens_where_scores_foretell_and_shuts_where_they_mislead() -> None:
    stale_N = torch.linspace(0.1, 5, 200)
    foretold = least_variance_uniform_share(stale_N, stale_N, 0.3, number(0.1))
    mislead = least_variance_uniform_share(stale_N, stale_N.flip(0), 0.3, number(0.1))
    assert float(foretold) == pytest.approx(0.1)
    assert float(mislead) == 1.0


@pytest.mark.parametrize("known", [40, 80, 140])
def test_the_gate_judges_by_whom_it_has_seen_twice_as_if_there_were_no_others(known: int) -> None:
    stale_N = torch.linspace(0.1, 5, 200)[
        torch.randperm(200, generator=torch.Generator().manual_seed(0))
    ]
    seen = torch.arange(200) < known
    for fresh_N in (stale_N, 5.1 - stale_N):
        alone = least_variance_uniform_share(stale_N[:known], fresh_N[:known], 0.3, number(0.1))
        stale, fresh = (torch.where(seen, score_N, math.inf) for score_N in (stale_N, fresh_N))
        assert least_variance_uniform_share(stale, fresh, 0.3, number(0.1)) == alone
    assert alone == 1.0


def test_the_gate_s_moment_is_that_of_a_weighted_sample() -> None:
    """What it minimises is what sampling shows: the spread of the weighted sum."""
    generator = torch.Generator().manual_seed(0)
    stale_N, fresh_N = torch.rand(100, generator=generator) + 0.1, torch.linspace(0.1, 1, 100)
    spreads = []
    for share in (0.2, 0.6, 1.0):
        pi_N = proportional_probabilities(stale_N, 0.3, number(share))
        draws = torch.rand(20_000, 100, generator=generator) < pi_N
        spreads.append(float((draws * (fresh_N / pi_N)).sum(1).var()))
    best = (0.2, 0.6, 1.0)[spreads.index(min(spreads))]
    assert float(least_variance_uniform_share(stale_N, fresh_N, 0.3, number(0.2))) == pytest.approx(
        best
    )


def test_the_error_norm_is_the_distance_to_the_truth() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([0, 1, 2, 0, 1])
    truth = torch.nn.functional.one_hot(label, 3).float()
    expected = (logits.softmax(-1) - truth).norm(dim=-1)
    torch.testing.assert_close(el2n_scores(logits, label, "cross_entropy"), expected)
    tokens = el2n_scores(logits[None], label[None], "cross_entropy")
    torch.testing.assert_close(tokens, expected.mean()[None])
    numbers, goal = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    assert el2n_scores(numbers, goal, "squared_error").tolist() == [2, 5]
    assert el2n_scores(numbers[:, :1], goal[:, 0], "squared_error").tolist() == [0, 3]


def test_confidence_is_the_highest_probability_and_whether_it_is_right() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    most, right = confidence_and_correctness(logits, torch.tensor([0, 0]))
    expected = [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-3))]
    assert most.tolist() == pytest.approx(expected)
    assert right.tolist() == [True, False]


@settings(max_examples=20)
@given(st.lists(st.integers(0, 9), min_size=3, max_size=12), st.data())
def test_systematic_sampling_draws_in_proportion(weights: list[int], data: st.DataObject) -> None:
    positive = sum(weight > 0 for weight in weights)
    if positive < 2:
        return
    count = data.draw(st.integers(1, positive - 1))
    pi_M = torch.tensor(weights, dtype=torch.float64)
    drawn: Counter[int] = Counter()
    ticks = 100
    for tick in range(ticks):
        places = systematic_sample(
            pi_M, count, torch.tensor((tick + 0.5) / ticks, dtype=torch.float64)
        )
        assert len(set(places.tolist())) == count
        drawn.update(places.tolist())
    shares = scaled([float(weight) for weight in weights], count)
    for place, share in enumerate(shares):
        assert drawn[place] / ticks == pytest.approx(share, abs=3 / ticks)


def scaled(weights: list[float], count: int) -> list[float]:
    """Scale to a sum, those above 1 being certain, one after the other."""
    certain: set[int] = set()
    while True:
        left = sum(w for i, w in enumerate(weights) if i not in certain)
        factor = (count - len(certain)) / left
        over = {i for i, w in enumerate(weights) if i not in certain and w * factor > 1}
        if not over:
            return [1.0 if i in certain else w * factor for i, w in enumerate(weights)]
        certain |= over


# The budget ------------------------------------------------------------------------------


@given(SHARES, st.integers(1, 10), st.booleans())
def test_a_held_budget_is_met_whatever_came_before(
    keep: float, dense_passes: int, by_budget: bool
) -> None:
    """Some passes were dense; the others make up for them, as far as they can."""
    n, passes = 100.0, 40
    skip = 1 - keep
    considered = spent = dense_passes * n
    total, budget = (None, keep * passes * n) if by_budget else (passes * n, None)
    for _ in range(200):
        account = BudgetState(considered, spent, total, budget)
        share = account.keep_fraction(skip)
        ended = spent + share * n > budget if budget else considered + n > passes * n
        if ended:
            break
        considered, spent = considered + n, spent + share * n
    if dense_passes < 0.9 * keep * passes:
        assert 1 - spent / considered == pytest.approx(skip, abs=0.02)


def test_a_dense_end_is_paid_for_before_it() -> None:
    account = BudgetState(0.0, 0.0, 1000.0)
    share = account.keep_fraction(0.4, dense_end=0.2)
    assert 0.8 * share + 0.2 == pytest.approx(0.6)
    budget = BudgetState(0.0, 0.0, None, 600.0)
    share = budget.keep_fraction(0.4, dense_end=0.2)
    assert share == pytest.approx((600 - 120) / (1000 - 120))


def test_what_cannot_be_skipped_any_more_is_not_asked_for() -> None:
    assert BudgetState(900.0, 900.0, 1000.0).keep_fraction(0.4) == 0.02
    assert BudgetState(1000.0, 600.0, 1000.0).keep_fraction(0.4) == pytest.approx(0.6)
    assert BudgetState(100.0, 0.0, 1000.0).keep_fraction(0.0) == 1.0
