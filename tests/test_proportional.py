"""Policies that draw in proportion to a score: the budget they hold, and what tames scores."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from effcore.config import resolve
from effcore.knobs import with_knobs
from effcore.policies.selection.base import SELECTIONS, BatchOutputs, BudgetState, ExampleState
from effcore.policies.selection.el2n_pps import El2nPPS
from effcore.policies.selection.stale_pps import StalePPS
from effcore.records import RunConfig
from effcore.records.settings import SettingValue
from tests.tiny_runs import ended, steered

N = 60
POLICIES = ["stale-pps", "el2n-pps"]


def digits(selection: str, **settings: Any) -> RunConfig:
    base: dict[str, SettingValue] = {
        "task": "digits",
        "model": "mlp",
        "size": "small",
        "device": "cpu",
        "threads": 1,
    }
    base |= {"epochs": 12, "batch_size": 64}  # a batch is half a percent of the run
    return resolve({**base, "selection": selection, **settings})


@pytest.mark.parametrize("selection", POLICIES)
@pytest.mark.parametrize(
    "settings",
    [
        {"skip_fraction": 0.4},
        {"skip_fraction": 0.2},
        {"skip_fraction": 0.6},
        {"skip_fraction": 0.4, "budget": 0.6},
        {"skip_fraction": 0.3, "dense_end": 0.2},
        {"skip_fraction": 0.4, "gate": 1, "class_floor": 0.5, "correction": 1.0},
        {"skip_fraction": 0.4, "update": "skip-step", "step_share": 0.2},
    ],
    ids=str,
)
def test_the_wanted_share_is_skipped_within_two_points(
    selection: str, settings: dict[str, Any]
) -> None:
    end = ended(digits(selection, **settings))
    assert end.skipped_compute_frac == pytest.approx(settings["skip_fraction"], abs=0.02)


def test_a_share_moved_on_the_way_is_held_too() -> None:
    config = digits("stale-pps", skip_fraction=0.2)
    changes, end = steered(config, [(75, "skip_fraction", 0.5)])
    assert end.skipped_compute_frac == pytest.approx(0.5, abs=0.02)
    again = ended(dataclasses.replace(config, changes=tuple(changes)))
    assert again.parameters_sha256 == end.parameters_sha256


def pool_with(policy: StalePPS | El2nPPS, score_N: torch.Tensor, **changes: Any) -> ExampleState:
    memory = policy.initial_memory(N, torch.device("cpu"))
    memory["score_N"].copy_(score_N)
    pool = ExampleState(
        score_N.clone(), 3, "cross_entropy", 0.3, memory, BudgetState(3 * N, 2 * N, 10 * N)
    )
    return dataclasses.replace(pool, **changes)


def test_who_is_harder_is_drawn_more_and_the_first_pass_is_dense() -> None:
    policy = StalePPS(uniform_share=0.0, age_weight=0.0, winsor=1.0)
    pi_N = policy.inclusion_probabilities(pool_with(policy, torch.linspace(0.1, 2, N))).pi_N
    assert bool((pi_N.diff() >= 0).all())
    assert float(pi_N[0]) < 0.2 < float(pi_N[-1])
    unseen = policy.inclusion_probabilities(pool_with(policy, torch.full((N,), torch.inf))).pi_N
    assert bool((unseen == 1).all())


def test_age_makes_up_for_being_skipped() -> None:
    policy = StalePPS(uniform_share=0.0, age_weight=0.5)
    pool = pool_with(policy, torch.ones(N))
    pool.memory["pass_N"][: N // 2] = 2.0  # seen in the last pass; the others in the first
    pi_N = policy.inclusion_probabilities(pool).pi_N
    assert float(pi_N[-1]) == pytest.approx(2 * float(pi_N[0]), rel=1e-3)


def test_the_running_mean_is_exponential_and_begins_with_the_first_loss() -> None:
    policy, expected = StalePPS(smoothing=0.25, gate=1), 4.0
    memory = policy.initial_memory(1, torch.device("cpu"))
    for index, loss in enumerate([4.0, 2.0, 0.0]):
        losses_B = torch.tensor([loss])
        seen = BatchOutputs(torch.tensor([0]), losses_B, losses_B, losses_B, index, "cross_entropy")
        policy.on_batch_end(memory, seen)
        expected = loss if index == 0 else 0.75 * expected + 0.25 * loss
    assert float(memory["score_N"][0]) == pytest.approx(expected)
    assert float(memory["stale_N"][0]) == pytest.approx(0.75 * 4 + 0.25 * 2)
    assert float(memory["fresh_N"][0]) == 0
    assert float(memory["pass_N"][0]) == 2


def test_a_squared_error_counts_by_its_root() -> None:
    policy = StalePPS()
    memory = policy.initial_memory(2, torch.device("cpu"))
    losses_B = torch.tensor([4.0, 9.0])
    policy.on_batch_end(
        memory, BatchOutputs(torch.arange(2), losses_B, losses_B, losses_B, 0, "squared_error")
    )
    assert memory["score_N"].tolist() == [2, 3]


def test_a_few_enormous_losses_do_not_take_the_places_of_all_others() -> None:
    score_N = torch.ones(N)
    score_N[:2] = 100.0  # two wrong labels
    shares = {}
    for winsor in (0.95, 1.0):
        policy = StalePPS(uniform_share=0.0, winsor=winsor)
        pi_N = policy.inclusion_probabilities(pool_with(policy, score_N)).pi_N
        shares[winsor] = float(pi_N[2:].mean())
    assert shares[0.95] > shares[1.0]


def test_a_rare_class_of_easy_examples_is_not_starved() -> None:
    group_N = (torch.arange(N) < 6).long()  # a tenth of them, learned early
    score_N = torch.where(group_N == 1, 0.01, 1.0)
    drawn = {}
    for floor in (0.0, 0.8):
        policy = with_knobs(El2nPPS(uniform_share=0.0), {"class_floor": floor})
        pool = pool_with(policy, score_N, group_N=group_N, groups=2)
        pi_N = policy.inclusion_probabilities(pool).pi_N
        drawn[floor] = float(pi_N[group_N == 1].mean() / pi_N.mean())
    assert drawn[0.0] < 0.3
    assert drawn[0.8] > 0.7


def test_the_gate_gives_way_to_random_where_scores_mislead() -> None:
    spread = {}
    for gate in (0, 1):
        policy = StalePPS(uniform_share=0.1, gate=gate, age_weight=0.0, winsor=1.0)
        pool = pool_with(policy, torch.linspace(0.1, 5, N))
        pool.memory["stale_N"].copy_(torch.linspace(0.1, 5, N))
        pool.memory["fresh_N"].copy_(torch.linspace(5, 0.1, N))
        pi_N = policy.inclusion_probabilities(pool).pi_N
        spread[gate] = float(pi_N.max() - pi_N.min())
    assert spread[0] > 0.3
    assert spread[1] == pytest.approx(0, abs=1e-6)


def test_all_that_draw_by_a_score_are_tested_here() -> None:
    found = [cls.id for cls in SELECTIONS if hasattr(cls, "scores_from_outputs")]
    assert found == POLICIES
