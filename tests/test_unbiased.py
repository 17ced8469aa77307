"""What is drawn: as often as promised, unbiased where promised, and the same once restored."""

from __future__ import annotations

import dataclasses
import io
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from effcore.knobs import knobs_of, with_knobs
from effcore.policies.selection.base import SELECTIONS, ExampleState, SelectionPolicy
from effcore.testing import example_states
from effcore.training.epoch_sampler import EpochSampler

CPU = torch.device("cpu")
PASSES = 1000
FAIR = [cls for cls in SELECTIONS if not cls.biased]
WEIGHTED = [c for c in FAIR if "correction" in {spec.name for spec in knobs_of(c)}]


def mixed_pool(policy: SelectionPolicy) -> ExampleState:
    """A pool of differing losses, all known, in the middle of a run."""
    pools = [pool for pool in example_states(policy) if pool.epoch_index == 7]
    return pools[0]  # mixed losses of classes


@cache
def draws(policy: SelectionPolicy) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw many passes; returns who was drawn (T, N), and probabilities and weights."""
    pool = mixed_pool(policy)
    decision = policy.inclusion_probabilities(pool)
    n = len(pool.last_loss_N)
    passes = EpochSampler(n, 1, 0, CPU)
    drawn = []
    for _ in range(PASSES):
        passes.begin_epoch()
        passes.apply_decision(decision)
        drawn.append(passes.drawn_N.clone())
    weight_N = torch.ones(n) if decision.weight_N is None else decision.weight_N
    return torch.stack(drawn), decision.pi_N, weight_N


@pytest.mark.parametrize("cls", list(SELECTIONS), ids=lambda cls: cls.id)
def test_each_example_is_drawn_as_often_as_its_probability_says(cls: Any) -> None:
    drawn_TN, pi_N, _ = draws(cls())
    counts = drawn_TN.sum(0).double()
    certain = (pi_N == 0) | (pi_N == 1)
    assert torch.equal(counts[certain], PASSES * pi_N[certain].double())
    open_N = ~certain
    if open_N.any():
        expected, pi = PASSES * pi_N[open_N].double(), pi_N[open_N].double()
        chi2 = ((counts[open_N] - expected) ** 2 / (expected * (1 - pi))).sum()
        assert stats.chi2.sf(float(chi2), int(open_N.sum())) > 1e-3


@pytest.mark.parametrize("cls", FAIR, ids=lambda cls: cls.id)
def test_examples_are_drawn_independently_of_each_other(cls: Any) -> None:
    drawn_TN, pi_N, _ = draws(cls())
    sizes = drawn_TN.sum(1).double()
    spread = float((pi_N * (1 - pi_N)).sum())
    if spread == 0:
        return
    ratio = float(sizes.var()) / spread * (PASSES - 1)
    assert 1e-3 < stats.chi2.cdf(ratio, PASSES - 1) < 1 - 1e-3


@pytest.mark.parametrize("cls", WEIGHTED, ids=lambda cls: cls.id)
def test_the_weighted_gradient_is_the_full_one(cls: Any) -> None:
    """A small network's gradient, summed over what is drawn, each with its weight.

    The trainer takes the mean over a batch, so that the sum is to be that of all, times the
    share drawn: the step is then as long as a dense one. InfoBatch's is longer, as published.
    """
    policy = with_knobs(cls(), {"correction": 1.0})
    drawn_TN, pi_N, weight_N = draws(policy)
    share = float(pi_N.mean())
    scale = 1.0 if cls.id == "infobatch" else share
    n = len(weight_N)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
    inputs, labels = torch.randn(n, 3), torch.arange(n) % 3
    gradient_NP = torch.stack([_gradient(model, inputs[i], labels[i]) for i in range(n)])
    sums_TP = (drawn_TN * weight_N).double() @ gradient_NP.double()
    error_P = sums_TP.std(0) / PASSES**0.5
    full_P = scale * gradient_NP.double().sum(0)
    missed_P = (sums_TP.mean(0) - full_P).abs()
    assert bool((missed_P < 4.5 * error_P + 1e-9).all())
    assert bool((weight_N != weight_N[0]).any())
    bare_TP = drawn_TN.double() @ gradient_NP.double()  # without the weights it would be seen
    assert bool(((bare_TP.mean(0) - full_P).abs() > 4.5 * error_P).any())


def _gradient(model: torch.nn.Module, inputs: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    loss = torch.nn.functional.cross_entropy(model(inputs[None]), label[None])
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def test_only_policies_that_draw_everyone_now_and_then_offer_a_correction() -> None:
    assert {cls.id for cls in WEIGHTED} >= {"infobatch", "stale-pps", "el2n-pps", "mastered"}
    assert not any(cls.biased for cls in WEIGHTED)


@pytest.mark.parametrize("cls", list(SELECTIONS), ids=lambda cls: cls.id)
def test_what_a_policy_keeps_can_be_saved_and_restored(cls: Any) -> None:
    policy, file = cls(), io.BytesIO()
    pool = mixed_pool(policy)
    before = policy.inclusion_probabilities(pool)
    arrays: dict[str, Any] = {name: kept.numpy() for name, kept in pool.memory.items()}
    np.savez(file, last=pool.last_loss_N.numpy(), **arrays)
    file.seek(0)
    with np.load(file, allow_pickle=False) as saved:
        last, *kept = (torch.from_numpy(saved[name]) for name in saved.files)
        memory = dict(zip(saved.files[1:], kept, strict=True))
    restored = dataclasses.replace(pool, last_loss_N=last, memory=memory)
    after = policy.inclusion_probabilities(restored)
    assert torch.equal(before.pi_N, after.pi_N)
    assert memory.keys() == pool.memory.keys()
    policy.on_epoch_start(memory, restored)  # and what follows is the same, too
    policy.on_epoch_start(dict(pool.memory), pool)
    after, before = (policy.inclusion_probabilities(each) for each in (restored, pool))
    assert torch.equal(after.pi_N, before.pi_N)
