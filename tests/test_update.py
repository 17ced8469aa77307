from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from effcore.config import resolve
from effcore.knobs import Controls
from effcore.policies.update.every_step import EveryStep
from effcore.policies.update.prefix_freeze import PrefixFreeze
from effcore.records import EpochDrawEvent, RunStart
from effcore.records.step_plan import FULL_PLAN, ModelStructure, StepPlan, StepProgress
from effcore.tasks.base import TASKS, make_model, make_task
from effcore.testing.tiny_task import tiny_task
from effcore.training.ledger import count_flops, count_step_flops, optimizer_flops
from effcore.training.planned_forward import (
    count_trained_parameters,
    planned_forward,
    set_train_mode,
)
from effcore.training.trainer import train
from effcore.training.training_loop import TrainingLoop
from tests.tiny_runs import ended, steered, still, tiny_config

CPU = torch.device("cpu")
MODELS = [(task.id, choice.id) for task in TASKS for choice in task.models]


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def stack() -> nn.Sequential:
    """Three stages, the first of them with normalisation."""
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
    return nn.Sequential(first, nn.Sequential(nn.Linear(8, 8), nn.ReLU()), nn.Linear(8, 2))


def moment(progress: float, stages: int) -> StepProgress:
    return StepProgress(progress, 0, ModelStructure(stages))


# Plans -----------------------------------------------------------------------------------


@given(st.floats(0, 0.95), st.floats(0, 1), st.floats(0, 1), st.integers(1, 30))
def test_a_plan_freezes_the_nearest_share_once_it_is_time(
    share: float, after: float, progress: float, stages: int
) -> None:
    frozen = (
        PrefixFreeze(frozen_share=share, freeze_after=after).plan(moment(progress, stages)).frozen
    )
    assert frozen < stages
    if progress < after:
        assert frozen == 0
    else:
        assert abs(frozen - min(share * stages, stages - 1)) <= 0.5


def test_every_step_leaves_nothing_out() -> None:
    assert EveryStep().plan(moment(0.9, 5)) is FULL_PLAN


# One step --------------------------------------------------------------------------------


def test_frozen_stages_have_no_gradient_and_keep_parameters_and_statistics() -> None:
    model = stack()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)
    inputs = torch.rand(16, 4)
    for _ in range(3):  # so that there is momentum which could move them
        EveryStep().update(
            planned_forward(model, inputs, FULL_PLAN).square().mean(), model, optimizer, 0.0
        )
    before, plan = copy.deepcopy(model.state_dict()), StepPlan(1)
    set_train_mode(model, plan)
    EveryStep().update(planned_forward(model, inputs, plan).square().mean(), model, optimizer, 0.0)
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert [g is None for name, g in gradients.items() if name.startswith("0.")] == [True] * 4
    assert all(g is not None for name, g in gradients.items() if not name.startswith("0."))
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("0."), name


def test_a_frozen_stage_computes_what_it_would_in_evaluation() -> None:
    model, inputs = stack(), torch.rand(16, 4)
    plan = StepPlan(1)
    set_train_mode(model, plan)
    assert [stage.training for stage in model] == [False, True, True]
    expected = model(inputs)
    torch.testing.assert_close(planned_forward(model, inputs, plan), expected)
    set_train_mode(model, FULL_PLAN)
    assert all(stage.training for stage in model)


@pytest.mark.parametrize(("task", "model"), MODELS, ids=[f"{t}-{m}" for t, m in MODELS])
def test_freezing_costs_as_much_less_as_there_is_no_backward(task: str, model: str) -> None:
    """What a step with frozen stages costs: theirs forward, all of it for the others."""
    config = resolve({"task": task, "model": model, "size": "small", "device": "cpu"})
    work = make_task(config)
    network = make_model(work, config)
    inputs, targets = work.batch(torch.arange(4), torch.Generator().manual_seed(0))

    def cost_of(frozen: int) -> float:
        plan = StepPlan(frozen)
        return count_step_flops(
            network, lambda m: work.losses(planned_forward(m, inputs, plan), targets)
        )

    costs = [cost_of(frozen) for frozen in range(len(network))]
    # Every stage has parameters whose gradient costs something, or makes that of the next
    # one's inputs necessary: all but an embedding before a normalisation, which is looked up
    # and not multiplied. What is left at the end is the last stage's own.
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs[1:])) == len(costs) - 1
    assert costs[-1] < costs[0]
    with torch.no_grad():
        forward_only = count_flops(lambda: network(inputs))
        head_only = count_flops(lambda: network[-1](network[:-1](inputs))) - count_flops(
            lambda: network[:-1](inputs)
        )
    normalised = not isinstance(network[-1], nn.Linear)  # its inputs' gradient is needed, too
    assert costs[-1] == forward_only + head_only * (2 if normalised else 1)
    counts = [count_trained_parameters(network, StepPlan(k)) for k in range(len(network) + 1)]
    assert counts[0] == sum(p.numel() for p in network.parameters())
    assert counts[-1] == 0


# A whole run -----------------------------------------------------------------------------


def test_a_run_is_billed_for_what_each_of_its_steps_did() -> None:
    config = tiny_config(selection="dense", update="prefix-freeze", epochs=4, batch_size=10)
    start, *_ = train(config, clock=still)
    end = ended(config)
    assert isinstance(start, RunStart)
    # One stage of two is frozen, the first layer. What is left is the second layer's forward
    # and its weights' gradient; the first layer runs forward.
    layer = 2 * 10 * 2 * 16
    full = start.flops_per_example * 10
    assert full == 5 * layer + optimizer_flops("adamw", 2 * 16 + 16 + 16 * 2 + 2)
    frozen = 3 * layer + optimizer_flops("adamw", 16 * 2 + 2)
    steps = 4 * 20
    assert end.flops_spent == 48 * full + (steps - 48) * frozen
    assert end.flops_dense == steps * full


def test_stages_may_be_frozen_and_freed_by_hand_and_the_run_repeats() -> None:
    config = tiny_config(update="prefix-freeze", epochs=4, freeze_after=1.0)
    wishes = [(5, "freeze_after", 0.0), (20, "frozen_share", 0.0), (30, "frozen_share", 0.9)]
    changes, end = steered(config, wishes)
    assert [change.name for change in changes] == [name for _, name, _ in wishes]
    assert end.flops_spent < ended(config).flops_spent
    again = ended(dataclasses.replace(config, changes=tuple(changes)))
    assert again.parameters_sha256 == end.parameters_sha256
    assert again.flops_spent == end.flops_spent


def test_freezing_by_hand_decides_nothing_anew() -> None:
    config = tiny_config(update="prefix-freeze", freeze_after=1.0)
    changes, end = steered(config, [(5, "freeze_after", 0.9)])
    assert len(changes) == 1
    events = list(train(dataclasses.replace(config, changes=tuple(changes)), clock=still))
    decisions = [event for event in events if isinstance(event, EpochDrawEvent)]
    assert [event.epoch_index for event in decisions] == [0, 1, 2]
    assert end == events[-1]


def test_a_look_at_the_model_leaves_frozen_stages_frozen() -> None:
    config = tiny_config(update="prefix-freeze", freeze_after=0.0, frozen_share=0.4)
    loop = TrainingLoop(config, Controls(), still)
    loop.train_step.adopt_plan(StepPlan(1))
    loop.train_step.evaluate("validation")
    assert [stage.training for stage in loop.model] == [False, True]
    loop.reporter.view_event()
    assert [stage.training for stage in loop.model] == [False, True]
