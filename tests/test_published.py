"""Policies against naive transcriptions of the papers, and against some that are wrong."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from effcore.policies.selection.base import BatchOutputs, ExampleState, PolicyMemory
from effcore.policies.selection.infobatch import InfoBatch
from effcore.policies.selection.kakurenbo import Kakurenbo
from effcore.policies.selection.rho_loss import RhoLoss
from effcore.policies.selection.selective_backprop import SelectiveBackprop
from effcore.tasks.base import make_task
from effcore.testing.tiny_task import tiny_task
from effcore.training.irreducible_loss import compute_irreducible_losses
from tests.tiny_runs import tiny_config

Numbers = Sequence[float]
Rule = Callable[..., Any]  # a transcription, right or wrong
CPU, KIND = torch.device("cpu"), "cross_entropy"
R = 1024  # losses that Selective-Backprop compares with
EIGHTHS = st.integers(0, 80).map(lambda i: i / 8)  # exact in float32, and ties occur
TWENTIETHS = st.integers(0, 18).map(lambda i: i / 20)


def pool_of(
    losses: Numbers, progress: float = 0.0, memory: PolicyMemory | None = None
) -> ExampleState:
    return ExampleState(torch.tensor(losses), 1, KIND, progress, memory or {})


def seen_of(losses: Numbers, ids: Sequence[int] = ()) -> BatchOutputs:
    return BatchOutputs(
        torch.tensor(ids), torch.tensor(losses), torch.empty(0), torch.empty(0), 1, KIND
    )


def notices(check: Rule, *of: object, **wrong: object) -> None:
    with pytest.raises(AssertionError):
        check(*of, **wrong)


# InfoBatch: Qin et al. 2024 -------------------------------------------------------------------


def mean(scores: Numbers) -> float:
    """The mean over what has a score; in the first epoch nothing has, and nothing lies below."""
    known = [score for score in scores if score < math.inf]
    return sum(known) / len(known) if known else -math.inf


def pruned(scores: Numbers, r: float, cut: float) -> list[float]:
    """Soft pruning: P_t(z) = r where H_t(z) < mean H_t, and 0 elsewhere."""
    return [r if score < cut else 0.0 for score in scores]


def rescaled(scores: Numbers, r: float, cut: float) -> list[float]:
    """Expectation rescaling: what may be pruned, and is not, counts 1 / (1 - r)."""
    return [1 / (1 - r) if score < cut else 1.0 for score in scores]


def check_infobatch(scores: Numbers, r: float, cut: Rule = mean, weigh: Rule = rescaled) -> None:
    decision = InfoBatch(drop_probability=r).inclusion_probabilities(pool_of(scores))
    assert decision.weight_N is not None
    assert decision.pi_N.tolist() == pytest.approx([1 - p for p in pruned(scores, r, cut(scores))])
    assert decision.weight_N.tolist() == pytest.approx(weigh(scores, r, cut(scores)))


def check_annealing(epochs: int, delta: float, late: int = 0) -> None:
    """From epoch delta * C on, all data."""
    for epoch in range(epochs):
        decision = InfoBatch(dense_end=1 - delta).inclusion_probabilities(
            pool_of([1.0, 3.0], epoch / epochs)
        )
        everything = epoch >= delta * epochs + late
        assert decision.pi_N.tolist() == ([1, 1] if everything else [0.5, 1])
        assert (decision.weight_N is None) == everything


@given(st.lists(EIGHTHS | st.just(math.inf), min_size=1, max_size=40), TWENTIETHS)
def test_infobatch_prunes_and_rescales_as_published(scores: list[float], r: float) -> None:
    check_infobatch(scores, r)


@given(st.integers(1, 40), st.integers(0, 8).map(lambda i: i / 8))  # delta * C is exact
def test_infobatch_anneals_as_published(epochs: int, delta: float) -> None:
    check_annealing(epochs, delta)


def test_a_wrong_infobatch_is_noticed() -> None:
    scores = [0.5, 1.0, 2.1, 4.4, math.inf]
    check_infobatch(scores, 0.5)
    notices(check_infobatch, scores, 0.5, cut=lambda scores: sum(scores[:4]))  # no mean
    notices(check_infobatch, scores, 0.5, cut=lambda scores: sum(scores[:4], 3.0) / 5)  # inf as 3
    notices(check_infobatch, scores, 0.5, weigh=lambda scores, r, cut: [1.0] * 5)
    notices(check_annealing, 8, 0.875, late=1)


# Selective-Backprop: Jiang et al. 2019, equation 1 --------------------------------------------


def cdf(loss: float, history: Numbers) -> float:
    """CDF_R(L): the share of the last R losses that are no larger."""
    return sum(other <= loss for other in history) / len(history)


def chances(history: Numbers, losses: Numbers, beta: float) -> list[float]:
    """P(L) = CDF_R(L)**beta, where the last R losses include those asked about."""
    recent = [*history, *losses][-R:]
    return [cdf(loss, recent) ** beta for loss in losses]


def scaled(p: Numbers, count: int) -> list[float]:
    """Probabilities in proportion that sum to ``count``; who would exceed 1 is certain."""
    certain: set[int] = set()
    while True:
        rest = sum(chance for i, chance in enumerate(p) if i not in certain)
        factor = (count - len(certain)) / rest
        found = [1.0 if i in certain else chance * factor for i, chance in enumerate(p)]
        above = {i for i, chance in enumerate(found) if chance > 1.0}
        if not above:
            return found
        certain |= above


def remembering(policy: SelectiveBackprop, history: Numbers) -> ExampleState:
    memory = policy.initial_memory(1, CPU)
    policy.on_candidates_scored(memory, seen_of(history))
    return pool_of([0.0], memory=memory)


def check_chances(history: Numbers, losses: Numbers, beta: float, p: Rule = chances) -> None:
    policy = SelectiveBackprop(beta=beta)
    found = policy.selection_probabilities(
        remembering(policy, history), torch.tensor(losses)
    ).tolist()
    assert found == pytest.approx(p(history, losses, beta), rel=1e-5)


def check_memory(rounds: Sequence[int], kept: slice = slice(-R, None)) -> None:
    """The ring, read from its oldest place on, holds the last R losses in order."""
    policy, told = SelectiveBackprop(), list[float]()
    memory = policy.initial_memory(1, CPU)
    for size in rounds:
        told += [float(len(told) + i) for i in range(size)]
        policy.on_candidates_scored(memory, seen_of(told[-size:]))
        ring, oldest = memory["history_R"].tolist(), int(memory["next"])
        assert [n for n in ring[oldest:] + ring[:oldest] if n < math.inf] == told[kept]


Case = tuple[list[float], list[float], float, int]  # losses before, now, beta, count


def check_choice(case: Case, p: Rule = scaled) -> None:
    """A place is drawn for an arc of the numbers in [0, 1) as long as its probability."""
    history, losses, beta, count = case
    policy, grid, times = SelectiveBackprop(beta=beta), 240, [0] * len(losses)
    pool, scored = remembering(policy, history), seen_of(losses)
    for i in range(grid):
        uniform = torch.tensor((i + 0.5) / grid, dtype=torch.float64)
        places = policy.choose_batch(pool, scored, count, uniform).tolist()
        assert len(places) == len(set(places)) == count
        times = [n + (place in places) for place, n in enumerate(times)]
    expected = p(chances(history, losses, beta), count)
    # Of evenly spaced numbers, an arc holds its share to within one.
    assert [n / grid for n in times] == pytest.approx(expected, abs=1 / grid + 1e-6)


@given(st.lists(EIGHTHS, max_size=60), st.lists(EIGHTHS, min_size=1, max_size=30), st.floats(0, 8))
def test_selective_backprop_prefers_as_published(
    history: list[float], losses: list[float], beta: float
) -> None:
    check_chances(history, losses, beta)


@pytest.mark.parametrize(("before", "now"), [(1000, 24), (1024, 384), (3000, 96)])
def test_selective_backprop_compares_with_the_last_1024_losses_only(before: int, now: int) -> None:
    """Losses fall: the newest push out the oldest, and are a share of now / R of the last R."""
    assert chances([5.0] * before, [2.0] * now, 1.0) == [now / R] * now
    check_chances([5.0] * before, [2.0] * now, 1.0)


@settings(max_examples=20)
@given(st.lists(st.sampled_from([1, 7, 300, 1000, 1023, 1024, 1025, 2500]), max_size=6))
def test_selective_backprop_remembers_the_last_1024_losses(rounds: list[int]) -> None:
    check_memory(rounds)


CHOICES: dict[str, Case] = {
    "none certain": ([9.0, 9.5], [float(i % 12) for i in range(0, 60, 5)], 2.0, 4),
    "P = 1, yet not certain": ([], [float(i) for i in range(12)], 2.0, 4),
    "more of P = 1 than drawn": ([], [1.0] * 6 + [2.0] * 6, 2.0, 4),
    "some certain": ([3.0] * 40, [1.0, 9.0, 1.5, 2.0, 8.0, 1.0, 2.5, 0.5, 1.0, 2.0], 8.0, 4),
}


@pytest.mark.parametrize("name", CHOICES)
def test_selective_backprop_draws_with_these_probabilities(name: str) -> None:
    check_choice(CHOICES[name])


def test_a_wrong_selective_backprop_is_noticed() -> None:
    case = ([2.0, 5.0, 5.0], [1.0, 2.0, 4.0, 5.0], 2.0)
    check_chances(*case)
    for p in (
        lambda h, losses, b: [cdf(loss, h) ** b for loss in losses],  # without the newest
        lambda h, losses, b: [cdf(loss, losses) ** b for loss in losses],  # of the batch alone
        lambda h, losses, b: [cdf(loss - 0.1, [*h, *losses]) ** b for loss in losses],  # L' < L
        lambda h, losses, b: [cdf(loss, [*h, *losses]) for loss in losses],  # no power
    ):
        notices(check_chances, *case, p=p)
    notices(check_memory, [1000, 100], kept=slice(R))  # the first ones stay
    some = CHOICES["some certain"]
    notices(check_choice, some, p=lambda p, count: list(p))  # not scaled
    notices(check_choice, some, p=lambda p, count: [c * count / sum(p) for c in p])  # none certain


# KAKURENBO: Nguyen et al. 2023, algorithm 1 ---------------------------------------------------

EPOCHS, CLASSES, N = 200, 4, 24
EDGES = st.sampled_from([0, 59, 60, 119, 120, 159, 160, 199])
Run = tuple[int, float, float, int]  # seed, F, tau, epoch


def confidence(z: NDArray[np.float64], over: int = 1) -> list[float]:
    """The highest of an example's probabilities, a softmax over the classes."""
    return list((np.exp(z) / np.exp(z).sum(over, keepdims=True)).max(1))


def fraction(largest: float, epoch: int) -> float:
    """F_e: stepped down at epochs 60, 120 and 160 of 200."""
    return largest * (1.0 if epoch < 60 else 0.8 if epoch < 120 else 0.6 if epoch < 160 else 0.4)


def rate(largest: float, hidden: float) -> float:
    """The learning rate is multiplied by 1 / (1 - F), where F is the share hidden."""
    return 1 / (1 - hidden)


def check_kakurenbo(
    run: Run, sure: Rule = confidence, share: Rule = fraction, factor: Rule = rate
) -> None:
    seed, largest, tau, epoch = run
    random = np.random.default_rng(seed)
    stale, now = random.normal(0, 2, (2, N, CLASSES)).astype(np.float32)
    told, pc = [int(row.argmax()) for row in now], sure(now.astype(np.float64))
    targets = [(answer + (i % 5 == 0)) % CLASSES for i, answer in enumerate(told)]
    losses = [math.log(np.exp(z - z[y]).sum()) for z, y in zip(now, targets, strict=True)]
    lowest = sorted(range(N), key=lambda i: losses[i])[: math.floor(share(largest, epoch) * N)]
    back = [i for i in lowest if told[i] != targets[i] or pc[i] < tau]
    hidden = set(lowest) - set(back)
    policy = Kakurenbo(hidden_share=largest, confidence=tau)
    memory, y_N = policy.initial_memory(N, CPU), torch.tensor(targets)
    for outputs in (torch.from_numpy(stale), torch.from_numpy(now)):  # the latest counts
        for ids in torch.split(torch.from_numpy(random.permutation(N)), 10):
            policy.on_batch_end(
                memory, BatchOutputs(ids, torch.empty(0), outputs[ids], y_N[ids], 1, KIND)
            )
    pi_N = policy.inclusion_probabilities(pool_of(losses, epoch / EPOCHS, memory)).pi_N
    assert pi_N.tolist() == [float(i not in hidden) for i in range(N)]
    assert policy.lr_multiplier(float(pi_N.mean())) == pytest.approx(
        factor(largest, len(hidden) / N)
    )


@given(st.tuples(st.integers(0, 2**31), TWENTIETHS, TWENTIETHS, EDGES))
def test_kakurenbo_hides_as_published(run: Run) -> None:
    check_kakurenbo(run)


def test_a_wrong_kakurenbo_is_noticed() -> None:
    unsure, sure = (3, 0.9, 0.7, 100), (3, 0.6, 0.3, 100)  # many move back, and few
    check_kakurenbo(unsure)
    check_kakurenbo(sure)
    notices(check_kakurenbo, unsure, sure=lambda z: confidence(z, over=0))  # over the batch
    notices(check_kakurenbo, unsure, sure=lambda z: [1.0] * N)  # tau left out
    notices(check_kakurenbo, sure, share=lambda largest, epoch: largest)  # F does not fall
    notices(check_kakurenbo, sure, factor=lambda largest, hidden: 1 / (1 - largest))


# RHO-LOSS: Mindermann et al. 2022, equation 3 -------------------------------------------------

Batch = tuple[Sequence[int], Numbers, Numbers, int]


def check_rho(batch: Batch, score: Rule = operator.sub) -> None:
    """RHO = L[y | x; D_t] - L[y | x; D_ho]; the n_b highest are trained on."""
    ids, losses, irreducible, n_b = batch
    scores = [score(loss, irreducible[i]) for loss, i in zip(losses, ids, strict=True)]
    top = sorted(range(len(ids)), key=lambda place: -scores[place])[:n_b]
    pool = pool_of([0.0], memory={"irreducible_N": torch.tensor(irreducible)})
    assert (
        RhoLoss().choose_batch(pool, seen_of(losses, ids), n_b, torch.tensor(0.5)).tolist() == top
    )


@given(st.data(), st.lists(EIGHTHS, min_size=1, max_size=40))
def test_rho_loss_takes_the_top_as_published(data: st.DataObject, irreducible: list[float]) -> None:
    ids = data.draw(st.permutations(range(len(irreducible))))[:20]
    losses = data.draw(st.lists(EIGHTHS, min_size=len(ids), max_size=len(ids)))
    check_rho((ids, losses, irreducible, data.draw(st.integers(1, len(ids)))))


def test_the_irreducible_loss_is_that_of_a_model_trained_on_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """L[y | x; D_ho]: of each of the two models, whom it learns from and whom it judges."""
    now: set[int] = set()
    models: list[dict[bool, set[int]]] = []
    with tiny_task():
        config = tiny_config(selection="rho-loss", epochs=16)
        task = make_task(config)
        batch, build = task.batch, task.build_model

        def asked(idx_B: torch.Tensor, generator: torch.Generator) -> Any:
            now.clear()
            now.update(idx_B.tolist())
            return batch(idx_B, generator)

        def built(*settings: Any) -> torch.nn.Sequential:
            shown: dict[bool, set[int]] = {True: set(), False: set()}  # by whether it learns
            models.append(shown)
            model = build(*settings)
            model.register_forward_hook(lambda it, *_: shown[it.training].update(now))
            return model

        monkeypatch.setattr(task, "batch", asked)
        monkeypatch.setattr(task, "build_model", built)
        found_N = torch.full((task.n_train,), math.inf)
        assert all(cost.total > 0 for cost in compute_irreducible_losses(config, task, found_N))
    first, second = models
    assert first[False] | second[False] == set(range(task.n_train))
    assert not first[False] & second[False]
    for shown in models:
        assert not shown[True] & shown[False]
        assert len(shown[True]) > 0.4 * task.n_train
    assert bool(found_N.isfinite().all())


def test_a_wrong_rho_loss_is_noticed() -> None:
    batch = ([4, 0, 3, 1], [3.0, 2.5, 1.0, 4.0], [0.5, 3.5, 0.0, 0.5, 2.0], 2)
    check_rho(batch)
    notices(check_rho, batch, score=lambda loss, irreducible: loss)  # the hardest
    notices(check_rho, batch, score=lambda loss, irreducible: irreducible - loss)
    assert RhoLoss(chosen_share=0.1).scoring_batch_size(32) == 320  # n_b of n_B in the paper
