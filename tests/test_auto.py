"""The rules of `auto` and `mastered`, written out example by example, and some that are wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from effcore.knobs import Controls
from effcore.policies.selection.auto import Auto
from effcore.policies.selection.base import BatchOutputs, ExampleState
from effcore.policies.selection.mastered import Mastered
from effcore.testing.tiny_task import tiny_task
from effcore.training.training_loop import TrainingLoop
from tests.tiny_runs import still, tiny_config

Numbers = Sequence[float]
Rule = Callable[..., Any]  # a rule written out, right or wrong
CPU, CLASSES = torch.device("cpu"), 4
EIGHTHS = st.integers(0, 64).map(lambda i: i / 8)  # exact in float32, and ties occur
UNKNOWN = st.just(math.inf)


def notices(check: Rule, *of: object, **wrong: object) -> None:
    with pytest.raises(AssertionError):
        check(*of, **wrong)


# Mastered: Yuan et al. 2025, equations 4 and 5 --------------------------------------------


def bends(losses: Numbers) -> float:
    """The mean size of the last three second differences; NaN before there are five losses."""
    if len(losses) < 5:
        return math.nan
    a, b, c, d, e = losses[-5:]
    return (abs(a - 2 * b + c) + abs(b - 2 * c + d) + abs(c - 2 * d + e)) / 3


def check_mastered(histories: Sequence[Numbers], limit: float, bend: Rule = bends) -> None:
    policy = Mastered(second_difference=limit, rest=4, correction=1.0)
    memory = policy.initial_memory(len(histories), CPU)
    for example, losses in enumerate(histories):
        for loss in losses:
            index_B, loss_B = torch.tensor([example]), torch.tensor([loss])
            seen = BatchOutputs(index_B, loss_B, torch.empty(0), torch.empty(0), 1, "cross_entropy")
            policy.on_batch_end(memory, seen)
    last_N = torch.tensor([losses[-1] if losses else math.inf for losses in histories])
    decision = policy.inclusion_probabilities(
        ExampleState(last_N, 5, "cross_entropy", memory=memory)
    )
    chances = [0.25 if bend(losses) < limit else 1.0 for losses in histories]
    assert decision.pi_N.tolist() == chances
    if min(chances) < 1:
        assert decision.weight_N is not None
        whole_N = decision.weight_N * decision.pi_N
        torch.testing.assert_close(whole_N, whole_N.mean().expand_as(whole_N))


@given(st.lists(st.lists(EIGHTHS, max_size=8), min_size=1, max_size=12), st.sampled_from([0.1, 1]))
def test_mastered_rests_as_published(histories: list[list[float]], limit: float) -> None:
    check_mastered(histories, limit)


def test_a_wrong_mastered_is_noticed() -> None:
    steady, bent, short = [1.0] * 6, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0], [1.0] * 4
    falling = [5.0, 4.0, 3.0, 2.0, 1.0]  # in a straight line, which does not bend
    histories = [steady, bent, short, falling]
    check_mastered(histories, 0.1)
    notices(check_mastered, histories, 0.1, lambda losses: math.nan)  # nobody ever
    notices(check_mastered, histories, 0.1, lambda losses: 0.0)  # everybody
    firsts = [abs(b - a) for a, b in zip(falling[:-1], falling[1:], strict=True)]
    notices(check_mastered, histories, 0.1, lambda losses: bends(losses) + firsts[0])
    notices(check_mastered, histories, 0.1, lambda losses: bends([*[1.0] * 4, *losses]))


# Auto ---------------------------------------------------------------------------------------


def course(classes: bool, calm: bool) -> tuple[float, int]:
    """Gradient mass to skip, and every how many passes to look again."""
    if not classes:
        return 0.5, 8
    return (0.35 if calm else 0.1), 4


def guessed_wrong(losses: Numbers, progress: float, noisy: bool) -> set[int]:
    """Losses above guessing's, the highest fifth at most, once a fifth of the run is over."""
    known = sorted(loss for loss in losses if loss < math.inf)
    if not noisy or progress <= 0.2 or not known:
        return set()
    limit = max(math.log(CLASSES), known[len(known) - 1 - int(0.2 * len(known))])
    return {i for i, loss in enumerate(losses) if limit < loss < math.inf}


def easiest(losses: Numbers, mass: float) -> set[int]:
    """Those of lowest loss that together hold at most this share of the gradient."""
    known = sorted((loss, i) for i, loss in enumerate(losses) if loss < math.inf)
    total, held, found = sum(loss for loss, _ in known), 0.0, set()
    for loss, i in known:
        held += loss
        if held > mass * total:
            break
        found.add(i)
    return found


def check_auto(
    losses: Numbers,
    pass_index: int,
    known: bool,
    noisy: bool,
    progress: float = 0.5,
    course: Rule = course,
    wrong: Rule = guessed_wrong,
) -> None:
    policy = Auto()
    memory = policy.initial_memory(len(losses), CPU)
    memory["known"].fill_(float(known))
    memory["noisy"].fill_(float(noisy))
    group_N = torch.arange(len(losses)) % CLASSES
    last_N = torch.tensor(losses)
    pool = ExampleState(
        last_N, pass_index, "cross_entropy", progress, memory, group_N=group_N, groups=4
    )
    mass, revisit = course(True, known and not noisy)
    skipped = easiest(losses, mass) | wrong(losses, progress, noisy)
    due = {i for i in range(len(losses)) if (i + pass_index) % revisit == 0}
    drawn = [float(i in due or i not in skipped) for i in range(len(losses))]
    assert policy.inclusion_probabilities(pool).pi_N.tolist() == drawn


@given(
    st.lists(EIGHTHS | UNKNOWN, min_size=1, max_size=40),
    st.integers(0, 9),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.1, 0.2, 0.5]),
)
def test_auto_skips_as_it_says(
    losses: list[float], pass_index: int, known: bool, noisy: bool, progress: float
) -> None:
    check_auto(losses, pass_index, known, noisy, progress)


def test_a_wrong_auto_is_noticed() -> None:
    losses = [i / 8 for i in range(40)]
    check_auto(losses, 1, True, True)
    notices(check_auto, losses, 1, True, True, wrong=lambda *_: set())  # labels unguarded
    notices(check_auto, losses, 1, True, False, course=lambda *_: (0.1, 4))
    notices(check_auto, losses, 1, False, False, course=lambda *_: (0.35, 4))
    notices(check_auto, losses, 1, True, False, course=lambda *_: (0.35, 8))


def test_auto_skips_half_of_the_gradient_where_numbers_are_learned() -> None:
    policy, losses = Auto(), [float(i * i) for i in range(1, 33)]  # their roots are 1 to 32
    pool = ExampleState(
        torch.tensor(losses), 1, "squared_error", 0.5, policy.initial_memory(32, CPU)
    )
    skipped = easiest([math.sqrt(loss) for loss in losses], 0.5)
    drawn = [float((i + 1) % 8 == 0 or i not in skipped) for i in range(32)]
    assert policy.inclusion_probabilities(pool).pi_N.tolist() == drawn


def stubborn(then: Numbers, now: Numbers, first: float) -> tuple[bool, bool]:
    """Whether enough is known, and whether the hardest tenth kept 0.7 of its loss."""
    both = [i for i in range(len(now)) if max(then[i], now[i]) < math.inf]
    seen = [loss for loss in now if loss < math.inf]
    mean = sum(seen) / max(1, len(seen))
    enough = 2 * len(both) > len(now)
    hardest = sorted(both, key=lambda i: (-then[i], i))[: max(1, len(now) // 10)]
    before, after = (sum(losses[i] for i in hardest) for losses in (then, now))
    learning = mean >= 0.05 * (first or mean)
    return enough, enough and learning and before > 0 and after / before > 0.7


@given(
    st.lists(st.tuples(EIGHTHS | UNKNOWN, EIGHTHS | UNKNOWN), min_size=1, max_size=40),
    st.sampled_from([0.0, 1.0, 400.0]),
    st.booleans(),
)
def test_auto_finds_out_whether_the_hardest_stay_as_hard(
    losses: list[tuple[float, float]], first: float, before: bool
) -> None:
    then, now = [each[0] for each in losses], [each[1] for each in losses]
    policy = Auto()
    memory = policy.initial_memory(len(now), CPU)
    memory["then_N"].copy_(torch.tensor(then))
    memory["first"].fill_(first)
    memory["noisy"].fill_(float(before))
    policy.on_epoch_start(memory, ExampleState(torch.tensor(now), 2, "cross_entropy", 0.5, memory))
    enough, noisy = stubborn(then, now, first)
    assert bool(memory["known"] > 0) == enough
    assert bool(memory["noisy"] > 0) == (noisy or before)  # once noisy, always
    assert memory["then_N"].tolist() == now


@pytest.mark.parametrize("selection", ["auto", "mastered"])
def test_each_decision_is_billed(selection: str) -> None:
    with tiny_task():
        loop = TrainingLoop(tiny_config(selection=selection, epochs=3), Controls(), still)
        list(loop.run())
    assert loop.run_progress.decision_flops() > loop.n  # a comparison each, at the very least
    assert loop.ledger.selection_flops == 3 * loop.run_progress.decision_flops()
