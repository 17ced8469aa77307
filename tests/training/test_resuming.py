"""A run that is left and taken up again ends where one never left does, to the bit."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from effcore.config import incompatibility, resolve
from effcore.knobs import Controls
from effcore.policies.combination import DENSE_POLICIES, POLICY_REGISTRIES, PolicyCombination
from effcore.records import RunConfig, StepEvent
from effcore.records.settings import Settings
from effcore.tasks.base import TASKS
from effcore.testing import check_resumes
from effcore.testing.tiny_task import tiny_task
from effcore.training.checkpoint import Checkpoint
from effcore.training.checkpoint_tensors import copy_state_to_host
from effcore.training.training_loop import TrainingLoop
from tests.tiny_runs import FEW_STEPS, still

MODELS = [(task.id, choice.id) for task in TASKS for choice in task.models]
#: Models that train fast, of which a policy is tried on the first that it goes with.
QUICK = [("tiny", "mlp"), ("tabular-wine", "resnet"), ("digits", "cnn")]
MANY = 1000  # examples
IDS = {kind: registry.ids() for kind, registry in POLICY_REGISTRIES.items()}


def fits(policies: PolicyCombination, task: str, model: str) -> bool:
    return incompatibility(policies, task, TASKS.get(task).model_choice(model), "small") is None


#: What some model can be trained with.
FITTING = [
    policies
    for policies in itertools.starmap(PolicyCombination, itertools.product(*IDS.values()))
    if any(fits(policies, *pair) for pair in MODELS)
]


def pairs_of(policies: PolicyCombination) -> set[tuple[str, str]]:
    return set(itertools.combinations(policies, 2))


def stacked() -> list[PolicyCombination]:
    """Few of them in which any two policies come together that do in one of all."""
    chosen: list[PolicyCombination] = []
    left = set[tuple[str, str]]().union(*map(pairs_of, FITTING))
    while left:
        chosen.append(max(FITTING, key=lambda policies: len(pairs_of(policies) & left)))
        left -= pairs_of(chosen[-1])
    return chosen


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def small(policies: PolicyCombination, task: str, model: str, **settings: Any) -> RunConfig:
    words: Settings = {"task": task, "model": model, "size": "small", "device": "cpu", "threads": 1}
    return resolve({**words, **policies._asdict(), **settings})


def check_policies(policies: PolicyCombination, **settings: Any) -> None:
    """Check the first model that there is for the policies, a slow one in a few steps."""
    fitting = (pair for pair in (*QUICK, *MODELS) if fits(policies, *pair))
    task, model = next(fitting, (None, None))
    if task is None or model is None:  # what no model is trained with, no run is left with
        return
    n = TASKS.get(task).count_examples(TASKS.get(task).settings())
    if n < MANY:
        check_resumes(small(policies, task, model, epochs=6, batch_size=n // 4 - 1, **settings))
    else:  # so short a budget that everything that grows does so within these steps
        prepared = POLICY_REGISTRIES["selection"].get(policies.selection).needs_irreducible
        budget = None if prepared else 40 / n
        short = small(policies, task, model, epochs=2, batch_size=8, budget=budget)
        check_resumes(short, leave_after=2, until=4)


@pytest.mark.parametrize("selection", IDS["selection"])
def test_every_selection_policy_is_taken_up_where_it_was(selection: str) -> None:
    check_policies(PolicyCombination(selection))


@pytest.mark.parametrize("update", IDS["update"])
def test_every_update_policy_is_taken_up_where_it_was(update: str) -> None:
    check_policies(PolicyCombination("auto", update=update))


@pytest.mark.parametrize("intensity", IDS["intensity"])
def test_every_intensity_policy_is_taken_up_where_it_was(intensity: str) -> None:
    check_policies(PolicyCombination("dense", intensity=intensity))


def test_every_number_that_a_run_counts_comes_back() -> None:
    config = small(DENSE_POLICIES, "tiny", "mlp")
    loop = TrainingLoop(config, Controls(), still)
    next(event for event in loop.run() if isinstance(event, StepEvent))
    loop.empty_epochs, loop.decide_again, loop.steps_before_epoch = 3, True, 7
    counts = loop.run_progress
    counts.progress, counts.considered, counts.batch_end_flops, counts.preparation_flops = (
        0.25,
        48,
        5.0,
        9.0,
    )
    loop.sampler.lr_multiplier, loop.sampler.redecide_progress = 1.5, 0.75
    augmenting = loop.train_step._augmentation_generator
    torch.rand(3, generator=augmenting)
    ledger = dataclasses.asdict(loop.ledger)
    assert min(ledger[name] for name in ("steps", "counted_flops", "analytic_flops")) > 0
    again = TrainingLoop(
        config, Controls(), still, Checkpoint(1, 0.0, copy_state_to_host(loop.state()))
    )
    assert (again.empty_epochs, again.decide_again, again.steps_before_epoch) == (3, True, 7)
    kept = again.run_progress
    assert (kept.progress, kept.considered, kept.batch_end_flops, kept.preparation_flops) == (
        0.25,
        48,
        5.0,
        9.0,
    )
    assert (again.sampler.lr_multiplier, again.sampler.redecide_progress) == (1.5, 0.75)
    assert dataclasses.asdict(again.ledger) == ledger
    drawn = [
        torch.rand(3, generator=each)
        for each in (augmenting, again.train_step._augmentation_generator)
    ]
    assert torch.equal(*drawn)


@pytest.mark.slow
@pytest.mark.parametrize("policies", stacked(), ids="+".join)
def test_policies_on_top_of_each_other(policies: PolicyCombination) -> None:
    check_policies(policies, budget=0.6)


@pytest.mark.parametrize("task", TASKS.ids())
def test_every_task_is_taken_up_where_it_was(task: str) -> None:
    model = TASKS.get(task).models[-1].id
    check_resumes(small(DENSE_POLICIES, task, model, batch_size=8), leave_after=1, until=3)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "model"), MODELS, ids=[f"{t}-{m}" for t, m in MODELS])
def test_every_model_is_taken_up_where_it_was(task: str, model: str) -> None:
    policies = PolicyCombination("stale-pps", "prefix-freeze")
    few = FEW_STEPS.get(task, {})
    check_resumes(small(policies, task, model, budget=0.3, epochs=2, optimizer="sgd", **few))
