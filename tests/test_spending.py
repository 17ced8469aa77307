"""What a run spends: exactly what its steps and selection cost, and never beyond its budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from effcore.config import ConfigError
from effcore.knobs import Controls
from effcore.policies.selection.base import SELECTIONS
from effcore.records import (
    EpochDrawEvent,
    KnobChange,
    RunEnd,
    RunStart,
    StepEvent,
)
from effcore.testing.tiny_task import tiny_task
from effcore.training.ledger import optimizer_flops
from effcore.training.trainer import train
from effcore.training.training_loop import TrainingLoop
from tests.tiny_runs import WISHES, ended, of, rows_of, steered, still, tiny_config, trained

pytestmark = pytest.mark.usefixtures("few_looks")


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def test_dense_skips_exactly_nothing() -> None:
    for settings_ in ({"epochs": 3}, {"epochs": 5, "budget": 0.37}):
        end = ended(tiny_config(selection="dense", **settings_))
        assert end.skipped_compute_frac == 0.0
        assert end.flops_spent == end.flops_dense


def test_a_budget_that_pays_for_no_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"budget=0.5 is not allowed here.*at least 1"):
        trained(dataclasses.replace(tiny_config(epochs=1, batch_size=200), budget=0.5))


#: Policies that cost something when they decide, and nothing in between.
DECIDING = ["confident-skip", "auto", "dense", "random", "infobatch", "stale-pps", "mastered"]


@settings(max_examples=25)
@given(st.sampled_from(DECIDING), st.sampled_from([None, 0.6, 1.0]), st.integers(2, 5))
def test_what_is_spent_is_steps_and_selection(
    policy: str, budget: float | None, epochs: int
) -> None:
    config = tiny_config(selection=policy, budget=budget, epochs=epochs)
    events = trained(config)
    start, end = events[0], events[-1]
    assert isinstance(start, RunStart)
    assert isinstance(end, RunEnd)
    per_pass = SELECTIONS.get(policy)().decision_flops(start.n_train)
    selecting = per_pass * len(of(EpochDrawEvent, events))
    steps = len(of(StepEvent, events))
    step_flops = start.flops_per_example * config.batch_size
    assert end.flops_spent == pytest.approx(steps * step_flops + selecting, rel=1e-12)
    assert end.examples_trained == steps * config.batch_size
    assert start.flops_dense == epochs * start.n_train // config.batch_size * step_flops
    rows = rows_of(events)
    assert list(rows["step"]) == list(range(1, steps + 1))
    assert rows["flops"][-1] <= end.flops_spent
    np.testing.assert_allclose(
        rows["flops"], rows["step"] * step_flops + rows["selection_flops"], rtol=1e-12
    )


def test_a_step_costs_what_the_formulas_say() -> None:
    start = next(iter(train(tiny_config(batch_size=10))))
    assert isinstance(start, RunStart)
    # Forward 2·B·(2·16 + 16·2), backward twice that without the gradient of the inputs.
    forward, first_layer = 2 * 10 * (2 * 16 + 16 * 2), 2 * 10 * 2 * 16
    n_parameters = 2 * 16 + 16 + 16 * 2 + 2
    matmul = 3 * forward - first_layer
    assert start.n_parameters == n_parameters
    assert start.flops_per_example * 10 == matmul + optimizer_flops("adamw", n_parameters)


def bounds(policy: str) -> tuple[float, float]:
    """The least budget a policy can begin with, and what it may need besides a step, FLOPs."""
    cls = SELECTIONS.get(policy)
    config = tiny_config(selection=policy)
    start = next(iter(train(config)))
    assert isinstance(start, RunStart)
    forward = start.flops_per_example / 2  # more than a third, for all of it is no product
    count = cls().scoring_batch_size(16)
    scoring = count * forward + cls().choosing_flops(count) if count > 16 else 0.0
    slack = cls().decision_flops(start.n_train) + scoring + 100.0
    others = 0.5 if cls.needs_irreducible else 0.0
    return (slack + 16 * start.flops_per_example) / start.flops_dense + others, slack


@settings(max_examples=30)
@given(st.sampled_from(SELECTIONS.ids()), st.floats(0.05, 1.0), st.integers(0, 3), WISHES)
def test_a_budget_is_never_exceeded_and_used_up_to_one_step(
    policy: str, budget: float, seed: int, wishes: list[tuple[int, tuple[str, float]]]
) -> None:
    config = tiny_config(selection=policy, budget=budget, seed=seed)
    if policy != "confident-skip":
        wishes = []
    (least, slack) = bounds(policy)
    assume(budget > least)
    start = next(iter(train(config)))
    assert isinstance(start, RunStart)
    assert start.flops_end == budget * start.flops_dense
    _, end = steered(config, [(step, *value) for step, value in wishes])
    step_flops = start.flops_per_example * config.batch_size
    assert end.flops_spent <= start.flops_end * (1 + 1e-9)
    # Deciding and scoring cost something too, and may leave no room for a step.
    assert end.flops_spent > start.flops_end - step_flops - slack


def test_a_knob_moved_at_the_last_step_does_not_exceed_the_budget() -> None:
    start = next(iter(train(tiny_config())))
    assert isinstance(start, RunStart)
    five_steps = 5 * 16 * start.flops_per_example
    one_decision = SELECTIONS.get("confident-skip")().decision_flops(start.n_train)
    budget = (five_steps + one_decision) / start.flops_dense * (1 + 1e-9)
    changes, end = steered(tiny_config(budget=budget), [(5, "mass", 0.9)])
    assert changes == [KnobChange(5, "mass", 0.9)]
    assert end.flops_spent == five_steps + one_decision


@pytest.mark.parametrize("policy", ["confident-skip", "selective-backprop"])
def test_a_budget_pays_at_least_for_a_step_its_decision_and_its_scoring(policy: str) -> None:
    config = tiny_config(selection=policy)
    loop, own = TrainingLoop(config, Controls(), still), SELECTIONS.get(policy)()
    count = own.scoring_batch_size(config.batch_size)
    least = loop.ledger.step_flops + own.decision_flops(loop.n)
    if count > config.batch_size:
        least += loop.train_step.scoring_flops(count)
    share = least / loop.run_progress.dense_run_flops
    too_little = dataclasses.replace(config, budget=share * (1 - 1e-6))
    with pytest.raises(ConfigError, match="one batch costs more than that"):
        TrainingLoop(too_little, Controls(), still)
    enough = TrainingLoop(
        dataclasses.replace(too_little, budget=share * (1 + 1e-6)), Controls(), still
    )
    assert enough.run_progress.flops_end == pytest.approx(least, rel=1e-5)


def test_models_trained_beforehand_are_spent_and_no_progress() -> None:
    events = trained(tiny_config(selection="rho-loss", budget=1.0, epochs=4))
    start, steps = events[0], [event for event in of(StepEvent, events) if event.step]
    assert isinstance(start, RunStart)
    assert start.flops_end is not None
    assert rows_of(events)["flops"][0] > 0.15 * start.flops_end, "they cost something"
    assert 0 < steps[0].progress < 0.1
    assert 0.9 < steps[-1].progress <= 1.0


def test_a_decision_that_the_budget_does_not_pay_for_is_not_taken() -> None:
    loop = TrainingLoop(tiny_config(budget=0.5), Controls(), still)
    progress, step = loop.run_progress, loop.ledger.step_flops
    assert progress.flops_end is not None
    decision = progress.decision_flops()
    assert decision > 0
    loop.ledger.counted_flops = progress.flops_end - step - 0.5 * decision
    assert not progress.budget_exhausted()
    assert progress.budget_exhausted(decision)
    assert progress.is_over()


def test_what_observing_a_step_costs_is_part_of_it() -> None:
    loop = TrainingLoop(tiny_config(budget=0.5), Controls(), still)
    progress, step = loop.run_progress, loop.ledger.step_flops
    assert progress.flops_end is not None
    loop.ledger.counted_flops = progress.flops_end - step - 50.0
    assert not progress.budget_exhausted()
    progress.batch_end_flops = 100.0
    assert progress.budget_exhausted()


def test_the_mean_losses_of_batches_to_skip_are_part_of_a_decision() -> None:
    loop = TrainingLoop(tiny_config(update="skip-step"), Controls(), still)
    own = loop.sampler.policy.decision_flops(loop.n)
    assert loop.run_progress.decision_flops() == own + loop.n


def test_a_budget_buys_more_passes_where_examples_are_skipped() -> None:
    dense = ended(tiny_config(selection="dense", budget=0.5, epochs=10))
    skipping = ended(tiny_config(mass=0.8, budget=0.5, epochs=10))
    assert dense.examples_considered == 62 * 16  # of 125 steps in all, half
    assert skipping.passes > dense.passes
    assert skipping.skipped_compute_frac > 0
