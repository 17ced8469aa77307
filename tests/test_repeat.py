"""The loop that a run writes down for training of one's own: it runs, with what is in force."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from effcore.config import resolve
from effcore.knobs import values_of
from effcore.policies.selection.base import SELECTIONS
from effcore.records import Snapshot
from effcore.runs.reproduce import training_loop_code
from effcore.training.selector import Selector
from tests.fakes import snapshot

LOOKS_BESIDES = {"selective-backprop", "rho-loss", "kakurenbo"}


def look_of(**settings: Any) -> Snapshot:
    config = resolve({"epochs": 3, "batch_size": 8, **settings})
    return snapshot(config=config, knobs=config.knobs)


def carried_out(code: str) -> Selector:
    """Run the code with stand-ins for what is one's own."""
    data = torch.randn(64, 4)
    scope: dict[str, Any] = {
        "data": data,
        "targets": torch.randint(0, 3, (64,)),
        "model": torch.nn.Linear(4, 3),
        "loss_of_each": torch.nn.CrossEntropyLoss(reduction="none"),
    }
    exec(compile(code, "loop", "exec"), scope)
    selector: Selector = scope["selector"]
    return selector


@pytest.mark.parametrize("policy", sorted({*SELECTIONS.ids()} - LOOKS_BESIDES))
def test_the_loop_runs_to_its_end(policy: str) -> None:
    selector = carried_out(training_loop_code(look_of(task="digits", selection=policy, budget=0.7)))
    assert selector.steps == int(0.7 * 3 * 64 / 8)


def test_the_loop_has_the_thresholds_in_force_and_the_kind_of_loss() -> None:
    look = look_of(task="photo", mass=0.3)
    code = training_loop_code(replace(look, knobs={**look.knobs, "mass": 0.55, "revisit": 7}))
    policy = carried_out(code)._sampler.policy
    assert values_of(policy) == {"mass": 0.55, "loss_threshold": None, "revisit": 7}
    assert "loss_kind='squared_error'" in code
    assert "budget" not in code
    cut = training_loop_code(look_of(task="digits", loss_threshold=0.05))
    assert "loss_threshold=0.05" in cut
    assert "mass" not in cut
    assert "loss_kind" not in cut


def test_there_is_none_where_such_a_loop_cannot_follow() -> None:
    assert not any(
        training_loop_code(look_of(task="digits", selection=name)) for name in LOOKS_BESIDES
    )
    look = look_of(task="digits")
    elsewhere = "of another version"
    for config in (replace(look.config, task=elsewhere), replace(look.config, selection=elsewhere)):
        assert training_loop_code(replace(look, config=config)) == ""
