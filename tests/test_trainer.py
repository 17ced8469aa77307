"""The trainer: equal to a plain loop, repeatable, and what it yields on every way it ends."""

from __future__ import annotations

import dataclasses
import itertools
import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effcore.bench.step_overhead import reference_loop
from effcore.config import resolve
from effcore.knobs import Controls
from effcore.policies.selection.base import SELECTIONS
from effcore.records import (
    EpochDrawEvent,
    EvalEvent,
    KnobChange,
    LossHistogram,
    RunConfig,
    RunEnd,
    RunStart,
    RunStatus,
    StepEvent,
    ViewEvent,
)
from effcore.runs.reproduce import config_to_command, parse_knob_change
from effcore.testing.tiny_task import TinyTask, tiny_task
from effcore.training import reporter
from effcore.training.optimizer import learning_rate_factor, parameters_sha256
from effcore.training.trainer import train
from tests.tiny_runs import WISHES, ended, of, rows_of, steered, still, tiny_config, trained

STEPS_A_PASS = TinyTask.n_train // 16


pytestmark = pytest.mark.usefixtures("few_looks")


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


# The plain loop --------------------------------------------------------------------------

PLAIN = {
    "tiny, carried examples": {"task": "tiny", "epochs": 3},
    "tiny, sgd": {"task": "tiny", "epochs": 2, "optimizer": "sgd"},
    "digits mlp, carried examples": {"task": "digits", "model": "mlp", "epochs": 2},
    "digits cnn": {"task": "digits", "model": "cnn", "epochs": 1, "batch_size": 256},
    "photo": {"task": "photo", "epochs": 1, "batch_size": 1024},
}


@pytest.mark.parametrize("raw", PLAIN.values(), ids=list(PLAIN))
def test_dense_equals_a_plain_loop_to_the_bit(raw: dict[str, Any]) -> None:
    config = resolve({**raw, "selection": "dense", "device": "cpu", "threads": 1, "seed": 3})
    steps = 3 if config.task == "photo" or config.model == "cnn" else None
    *_, model = reference_loop(config, until=steps)
    assert after(config, steps).parameters_sha256 == parameters_sha256(model)


def after(config: RunConfig, steps: int | None) -> RunEnd:
    """Train for so many steps, or to the end."""
    controls = Controls()
    for event in train(config, controls, still):
        if isinstance(event, StepEvent) and event.step == steps:
            controls.request_stop()
        if isinstance(event, RunEnd):
            return event
    raise AssertionError("a run ends with its RunEnd")


# Repeatable ------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", SELECTIONS.ids())
@pytest.mark.parametrize("budget", [None, 0.6])
def test_two_runs_are_bit_identical(policy: str, budget: float | None) -> None:
    config = tiny_config(selection=policy, budget=budget)
    first, again = ended(config), ended(config)
    assert first == again
    other = ended(dataclasses.replace(config, seed=1))
    assert other.parameters_sha256 != first.parameters_sha256


def test_what_is_shown_does_not_depend_on_the_clock_nor_change_the_run() -> None:
    config = tiny_config()
    ticks = itertools.count()
    *_, hurried = train(config, clock=lambda: float(next(ticks)))
    assert isinstance(hurried, RunEnd)
    assert hurried.parameters_sha256 == ended(config).parameters_sha256


def test_training_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    ended(tiny_config(selection="random"))
    assert torch.equal(state, torch.get_rng_state())


def replayed(config: RunConfig, changes: list[KnobChange]) -> RunConfig:
    """The configuration that the printed command of a steered run stands for."""
    words = config_to_command(config, changes, sys.maxsize).replace("'", "").split()
    texts = [value for word, value in itertools.pairwise(words) if word == "--set"]
    return dataclasses.replace(config, changes=tuple(parse_knob_change(text) for text in texts))


@settings(max_examples=25)
@given(WISHES, st.sampled_from([None, 0.4]), st.integers(0, 3))
def test_a_steered_run_is_repeated_by_its_command(
    wishes: list[tuple[int, tuple[str, float]]], budget: float | None, seed: int
) -> None:
    config = tiny_config(budget=budget, seed=seed)
    changes, end = steered(config, [(step, *value) for step, value in wishes])
    assert ended(replayed(config, changes)) == end
    again, _ = steered(replayed(config, changes), [])
    assert again == changes


def test_a_change_at_a_pass_boundary_is_replayed_and_matters() -> None:
    config = tiny_config(mass=0.2, revisit=4)
    wishes = [(STEPS_A_PASS, "mass", 0.9), (STEPS_A_PASS, "revisit", 32)]
    changes, end = steered(config, wishes)
    assert changes == [KnobChange(12, "mass", 0.9), KnobChange(12, "revisit", 32)]
    assert ended(replayed(config, changes)) == end
    assert end.parameters_sha256 != ended(config).parameters_sha256


def test_several_changes_in_one_step_are_taken_in_their_order() -> None:
    config = tiny_config()
    wishes = [(5, "mass", 0.9), (5, "loss_threshold", 0.5), (5, "mass", 0.3), (5, "mass", 0.4)]
    changes, end = steered(config, wishes)
    assert changes == [KnobChange(5, "loss_threshold", 0.5), KnobChange(5, "mass", 0.4)]
    assert ended(replayed(config, changes)) == end


def test_a_change_asked_for_before_the_start_is_in_force_from_the_first_batch() -> None:
    controls = Controls()
    controls.request_value("mass", 0.9)
    events = list(train(tiny_config(), controls, still))
    assert of(KnobChange, events) == [KnobChange(0, "mass", 0.9)]


def test_a_replayed_run_can_be_steered_on() -> None:
    config = tiny_config(changes=[KnobChange(5, "mass", 0.6), KnobChange(20, "revisit", 8)])
    changes, end = steered(config, [(5, "mass", 0.1), (30, "mass", 0.9)])
    assert [c.step for c in changes] == [5, 20, 30]
    assert ended(replayed(config, changes)) == end


# What is yielded -------------------------------------------------------------------------


def test_a_run_tells_its_start_steps_looks_and_end() -> None:
    events = trained(tiny_config(selection="dense", epochs=4))
    assert isinstance(events[0], RunStart)
    assert isinstance(events[-1], RunEnd)
    steps = of(StepEvent, events)
    assert [event.step for event in steps] == list(range(1, 51))
    progress = [event.progress for event in steps]
    assert progress == sorted(progress)
    assert progress[-1] == pytest.approx(1)
    looks = of(EvalEvent, events)
    assert looks[0].step == 0
    assert looks[-1].step == 50
    assert len(looks) == reporter.EVALUATIONS + 2
    assert [event.epoch_index for event in of(EpochDrawEvent, events)] == [0, 1, 2, 3]
    assert of(LossHistogram, events)[-1].n_unseen == 0
    assert set(of(ViewEvent, events)[-1].items) == set(TinyTask.captions)


def test_pass_events_say_who_is_drawn() -> None:
    events = trained(tiny_config(mass=0.5, epochs=6))
    for event in of(EpochDrawEvent, events):
        bits = np.unpackbits(event.drawn_bits)[: TinyTask.n_train]
        assert bits.sum() == event.n_drawn
    drawn = [event.n_drawn for event in of(EpochDrawEvent, events)]
    assert drawn[0] == TinyTask.n_train  # nothing was seen yet, so nothing is easy
    assert drawn[-1] < TinyTask.n_train


def test_the_end_is_judged_on_the_test_split_once(monkeypatch: pytest.MonkeyPatch) -> None:
    splits: list[str] = []
    evaluate = TinyTask.evaluate

    def noted(self: TinyTask, model: torch.nn.Module, split: str) -> Any:
        splits.append(split)
        return evaluate(self, model, split)

    monkeypatch.setattr(TinyTask, "evaluate", noted)
    end = ended(tiny_config())
    assert splits.count("test") == 1
    assert splits[-1] == "test"
    assert end.metric is not None
    assert 0 <= end.metric <= 1


def test_learning_rates_warm_up_peak_and_decay_over_the_run() -> None:
    for raw in ({"epochs": 20}, {"epochs": 20, "budget": 0.5}):
        config = tiny_config(**raw)
        rates = rows_of(trained(config))["learning_rate"]
        peak = int(rates.argmax())
        assert 0 < rates[0] < rates[peak] <= config.learning_rate
        assert rates[peak] > 0.9 * config.learning_rate
        assert (np.diff(rates[:peak]) > 0).all()
        assert (np.diff(rates[peak:]) < 0).all()
        assert 0 < rates[-1] < 0.05 * config.learning_rate


def test_a_policy_s_factor_multiplies_the_learning_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(selection="dense")
    halved = ended(dataclasses.replace(config, learning_rate=config.learning_rate / 2))
    rates = rows_of(trained(config))["learning_rate"]
    monkeypatch.setattr(
        SELECTIONS.get("dense"), "lr_multiplier", lambda self, drawn_fraction: drawn_fraction / 2
    )
    np.testing.assert_array_equal(rows_of(trained(config))["learning_rate"], rates / 2)
    assert ended(config).parameters_sha256 == halved.parameters_sha256


def test_kakurenbo_divides_the_learning_rate_by_the_share_that_is_drawn() -> None:
    config = tiny_config(selection="kakurenbo", confidence=0, epochs=6)
    events = trained(config)
    draws, rows = of(EpochDrawEvent, events), rows_of(events)
    fractions = [draw.n_drawn / TinyTask.n_train for draw in draws]
    assert min(fractions) < 0.7 < max(fractions) == 1.0
    epoch = np.searchsorted([draw.step for draw in draws], rows["step"] - 1, side="right") - 1
    after = rows["considered"]
    middle = (np.concatenate([[0.0], after[:-1]]) + after) / 2 / (6 * TinyTask.n_train)
    scheduled = config.learning_rate * np.array([learning_rate_factor(at) for at in middle])
    np.testing.assert_allclose(rows["learning_rate"], scheduled / np.take(fractions, epoch))


def test_bf16_trains_and_differs() -> None:
    half, full = ended(tiny_config(precision="bf16")), ended(tiny_config())
    assert half.status is RunStatus.FINISHED
    assert half.parameters_sha256 != full.parameters_sha256


# Ends that are not the planned one -------------------------------------------------------


def test_stopping_keeps_what_there_is() -> None:
    controls = Controls()
    events: list[Any] = []
    for event in train(tiny_config(epochs=50), controls, still):
        events.append(event)
        if isinstance(event, StepEvent) and event.step == 17:
            controls.request_stop()
    end = events[-1]
    assert end.status is RunStatus.STOPPED
    assert end.reason
    assert end.examples_trained == 17 * 16
    assert end.metric is not None
    assert end.parameters_sha256 is not None
    rows = rows_of(events)
    assert list(rows["step"]) == list(range(1, 18))
    assert of(EvalEvent, events)[-1].step == 17


def test_a_loss_that_is_not_finite_ends_the_run_with_a_reason_and_keeps_its_rows() -> None:
    config = tiny_config(optimizer="sgd", learning_rate=10, epochs=200, batch_size=1)
    events = trained(dataclasses.replace(config, learning_rate=1e18))
    end = events[-1]
    assert isinstance(end, RunEnd)
    assert end.status is RunStatus.FAILED
    assert end.metric is None
    for word in ("not a number", "learning_rate=1e+18", "lower the learning rate", "--clip-norm"):
        assert word in end.reason
    rows = rows_of(events)
    assert np.isfinite(rows["loss"]).all()
    assert len(rows["loss"]) >= 1
    failed_at = int(end.reason.split(" at step ")[1].split(",")[0])
    assert rows["step"][-1] == failed_at - 1


def test_clipping_lets_the_same_run_finish() -> None:
    config = tiny_config(optimizer="sgd", learning_rate=10, clip_norm=1)
    assert ended(config).status is RunStatus.FINISHED


# InfoBatch -------------------------------------------------------------------------------


@pytest.mark.parametrize(("epochs", "budget"), [(3, None), (5, None), (5, 0.6)])
def test_the_dense_end_begins_where_it_should_even_within_a_pass(
    epochs: int, budget: float | None
) -> None:
    config = tiny_config(
        selection="infobatch", dense_end=0.15, epochs=epochs, budget=budget, drop_probability=0.9
    )
    ends: list[float] = []
    progress = 0.0
    for event in train(config, clock=still):
        if isinstance(event, StepEvent):
            progress = event.progress
        if isinstance(event, LossHistogram) and math.isnan(event.threshold):
            ends.append(progress)  # decided without a cut, or shown after that
    dense = [at for at in ends if at > 0.5]
    assert dense
    # A step may pass over twice as many as it trains on, and is not cut short.
    assert 0.85 <= dense[0] <= 0.85 + 3 * 16 / (200 * epochs) / (budget or 1)


def test_a_preview_at_the_dense_end_shows_no_cut() -> None:
    config = tiny_config(selection="infobatch", dense_end=0.3)
    controls = Controls()
    training = train(config, controls, still)
    for event in training:
        if isinstance(event, StepEvent) and event.progress > 0.5:
            controls.request_value("drop_probability", 0.9)
            look = training.preview()
            assert look is not None
            assert math.isnan(look.threshold) == (event.progress >= 0.7), event.progress


def test_the_loss_that_is_drawn_is_the_plain_mean_whatever_the_weights() -> None:
    """Weights rescale the update; on the chart they would look like a worse model."""
    config = tiny_config(selection="infobatch", drop_probability=0.9, epochs=4, dense_end=0.0)
    weighted = rows_of(trained(config))["loss"]
    plain = rows_of(trained(dataclasses.replace(config, knobs={**config.knobs, "correction": 0.0})))
    assert weighted[:12] == pytest.approx(plain["loss"][:12])  # all are drawn in the first pass
    assert max(weighted[13:20]) < 2 * max(plain["loss"][13:20])
