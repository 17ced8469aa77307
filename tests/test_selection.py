from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from effcore.policies.selection.base import ExampleState, correction_weights, sorting_flops
from effcore.policies.selection.confident_skip import ConfidentSkip
from effcore.policies.selection.dense import Dense
from effcore.policies.selection.infobatch import InfoBatch
from effcore.policies.selection.random import Random

# Eighths have few bits, so that sums are exact and ties occur.
LOSSES = st.lists(
    st.sampled_from([math.inf, 0.0]) | st.integers(0, 80).map(lambda i: i / 8),
    min_size=1,
    max_size=40,
)
MASSES = st.integers(0, 19).map(lambda i: i / 20)


def pool_of(losses: list[float], pass_index: int = 1, kind: str = "cross_entropy") -> ExampleState:
    return ExampleState(torch.tensor(losses), pass_index, kind)


def kept(policy: ConfidentSkip, pool: ExampleState) -> list[int]:
    pi_N = policy.inclusion_probabilities(pool).pi_N
    assert set(pi_N.tolist()) <= {0.0, 1.0}
    return pi_N.nonzero()[:, 0].tolist()


def easiest(losses: list[float], mass: float, kind: str) -> set[int]:
    """The same in the words of the docstring: add the easiest while they hold little enough."""
    size = {
        i: Fraction(math.sqrt(loss) if kind == "squared_error" else loss)
        for i, loss in enumerate(losses)
        if math.isfinite(loss)
    }
    total, held, easy = sum(size.values()), Fraction(0), set()
    for i in sorted(size, key=lambda i: (losses[i], i)):
        held += size[i]
        if held > Fraction(mass) * total:
            break
        easy.add(i)
    return easy


@given(LOSSES, MASSES)
def test_mass_skips_the_most_examples_that_hold_at_most_that_share(
    losses: list[float], mass: float
) -> None:
    policy = ConfidentSkip(mass=mass, revisit=1000)
    pool = pool_of(losses, pass_index=500)  # nobody is due: fewer examples than 500
    skipped = set(range(len(losses))) - set(kept(policy, pool))
    reference = easiest(losses, mass, "cross_entropy")
    if skipped != reference:  # only where the share lies within rounding of the edge
        total = sum(loss for loss in losses if math.isfinite(loss))
        (edge,) = skipped ^ reference
        held = sum(losses[i] for i in reference | skipped)
        assert held == pytest.approx(mass * total, rel=1e-12), edge


@given(LOSSES, MASSES)
def test_mass_of_squared_errors_is_that_of_their_roots(losses: list[float], mass: float) -> None:
    squares = [loss * loss for loss in losses]  # exact roots: i / 8
    policy = ConfidentSkip(mass=mass, revisit=1000)
    of_squares = policy.inclusion_probabilities(pool_of(squares, 500, "squared_error")).pi_N
    of_roots = policy.inclusion_probabilities(pool_of(losses, 500, "cross_entropy")).pi_N
    assert torch.equal(of_squares, of_roots)


def test_the_kind_of_loss_matters() -> None:
    losses = [0.01, 0.04, 0.09, 1.0]
    policy = ConfidentSkip(mass=0.3, revisit=1000)
    assert kept(policy, pool_of(losses, 500, "cross_entropy")) == [3]
    assert kept(policy, pool_of(losses, 500, "squared_error")) == [2, 3]


@given(LOSSES, st.integers(1, 80).map(lambda i: i / 8))
def test_a_threshold_skips_what_lies_below_it(losses: list[float], threshold: float) -> None:
    policy = ConfidentSkip(mass=None, loss_threshold=threshold, revisit=1000)
    expected = [i for i, loss in enumerate(losses) if not loss < threshold]
    assert kept(policy, pool_of(losses, 500)) == expected


@given(LOSSES, MASSES, st.integers(1, 8), st.integers(0, 30))
def test_every_example_is_trained_on_within_each_revisit_period(
    losses: list[float], mass: float, revisit: int, first: int
) -> None:
    policy = ConfidentSkip(mass=mass, revisit=revisit)
    looks = [kept(policy, pool_of(losses, first + i)) for i in range(revisit)]
    easy = set(range(len(losses))) - set(
        kept(ConfidentSkip(mass=mass, revisit=1000), pool_of(losses, 500))
    )
    for example in range(len(losses)):
        times = sum(example in look for look in looks)
        assert times == (1 if example in easy else revisit)


def test_revisits_are_staggered_by_index() -> None:
    policy = ConfidentSkip(mass=None, loss_threshold=10, revisit=4)
    looks = [kept(policy, pool_of([1.0] * 8, i)) for i in range(4)]
    assert looks == [[0, 4], [3, 7], [2, 6], [1, 5]]


def test_the_largest_skipped_loss_is_the_threshold_shown() -> None:
    decision = ConfidentSkip(mass=0.4).inclusion_probabilities(
        pool_of([0.1, 0.2, 0.3, 0.4, math.inf])
    )
    assert decision.threshold is not None
    assert float(decision.threshold) == pytest.approx(0.2)
    decision = ConfidentSkip(mass=None, loss_threshold=0.25).inclusion_probabilities(
        pool_of([0.1, 0.2, 0.3])
    )
    assert decision.threshold is not None
    assert float(decision.threshold) == pytest.approx(0.25)


def test_with_nothing_easy_no_loss_lies_below_the_threshold_shown() -> None:
    decision = ConfidentSkip(mass=0.1).inclusion_probabilities(pool_of([1.0, 1.0, math.inf]))
    assert decision.threshold is not None
    assert float(decision.threshold) == -math.inf


def test_a_loss_that_is_not_a_number_is_never_easy() -> None:
    losses = [math.nan, 0.1, 0.1]
    for policy in (
        ConfidentSkip(mass=0.5, revisit=1000),
        ConfidentSkip(mass=None, loss_threshold=5, revisit=1000),
    ):
        assert 0 in kept(policy, pool_of(losses, 500))


def test_dense_draws_everything_and_costs_nothing() -> None:
    assert Dense().inclusion_probabilities(pool_of([0.0, math.inf])).pi_N.tolist() == [1, 1]
    assert Dense().decision_flops(1000) == 0


def test_random_gives_all_the_same_chance() -> None:
    pi_N = Random(skip_fraction=0.25).inclusion_probabilities(pool_of([0.0, 5.0, math.inf])).pi_N
    assert pi_N.tolist() == [0.75] * 3
    assert Random(skip_fraction=0.0).inclusion_probabilities(pool_of([1.0])).pi_N.tolist() == [1]


# InfoBatch -------------------------------------------------------------------------------


def reference_infobatch(losses: list[float], cut: float, drop: float) -> list[float]:
    """The paper's soft pruning, for one example at a time."""
    return [1 - drop if loss < cut else 1.0 for loss in losses]


@given(LOSSES, st.integers(0, 19).map(lambda i: i / 20), st.integers(1, 16).map(lambda i: i / 4))
def test_infobatch_drops_below_a_multiple_of_the_mean(
    losses: list[float], drop: float, multiple: float
) -> None:
    known = [loss for loss in losses if math.isfinite(loss)]
    cut = multiple * sum(known) / len(known) if known else math.nan
    decision = InfoBatch(mean_multiple=multiple, drop_probability=drop).inclusion_probabilities(
        pool_of(losses)
    )
    expected = reference_infobatch(losses, cut, drop)
    near = [math.isclose(loss, cut, rel_tol=1e-5) for loss in losses]  # float32 may round it over
    pairs = zip(decision.pi_N.tolist(), expected, near, strict=True)
    assert all(ours == pytest.approx(theirs) or edge for ours, theirs, edge in pairs)
    assert decision.threshold is not None
    assert float(decision.threshold) == pytest.approx(cut, nan_ok=True)


@given(LOSSES, st.integers(0, 19).map(lambda i: i / 20))
def test_infobatch_drops_below_a_quantile_of_what_is_known(
    losses: list[float], quantile: float
) -> None:
    policy = InfoBatch(mean_multiple=None, loss_quantile=quantile)
    decision = policy.inclusion_probabilities(pool_of(losses))
    known = [i for i, loss in enumerate(losses) if math.isfinite(loss)]
    easy = {i for i, pi in enumerate(decision.pi_N.tolist()) if pi < 1}
    assert easy <= set(known)
    assert abs(len(easy) - quantile * len(known)) < 1.001  # equal losses are told apart
    hard = set(known) - easy
    assert max((losses[i] for i in easy), default=0) <= min((losses[i] for i in hard), default=10)
    assert decision.threshold is not None
    assert float(decision.threshold) == max((losses[i] for i in easy), default=-math.inf)


@given(LOSSES, st.integers(0, 19).map(lambda i: i / 20))
def test_infobatch_weights_make_up_for_what_is_dropped(losses: list[float], drop: float) -> None:
    """The expected weight of every example in a pass is 1, which is what unbiased means."""
    decision = InfoBatch(drop_probability=drop).inclusion_probabilities(pool_of(losses))
    assert decision.weight_N is not None
    torch.testing.assert_close(decision.pi_N * decision.weight_N, torch.ones(len(losses)))
    assert InfoBatch(correction=0.0).inclusion_probabilities(pool_of(losses)).weight_N is None


@given(st.floats(0, 1), st.floats(0, 1))
def test_infobatch_trains_on_everything_at_the_end(progress: float, dense_end: float) -> None:
    pool = ExampleState(torch.tensor([0.1, 0.1, 5.0]), 1, "cross_entropy", progress)
    decision = InfoBatch(dense_end=dense_end).inclusion_probabilities(pool)
    over = progress >= 1.0 - dense_end
    assert decision.pi_N.tolist() == ([1, 1, 1] if over else [0.5, 0.5, 1])
    assert (decision.weight_N is None) == (decision.threshold is None) == over


def test_the_gradient_under_infobatch_is_unbiased() -> None:
    """Over many passes the weighted sum of what is drawn is the sum over all examples."""
    losses = torch.linspace(0.01, 3, 50)
    decision = InfoBatch(drop_probability=0.8).inclusion_probabilities(
        ExampleState(losses, 1, "cross_entropy")
    )
    assert decision.weight_N is not None
    draws = torch.rand(20_000, 50, generator=torch.Generator().manual_seed(0)) < decision.pi_N
    totals = (draws * (losses * decision.weight_N)).sum(1)
    error = totals.std() / len(totals) ** 0.5
    assert abs(float(totals.mean() - losses.sum())) < 4 * float(error)
    assert float(totals.std()) > 0


def test_decisions_are_billed() -> None:
    assert InfoBatch().decision_flops(1024) == 6 * 1024
    by_rank = InfoBatch(mean_multiple=None, loss_quantile=0.5)
    assert by_rank.decision_flops(1024) == 1024 * 10 + 4 * 1024
    assert ConfidentSkip().decision_flops(1024) == 1024 * 10 + 5 * 1024
    assert Random().decision_flops(1024) == 1024
    assert sorting_flops(1) == 1


def test_weights_are_powers_of_the_inclusion_probability() -> None:
    pi_N = torch.tensor([0.25, 0.5, 1.0])
    assert correction_weights(pi_N, 1.0).tolist() == [4, 2, 1]
    assert correction_weights(pi_N, 0.5).tolist() == pytest.approx([2, 2**0.5, 1])
    assert correction_weights(pi_N, 0.0).tolist() == [1, 1, 1]
    assert torch.isfinite(correction_weights(torch.zeros(1), 0.5)).all()
