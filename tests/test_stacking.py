"""Policies on top of each other, at odd sizes and precisions: bills, budgets, rates."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from effcore.bench.bench_store import BenchStore
from effcore.config import ConfigError, resolve
from effcore.knobs import Controls
from effcore.policies.selection.base import BatchOutputs, BudgetState, SelectionPolicy
from effcore.policies.selection.el2n_pps import El2nPPS
from effcore.policies.selection.kakurenbo import Kakurenbo
from effcore.policies.selection.random import Random
from effcore.policies.selection.stale_pps import StalePPS
from effcore.policies.update.every_step import EveryStep
from effcore.records import RunConfig, RunEnd, RunStart, RunStatus, StepBlock
from effcore.records.step_plan import FULL_PLAN, StepPlan
from effcore.training.sampler import Sampler
from effcore.training.trainer import train
from effcore.training.training_loop import TrainingLoop
from tests.tiny_runs import ended, steered, still, trained

KIND = "squared_error"
SCORING = {"selective-backprop": ("beta", 0.0, 8.0), "rho-loss": ("chosen_share", 1.0, 0.05)}


def small(task: str, **settings: Any) -> RunConfig:
    return resolve({"task": task, "size": "small", "device": "cpu", "threads": 1, **settings})


def rates(config: RunConfig) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The learning rate of each step, as a share of the peak."""
    blocks = [event.rows for event in trained(config) if isinstance(event, StepBlock)]
    found: np.ndarray[Any, np.dtype[np.float64]] = np.concatenate(blocks, axis=1)[6]
    return found / config.learning_rate


@pytest.mark.parametrize("selection", ["dense", "selective-backprop", "el2n-pps"])
def test_features_are_kept_and_billed_in_bf16_as_in_fp32(selection: str) -> None:
    shared = {"update": "prefix-freeze", "freeze_after": 0.3, "epochs": 8, "selection": selection}
    half, full = (ended(small("tabular-wine", precision=p, **shared)) for p in ("bf16", "fp32"))
    assert half.status is RunStatus.FINISHED
    if selection != "el2n-pps":  # whose draws follow the scores, which differ
        assert half.flops_spent == full.flops_spent


def test_kakurenbo_s_rate_answers_to_what_it_hides_and_to_nothing_else() -> None:
    photo = {"selection": "kakurenbo", "batch_size": 8192, "epochs": 3, "first_size": 0.25}
    assert rates(small("photo", intensity="resolution", **photo)).max() < 1 / (1 - 0.4) + 1e-6
    plain, skipping = (
        rates(small("tabular-cancer", selection="kakurenbo", epochs=6, update=update)).max()
        for update in ("every-step", "skip-step")
    )
    assert plain == pytest.approx(skipping, rel=0.25)
    assert skipping < 1 / (1 - 0.4) + 1e-6


def test_kakurenbo_refreshes_only_what_there_is() -> None:
    config = small(
        "photo", selection="kakurenbo", intensity="resolution", batch_size=8192, epochs=2
    )
    loop = TrainingLoop(config, Controls(), still)
    loop.train_step.adopt_plan(StepPlan(share=0.5))
    list(loop.begin_epoch())
    assert len(loop.sampler.skipped_indices()) <= loop.n // 4


def coarse_passes(policy: SelectionPolicy) -> list[tuple[float, float]]:
    """Return, of passes in which one in four can be drawn, which share is, and its mean weight."""
    n, device, found = 2000, torch.device("cpu"), []
    chooser = Sampler(policy, n, 10, 0, loss_kind=KIND, group_N=None, device=device)
    coarse_N = torch.arange(n) % 4 == 0
    there, generator = int(coarse_N.sum()), torch.Generator().manual_seed(0)
    for index in range(5):
        account, weights = BudgetState(index * n, index * there * 0.6, 20 * n), list[torch.Tensor]()
        chooser.begin_epoch(index / 20, account)
        _, count = chooser.decide_epoch(index / 20, account, EveryStep(), coarse_N)
        while (idx_B := chooser.next_batch()) is not None:
            loss_B, many = torch.rand(len(idx_B), generator=generator), torch.ones(10, 3)
            chooser.record_batch_outputs(
                BatchOutputs(idx_B, loss_B, loss_B[:, None] * many, many, index, KIND)
            )
            weight_B = chooser.epoch_sampler.weight_B
            weights.append(torch.ones(10) if weight_B is None else weight_B)
        found.append((count / there, float(torch.cat(weights).mean())))
    return found


@pytest.mark.parametrize(
    "policy",
    [StalePPS(correction=1.0), El2nPPS(correction=1.0), Kakurenbo(), Random()],
    ids=lambda policy: str(policy.id),
)
def test_a_share_is_one_of_who_can_be_drawn(policy: SelectionPolicy) -> None:
    """Of those who stand for others; the others, not known yet, take none of their places."""
    for share, weight in coarse_passes(policy)[1:]:
        assert 0.5 < share < 0.8
        assert weight == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("selection", list(SCORING))
def test_a_budget_holds_whatever_is_scored_and_moved(selection: str) -> None:
    name, few, many = SCORING[selection]
    raw = {"selection": selection, "epochs": 12, "budget": 0.7, name: few}
    config = small("tabular-cancer", **raw)
    start = next(iter(train(config)))
    assert isinstance(start, RunStart)
    assert start.flops_end is not None
    for step in (1, 40, 80, 95):
        _, end = steered(config, [(step, name, many)])
        assert end.flops_spent <= start.flops_end * (1 + 1e-9)


def test_a_batch_is_scored_even_where_candidates_outnumber_the_examples() -> None:
    end = ended(small("tabular-wine", selection="selective-backprop", batch_size=100, epochs=3))
    assert end.examples_trained == 300


def test_what_a_policy_prepares_is_no_progress() -> None:
    share = rates(small("tabular-wine", selection="rho-loss", epochs=20, budget=0.6))
    assert share[0] < 0.5
    assert share.max() == pytest.approx(1, abs=0.05)


def test_a_budget_that_is_used_up_before_the_first_pass_is_refused(tmp_path: Path) -> None:
    config = small("tabular-cancer", selection="rho-loss", epochs=2, budget=0.15)
    with pytest.raises(ConfigError, match="spent all of it on training its own models"):
        ended(config)
    (result,) = BenchStore(tmp_path).results([config], 1, lambda _: None)  # a study goes on
    assert result.metric is None
    assert "training its own models" in result.reason


def test_features_are_kept_again_once_stages_freeze_again() -> None:
    config = small("tabular-cancer", update="prefix-freeze", frozen_share=0.6)
    stepper = TrainingLoop(config, Controls(), still).train_step
    for _ in range(2):
        stepper.adopt_plan(StepPlan(frozen=2))
        assert stepper.should_cache_features(1e9)
        stepper.cache_features()
        assert stepper.cached_features_NF is not None
        stepper.adopt_plan(FULL_PLAN)
        assert stepper.cached_features_NF is None


def test_scoring_and_skipping_whole_batches_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match="chooses its batches step by step"):
        small("digits", selection="rho-loss", update="skip-step")


WISHES = [(7, "mass", 0.6), (15, "frozen_share", 0.3), (22, "first_size", 0.3)]


def test_a_run_steered_in_all_its_policies_repeats() -> None:
    config = small(
        "tabular-wine", model="resnet", epochs=8, update="prefix-freeze", freeze_after=0.2,
        intensity="depth-growth", full_size_after=0.9,
    )  # fmt: skip
    changes, end = steered(config, WISHES)
    assert [change.name for change in changes] == [name for _, name, _ in WISHES]
    again = ended(resolve({**_raw(config), "changes": changes}))
    assert (again.parameters_sha256, again.flops_spent) == (
        end.parameters_sha256,
        end.flops_spent,
    )


def _raw(config: RunConfig) -> dict[str, Any]:
    names = [n for n in RunConfig.__slots__ if n not in ("knobs", "data", "changes")]
    return {n: getattr(config, n) for n in names} | dict(config.knobs) | dict(config.data)


@pytest.mark.parametrize(
    ("selection", "batch_size"),
    list(itertools.product(["auto", "kakurenbo", "stale-pps", "rho-loss", "mastered"], [1, 106])),
)
def test_the_smallest_and_the_largest_batch_train(selection: str, batch_size: int) -> None:
    end = ended(small("tabular-wine", selection=selection, batch_size=batch_size, epochs=3))
    assert isinstance(end, RunEnd)
    assert end.status is RunStatus.FINISHED
    assert end.examples_trained > 0
