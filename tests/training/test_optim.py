from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from effcore.config import resolve
from effcore.training.optimizer import (
    WARMUP_FRAC,
    learning_rate_factor,
    make_optimizer,
    parameters_sha256,
)

PROGRESS = st.floats(0, 1)


@given(PROGRESS)
def test_the_rate_is_a_share_of_its_peak(progress: float) -> None:
    assert 0 <= learning_rate_factor(progress) <= 1


@given(PROGRESS, PROGRESS)
def test_the_rate_rises_to_its_peak_and_falls_from_it(one: float, other: float) -> None:
    first, second = sorted((one, other))
    if second <= WARMUP_FRAC:
        assert learning_rate_factor(first) <= learning_rate_factor(second)
    if first >= WARMUP_FRAC:
        assert learning_rate_factor(first) >= learning_rate_factor(second)


def test_the_rate_starts_and_ends_at_zero_and_is_continuous() -> None:
    assert learning_rate_factor(0) == learning_rate_factor(1) == 0
    assert learning_rate_factor(WARMUP_FRAC) == 1
    assert learning_rate_factor(WARMUP_FRAC - 1e-9) == pytest.approx(1)
    assert learning_rate_factor(1.01) == 0, "never below"


def test_a_fingerprint_tells_every_bit_and_every_name() -> None:
    torch.manual_seed(0)
    model = nn.BatchNorm1d(3)
    first = parameters_sha256(model)
    assert first == parameters_sha256(model)
    assert len(first) == 64
    with torch.no_grad():
        model.weight[0] = torch.nextafter(model.weight[0], torch.tensor(2.0))
    changed = parameters_sha256(model)
    assert changed != first
    assert model.running_mean is not None
    model.running_mean[1] += 1
    assert parameters_sha256(model) != changed, "buffers count too"
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.load_state_dict(one.state_dict())
    assert parameters_sha256(nn.Sequential(one)) == parameters_sha256(nn.Sequential(other))
    assert parameters_sha256(nn.ModuleDict({"a": one})) != parameters_sha256(
        nn.ModuleDict({"b": one})
    )


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_the_configured_optimizer_holds_every_parameter(name: str, kind: type) -> None:
    config = dataclasses.replace(resolve({"device": "cpu"}), optimizer=name, learning_rate=0.25)
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    optimizer = make_optimizer(config, model)
    assert type(optimizer) is kind
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}
    assert [group["lr"] for group in optimizer.param_groups] == [0.25]
