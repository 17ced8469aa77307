"""Growing sizes, lengths and depths; branches without backward; skipped steps; kept features."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from effcore.config import ConfigError, resolve
from effcore.knobs import Controls
from effcore.policies.intensity.base import GROWTH_LEVELS, grown_share
from effcore.policies.update.drop_backward import DropBackward
from effcore.policies.update.skip_step import SkipStep
from effcore.records import EpochDrawEvent, RunConfig, RunEnd, RunStart
from effcore.records.settings import Settings
from effcore.records.step_plan import FULL_PLAN, ModelStructure, StepPlan, StepProgress
from effcore.tasks.base import TASKS, make_model, make_task
from effcore.tasks.residual_stage import ResidualStage, structure_of
from effcore.training import reporter
from effcore.training import train_step as stepper_module
from effcore.training.ledger import count_step_flops
from effcore.training.planned_forward import count_trained_parameters, planned_forward
from effcore.training.trainer import train
from effcore.training.training_loop import TrainingLoop
from tests.tiny_runs import ended, still

CPU = torch.device("cpu")


def config_of(task: str, **settings: Any) -> RunConfig:
    base: Settings = {
        "task": task,
        "device": "cpu",
        "threads": 1,
        "size": "small",
        "selection": "dense",
    }
    return resolve({**base, "epochs": 2, "budget": 0.2, **settings})


# What grows ------------------------------------------------------------------------------


@given(st.floats(0.25, 1), st.floats(0, 1), st.floats(0, 1))
def test_what_grows_never_shrinks_and_is_whole_in_time(
    first: float, after: float, progress: float
) -> None:
    share = grown_share(first, after, progress)
    assert first <= share <= 1
    assert share <= grown_share(first, after, min(1.0, progress + 0.1))
    assert (share == 1.0) or progress < after
    assert len({grown_share(first, after, i / 99) for i in range(100)}) <= GROWTH_LEVELS + 1


GROWING = [
    ("digits", "cnn", "resolution", None),
    ("tabular-wine", "resnet", "depth-growth", None),
    ("snippets", "bag-of-n-grams", "sequence-growth", 0.15),
    *(
        pytest.param("code", model, intensity, 0.15, marks=pytest.mark.slow)
        for model in ("transformer", "convolution")
        for intensity in ("sequence-growth", "depth-growth")
    ),
]


@pytest.mark.parametrize(("task", "model", "intensity", "budget"), GROWING)
def test_a_growing_run_costs_less_and_repeats_to_the_bit(
    task: str,
    model: str,
    intensity: str,
    budget: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reporter, "EVALUATIONS", 2)  # which would take as long as the steps
    config = config_of(task, model=model, intensity=intensity, budget=budget, epochs=1)
    first, again = ended(config), ended(config)
    assert first.parameters_sha256 == again.parameters_sha256
    assert first.flops_spent == again.flops_spent
    if budget is None:  # where there is one, all of it is spent
        assert first.skipped_compute_frac > 0.05


@pytest.mark.parametrize(
    ("task", "model", "field", "policy", "why"),
    [
        ("digits", "mlp", "intensity", "resolution", "smaller resolution"),
        ("tabular", "mlp", "intensity", "sequence-growth", "smaller length"),
        ("digits", "cnn", "intensity", "depth-growth", "two or more residual stages"),
        ("digits", "cnn", "update", "drop-backward", "no residual branches"),
    ],
)
def test_a_policy_that_does_not_fit_the_model_is_refused(
    task: str, model: str, field: str, policy: str, why: str
) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        resolve({"task": task, "model": model, field: policy, "device": "cpu"})
    assert caught.value.field == field
    assert "choose another model or policy" in str(caught.value)


def test_half_the_side_costs_a_quarter_of_the_convolutions() -> None:
    config = config_of("digits", model="cnn")
    task = make_task(config)
    model = make_model(task, config)
    idx_B = torch.arange(4)
    inputs, targets = task.batch(idx_B, torch.Generator().manual_seed(0))
    half, _ = task.reduce_batch(idx_B, inputs, targets, 0.5)
    assert half.shape == (4, 1, 8, 8)
    torch.testing.assert_close(half.mean((2, 3)), inputs.mean((2, 3)))
    convolutions = model[:3]
    whole = count_step_flops(convolutions, lambda m: m(inputs).mean((1, 2, 3)))
    assert count_step_flops(convolutions, lambda m: m(half).mean((1, 2, 3))) == whole / 4
    assert model(half).shape == model(inputs).shape


def test_a_shorter_text_keeps_its_beginning() -> None:
    for name in ("code", "snippets"):
        task = TASKS.get(name)(0, CPU)
        idx_B = torch.arange(4)
        inputs, targets = task.batch(idx_B, torch.Generator().manual_seed(0))
        short, goal = task.reduce_batch(idx_B, inputs, targets, 0.5)
        assert torch.equal(short, inputs[:, : inputs.shape[1] // 2])
        assert torch.equal(goal, targets[:, : goal.shape[1]] if goal.dim() == 2 else targets)


# Residual stages -------------------------------------------------------------------------


def stack(task: str = "code", model: str = "transformer") -> torch.nn.Sequential:
    made = TASKS.get(task)(0, CPU).build_model(model, 0, CPU, "small")
    for stage in made:
        if isinstance(stage, ResidualStage):  # fresh ones add nothing, which would hide much
            for layer in stage.last_layers():
                torch.nn.init.normal_(layer.weight, std=0.1)
    return made


def test_a_stage_that_joins_changes_nothing_at_first() -> None:
    model, tokens = stack(), torch.randint(0, 128, (2, 64))
    residual = [stage for stage in model if isinstance(stage, ResidualStage)]
    residual[-1].zero_branches()
    shallow = planned_forward(model, tokens, StepPlan(depth=len(residual) - 1))
    torch.testing.assert_close(shallow, model(tokens))
    assert not torch.equal(shallow, planned_forward(model, tokens, StepPlan(depth=0)))


def test_a_run_that_grows_begins_with_silent_stages() -> None:
    config = config_of("code", model="convolution", intensity="depth-growth")
    loop = TrainingLoop(config, Controls(), still)
    residual = [stage for stage in loop.model if isinstance(stage, ResidualStage)]
    last = residual[-1].last_layers()[0]
    assert float(last.weight.detach().abs().sum() + last.bias.detach().abs().sum()) == 0


@pytest.mark.parametrize("model", ["transformer", "convolution"])
def test_a_detached_branch_has_no_gradient_and_the_rest_have_theirs(model: str) -> None:
    network, tokens = stack("code", model), torch.randint(0, 128, (2, 64))
    anatomy = structure_of(network)
    lost = sum(anatomy.branches) - 1
    plan = StepPlan(detached=(lost,))
    whole, partly = network(tokens), planned_forward(network, tokens, plan)
    torch.testing.assert_close(partly, whole)  # the forward pass is the same
    torch.autograd.backward(partly.square().mean())
    reached = sum(p.numel() for p in network.parameters() if p.grad is not None)
    assert reached == count_trained_parameters(network, plan)
    assert reached < sum(p.numel() for p in network.parameters())


def test_detaching_every_branch_saves_two_thirds_of_them() -> None:
    network, tokens = stack(), torch.randint(0, 128, (2, 64))
    branches = sum(structure_of(network).branches)

    def cost(plan: StepPlan) -> float:
        return count_step_flops(network, lambda m: planned_forward(m, tokens, plan).mean((1, 2)))

    head = 3 * 2 * 2 * 64 * 32 * 128  # forward and backward of the last layer, never detached
    body = cost(FULL_PLAN) - head
    everything = StepPlan(detached=tuple(range(branches)))
    assert cost(everything) - head == pytest.approx(body / 3, rel=1e-6)


def test_branches_are_dropped_in_a_round_of_few_patterns() -> None:
    policy = resolve({"task": "code", "update": "drop-backward", "drop_share": 0.5})
    loop = TrainingLoop(dataclasses.replace(policy, device="cpu", size="small"), Controls(), still)
    anatomy = loop.train_step.structure
    plans = [
        loop.train_step.update_policy.plan(StepProgress(0.5, step, anatomy)) for step in range(64)
    ]
    assert all(len(plan.detached) == 2 for plan in plans)
    assert 1 < len(set(plans)) <= 8
    assert plans[:8] == plans[8:16]
    assert {place for plan in plans for place in plan.detached} == {0, 1, 2, 3}


@given(st.integers(1, 12), st.floats(0, 1))
def test_every_branch_is_trained_equally_often(branches: int, share: float) -> None:
    policy = DropBackward(drop_share=share)
    anatomy = ModelStructure(3, (branches,))
    plans = [policy.plan(StepProgress(0.5, step, anatomy)) for step in range(branches)]
    assert plans == [
        policy.plan(StepProgress(0.5, 7 * branches + s, anatomy)) for s in range(branches)
    ]
    trained = Counter(b for plan in plans for b in range(branches) if b not in plan.detached)
    if share < 1:
        assert len({trained[branch] for branch in range(branches)}) == 1
    else:
        assert not trained


# Whole steps -----------------------------------------------------------------------------


@given(st.lists(st.sampled_from([0.5, 1.0, 2.0, float("inf")]), max_size=20), st.floats(0, 0.9))
def test_the_batches_of_the_lowest_loss_are_skipped_and_none_that_is_new(
    losses: list[float], share: float
) -> None:
    out = SkipStep(step_share=share).skipped_batches(np.array(losses))
    known = [loss for loss in losses if loss != float("inf")]
    assert out.sum() == min(int(share * len(losses)), len(known))
    chosen = [loss for loss, skipped in zip(losses, out, strict=True) if skipped]
    assert sorted(chosen) == sorted(known)[: len(chosen)]


def test_skipped_steps_are_considered_and_cost_nothing() -> None:
    config = config_of("digits", model="mlp", update="skip-step", budget=None, epochs=3)
    start, *_ = train(config, clock=still)
    end = ended(config)
    assert isinstance(start, RunStart)
    a_pass = start.n_train // config.batch_size
    assert end.examples_considered == 3 * start.n_train
    skipped = 2 * int(0.25 * a_pass)  # the first pass knows nothing yet
    steps = end.examples_trained // config.batch_size
    assert abs(steps - (3 * start.n_train // config.batch_size - skipped)) <= 1
    deciding = 3 * start.n_train  # the batches' mean losses
    assert end.flops_spent == steps * config.batch_size * start.flops_per_example + deciding


# Features of frozen stages ---------------------------------------------------------------


def test_what_frozen_stages_make_is_computed_once_where_nothing_is_augmented() -> None:
    settings: dict[str, Any] = {"update": "prefix-freeze", "freeze_after": 0.3, "model": "mlp"}
    settings |= {"budget": None, "epochs": 8, "frozen_share": 0.6}
    config = config_of("tabular-cancer", **settings)
    loop = TrainingLoop(config, Controls(), still)
    list(loop.run())
    assert loop.train_step.cached_features_NF is not None
    model = loop.model
    inputs, _ = loop.task.batch(torch.arange(loop.n), torch.Generator())
    with torch.no_grad():
        expected = planned_forward(torch.nn.Sequential(*list(model)[:2]), inputs, FULL_PLAN)
    torch.testing.assert_close(loop.train_step.cached_features_NF, expected)
    # From then on a step costs the last layer alone: forward, and its weights' gradient.
    head = 2 * config.batch_size * 2 * 16 * 2
    optimizer = 14 * (16 * 2 + 2)
    assert loop.train_step.step_cost == (head, optimizer)


def test_augmented_examples_are_computed_anew_each_time() -> None:
    config = config_of("digits", model="mlp", update="prefix-freeze", freeze_after=0.1)
    loop = TrainingLoop(config, Controls(), still)
    list(loop.run())
    assert loop.train_step.plan.frozen > 0
    assert loop.train_step.cached_features_NF is None


def test_features_are_forgotten_once_their_stages_train_again() -> None:
    config = config_of("tabular-cancer", update="prefix-freeze", frozen_share=0.6)
    loop = TrainingLoop(config, Controls(), still)
    loop.train_step.adopt_plan(StepPlan(frozen=2))
    loop.train_step.cache_features()
    assert loop.train_step.cached_features_NF is not None
    loop.train_step.adopt_plan(StepPlan(frozen=1))
    assert loop.train_step.cached_features_NF is None


# A coarser photograph --------------------------------------------------------------------


def test_a_coarse_photograph_has_a_quarter_of_the_pixels_and_their_means() -> None:
    task = TASKS.get("photo")(0, CPU)
    corner_N = task.active_mask(0.5)
    assert corner_N is not None
    assert int(corner_N.sum()) * 4 == task.n_train
    assert task.active_mask(0.8) is None
    everything = torch.arange(task.n_train)
    xy, rgb = task.batch(everything, torch.Generator())
    coarse_xy, coarse_rgb = task.reduce_batch(everything, xy, rgb, 0.5)
    torch.testing.assert_close(coarse_rgb.mean(0), rgb.mean(0))
    first = torch.tensor([0, 1, 384, 385])  # the first cell, in a picture 384 pixels wide
    torch.testing.assert_close(coarse_rgb[first], rgb[first].mean(0).expand(4, 3))
    torch.testing.assert_close(coarse_xy[first], xy[first].mean(0).expand(4, 2))


def test_a_run_on_the_coarse_photograph_draws_its_cells_and_then_all_pixels() -> None:
    settings: dict[str, Any] = {"intensity": "resolution", "batch_size": 8192, "budget": None}
    config = config_of("photo", epochs=4, full_size_after=0.5, **settings)
    events = list(train(config, clock=still))
    drawn = [event.n_drawn for event in events if isinstance(event, EpochDrawEvent)]
    pixels = 256 * 384
    assert drawn[0] == pixels // 4
    assert drawn[-1] == pixels
    assert min(drawn) == pixels // 4
    end = events[-1]
    assert isinstance(end, RunEnd)
    assert 0.2 < end.skipped_compute_frac < 0.5


def test_what_would_fill_the_memory_is_not_kept_nor_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stepper_module, "_MAX_FEATURE_BYTES", 1)
    config = config_of("tabular-cancer", update="prefix-freeze", frozen_share=0.6)
    loop = TrainingLoop(config, Controls(), still)
    loop.train_step.adopt_plan(StepPlan(frozen=2))
    assert loop.train_step.should_cache_features(1e9)
    assert loop.train_step.cache_features() > 0
    assert loop.train_step.cached_features_NF is None
    assert not loop.train_step.should_cache_features(1e9)
