from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effcore.policies.selection.base import Decision, correction_weights
from effcore.training.epoch_sampler import EpochSampler

CPU = torch.device("cpu")
SIZES = st.tuples(st.integers(1, 60), st.integers(1, 60)).map(lambda s: (max(s), min(s)))
SEEDS = st.integers(0, 2**31 - 1)


def passes_of(n: int, batch_size: int, seed: int = 0) -> EpochSampler:
    return EpochSampler(n, batch_size, seed, CPU)


def chances(n: int, seed: int) -> torch.Tensor:
    """Inclusion probabilities, many of them exactly 0 and 1."""
    return (
        torch.rand(n, generator=torch.Generator().manual_seed(seed)).mul(1.6).sub(0.3).clamp(0, 1)
    )


def batches(passes: EpochSampler) -> list[list[int]]:
    found = []
    while (batch := passes.next_batch()) is not None:
        found.append(batch.tolist())
    return found


def drawn(passes: EpochSampler) -> set[int]:
    return set(passes.drawn_N.nonzero()[:, 0].tolist())


@given(SIZES, SEEDS, st.integers(1, 6))
def test_every_drawn_example_comes_once_per_pass_in_full_batches(
    sizes: tuple[int, int], seed: int, count: int
) -> None:
    n, batch_size = sizes
    passes = passes_of(n, batch_size, seed)
    expected: Counter[int] = Counter()
    trained: list[int] = []
    for index in range(count):
        passes.begin_epoch()
        passes.apply_decision(Decision(chances(n, seed + index)))
        expected.update(drawn(passes))
        found = batches(passes)
        assert all(len(batch) == batch_size for batch in found)
        trained += [example for batch in found for example in batch]
        # What is missing is carried: less than one batch, and all of it from before.
        carried = expected - Counter(trained)
        assert carried.total() == expected.total() - len(trained) < batch_size
        assert passes.considered == (index + 1) * n
    passes.begin_epoch()
    passes.apply_decision(Decision(torch.ones(n)))
    trained += [example for batch in batches(passes) for example in batch]
    assert not expected - Counter(trained), "what was carried comes first in the next pass"


@given(SIZES, SEEDS)
def test_a_dense_pass_visits_everything_and_counts_what_it_considered(
    sizes: tuple[int, int], seed: int
) -> None:
    n, batch_size = sizes
    passes = passes_of(n, batch_size, seed)
    visited: list[int] = []
    for index in range(3):
        passes.begin_epoch()
        assert passes.considered == index * n
        passes.apply_decision(Decision(torch.ones(n)))
        while (batch := passes.next_batch()) is not None:
            visited += batch.tolist()
            assert passes.considered == len(visited)
        assert passes.considered == (index + 1) * n
    assert max(Counter(visited).values()) <= 3
    assert Counter(visited).total() == 3 * n // batch_size * batch_size


@given(SIZES, SEEDS)
def test_considered_counts_the_skipped_ones_on_the_way(sizes: tuple[int, int], seed: int) -> None:
    n, batch_size = sizes
    passes = passes_of(n, batch_size, seed)
    passes.begin_epoch()
    order, uniform = passes._order.tolist(), passes._uniform_N
    pi_N = chances(n, seed)
    passes.apply_decision(Decision(pi_N))
    mine = [place for place, example in enumerate(order) if uniform[example] < pi_N[example]]
    for number, batch in enumerate(iter(passes.next_batch, None)):
        last = mine[(number + 1) * batch_size - 1]
        assert batch[-1] == order[last]
        assert passes.considered == last + 1


@given(SIZES, SEEDS, st.integers(0, 10))
def test_a_new_decision_touches_only_what_is_not_yet_visited(
    sizes: tuple[int, int], seed: int, taken: int
) -> None:
    n, batch_size = sizes
    passes = passes_of(n, batch_size, seed)
    passes.begin_epoch()
    passes.apply_decision(Decision(torch.ones(n) * 0.5))
    batches(passes)  # leaves something to carry into the pass looked at
    passes.begin_epoch()
    carried = passes._queue.tolist()
    order, uniform = passes._order.tolist(), passes._uniform_N
    before_N, after_N = chances(n, seed), chances(n, seed + 1)
    passes.apply_decision(Decision(before_N))
    taken = min(taken, len(passes._queue) // batch_size)  # a pass that ended is left alone
    trained = [next(iter(passes.next_batch, None)).tolist() for _ in range(taken)]
    place = passes.considered - n
    passes.apply_decision(Decision(after_N))
    first = {e for e in order[:place] if uniform[e] < before_N[e]}
    rest = {e for e in order[place:] if uniform[e] < after_N[e]}
    assert drawn(passes) == first | rest
    queue = [e for batch in trained for e in batch] + passes._queue.tolist()
    assert Counter(queue) == Counter([*carried, *first, *rest])
    assert queue[: len(carried)] == carried


@given(SIZES, SEEDS, st.integers(0, 5))
def test_deciding_the_same_again_changes_nothing(
    sizes: tuple[int, int], seed: int, taken: int
) -> None:
    n, batch_size = sizes
    once, twice = passes_of(n, batch_size, seed), passes_of(n, batch_size, seed)
    for passes in (once, twice):
        passes.begin_epoch()
        passes.apply_decision(Decision(chances(n, seed)))
    for _ in range(taken):
        for passes in (once, twice):
            passes.next_batch()
    twice.apply_decision(Decision(chances(n, seed)))
    assert torch.equal(once.drawn_N, twice.drawn_N)
    assert batches(once) == batches(twice)


def test_an_example_is_drawn_alike_whatever_the_others_are_given() -> None:
    low, high = passes_of(500, 10), passes_of(500, 10)
    for passes, pi in ((low, 0.3), (high, 0.7)):
        passes.begin_epoch()
        passes.apply_decision(Decision(torch.full((500,), pi)))
    assert drawn(low) < drawn(high)


def test_orders_differ_between_passes_and_seeds_and_repeat() -> None:
    def orders(seed: int) -> list[list[int]]:
        passes = passes_of(50, 5, seed)
        found = []
        for _ in range(3):
            passes.begin_epoch()
            passes.apply_decision(Decision(torch.ones(50)))
            found.append([e for batch in batches(passes) for e in batch])
        return found

    assert orders(1) == orders(1)
    assert len({tuple(order) for order in orders(1) + orders(2)}) == 6


def test_nothing_is_considered_before_the_first_pass() -> None:
    assert passes_of(10, 2).considered == 0


@pytest.mark.parametrize("correction", [1.0, 0.0])
@settings(max_examples=4)
@given(seed=st.integers(0, 1000))
def test_corrected_draws_are_unbiased(correction: float, seed: int) -> None:
    """The mean over passes of the weighted sum of losses against the sum over all.

    Within 5 standard errors, known from pi: sum of loss^2 * (1 - pi) / pi for c = 1.
    Without the correction the same distance is missed by far, so the test can fail.
    """
    n, count = 64, 600
    generator = torch.Generator().manual_seed(seed)
    loss_N = torch.rand(n, generator=generator).double()
    pi_N = (0.1 + 0.9 * torch.rand(n, generator=generator)).float()
    weight_N = correction_weights(pi_N, correction).double()
    passes = passes_of(n, n, seed)
    sums = []
    for _ in range(count):
        passes.begin_epoch()
        passes.apply_decision(Decision(pi_N, weight_N=weight_N.float()))
        sums.append(float((loss_N * weight_N)[passes.drawn_N].sum()))
        passes.next_batch()
    variance = float((loss_N.square() * (1 - pi_N) / pi_N).sum())
    error = abs(sum(sums) / count - float(loss_N.sum())) / (variance / count) ** 0.5
    assert (error < 5) == (correction == 1.0)


def test_an_example_keeps_the_weight_that_it_was_drawn_with() -> None:
    passes = EpochSampler(10, 4, 0, torch.device("cpu"))
    seen: dict[int, list[float]] = {}
    for weight in (2.0, 1.0, None, 5.0):
        passes.begin_epoch()
        weights = None if weight is None else torch.full((10,), weight)
        passes.apply_decision(Decision(torch.ones(10), weight_N=weights))
        while (batch := passes.next_batch()) is not None:
            of_batch = [1.0] * 4 if passes.weight_B is None else passes.weight_B.tolist()
            for index, own in zip(batch.tolist(), of_batch, strict=True):
                seen.setdefault(index, []).append(own)
    # Two of each pass are carried on; nobody is trained on under another pass's weight.
    assert all(own == [2.0, 1.0, 1.0, 5.0][: len(own)] for own in seen.values())
    assert sum(len(own) for own in seen.values()) == 40


def test_whoever_is_left_out_after_the_draw_is_not_among_the_drawn() -> None:
    passes = EpochSampler(8, 2, 0, torch.device("cpu"))
    passes.begin_epoch()
    passes.apply_decision(Decision(torch.ones(8)))
    order = passes._order.clone()
    passes.skip_batches(lambda mean_K: np.arange(len(mean_K)) == 0, torch.zeros(8))
    assert not passes.drawn_N[order[:2]].any()
    assert passes.drawn_N[order[2:]].all()
    candidates = passes.next_batch(4)
    assert candidates is not None
    assert candidates.tolist() == order[2:6].tolist()
    passes.mark_chosen(candidates, candidates[1:3])
    assert passes.drawn_N[order].tolist() == [False, False, False, True, True, False, True, True]
