"""The contracts themselves: what breaks a promise is told so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from effcore.knobs import knob
from effcore.policies.selection.base import (
    Decision,
    ExampleState,
    SelectionPolicy,
    correction_weights,
)
from effcore.policies.update.base import UpdatePolicy
from effcore.policies.update.every_step import EveryStep
from effcore.records.views import ViewItem
from effcore.tasks.base import TASKS, Evaluation, ViewInputs
from effcore.testing import check_selection_policy, check_task, check_update_policy
from effcore.testing.tiny_task import TinyTask, tiny_task


@dataclass(frozen=True)
class Even(SelectionPolicy):
    """Draws all with the same probability and can weight for it."""

    id = "even"
    title = "Even"
    summary = "Draws everything alike."
    correction: float = knob(0.0, lo=0, hi=1, step=0.1, label="Correction", help="Weights.")

    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        pi_N = torch.full_like(examples.last_loss_N, 0.5)
        return Decision(pi_N, weight_N=correction_weights(pi_N, self.correction))


class Drawing(Even):
    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        return Decision(torch.rand_like(examples.last_loss_N))


class Reading(Even):
    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        share = float(examples.last_loss_N.nan_to_num(0, 0).mean().clamp(0.1, 1))
        return Decision(torch.full_like(examples.last_loss_N, share))


class Overconfident(Even):
    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        return Decision(torch.full_like(examples.last_loss_N, 1.5))


class NotANumber(Even):
    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        return Decision(1 - examples.last_loss_N / examples.last_loss_N)


class SecretlyBiased(Even):
    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        return Decision((torch.arange(len(examples.last_loss_N)) % 2).float())


@dataclass(frozen=True)
class Blind(SelectionPolicy):
    id = "blind"
    title = "Blind"
    summary = "Skips what it never saw."
    biased = True

    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        return Decision(examples.last_loss_N.isfinite().float())


class Overwriting(Even):
    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        examples.last_loss_N.fill_(0.5)
        return Decision(torch.full_like(examples.last_loss_N, 0.5))


class Unweighted(Even):
    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        return Decision(
            torch.full_like(examples.last_loss_N, 0.5), weight_N=examples.last_loss_N * 0 + 1
        )


@dataclass
class Mutable:
    id = "mutable"
    title = "Mutable"
    summary = "Can be changed."


class Wordless(Even):
    summary = ""


def test_a_sound_policy_passes() -> None:
    check_selection_policy(Even)


@pytest.mark.parametrize(
    ("cls", "promise"),
    [
        (Drawing, "global generator"),
        (Overconfident, r"leaves \[0, 1\]"),
        (NotANumber, r"NaN"),
        (SecretlyBiased, "declare it biased"),
        (Blind, "never saw"),
        (Overwriting, "changed the pool"),
        (Unweighted, "positive|1/pi"),
        (Wordless, "summary must not be empty"),
        (Mutable, "must be frozen"),
    ],
)
def test_a_broken_selection_policy_is_told_so(cls: type[SelectionPolicy], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_selection_policy(cls)


def test_a_policy_that_waits_for_the_device_is_told_so() -> None:
    with pytest.raises(RuntimeError, match="meta"):
        check_selection_policy(Reading)


class Idle(EveryStep):
    def update(
        self,
        loss: torch.Tensor,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        clip_norm: float,
    ) -> None:
        return None


class Unclipped(EveryStep):
    def update(
        self,
        loss: torch.Tensor,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        clip_norm: float,
    ) -> None:
        super().update(loss, model, optimizer, 0.0)


@pytest.mark.parametrize(("cls", "promise"), [(Idle, "as they are"), (Unclipped, "clip_norm")])
def test_a_broken_update_policy_is_told_so(cls: type[UpdatePolicy], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_update_policy(cls)


class Overlapping(TinyTask):
    def _split_rows(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"train": rows[:200], "validation": rows[199:240], "test": rows[240:]}


class Peeking(TinyTask):
    def _split_rows(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"train": rows[:200], "validation": rows[200:241], "test": rows[240:]}


class OneSplit(TinyTask):
    def __init__(self, seed: int, device: torch.device, data: Any = None) -> None:
        super().__init__(0, device)


class MeanLoss(TinyTask):
    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return super().losses(outputs, targets).mean()


class FloatPictures(TinyTask):
    def view(self, inputs: ViewInputs) -> dict[str, ViewItem]:
        return {"map": np.asarray(super().view(inputs)["map"], dtype=np.float32)}


class OtherPictures(TinyTask):
    def view(self, inputs: ViewInputs) -> dict[str, ViewItem]:
        return {"elsewhere": super().view(inputs)["map"]}


class ShapedMetric(TinyTask):
    def evaluate(self, model: torch.nn.Module, split: str) -> Evaluation:
        loss, metric = super().evaluate(model, split)
        return Evaluation(loss, metric[None])


def test_the_tiny_task_passes() -> None:
    check_task(TinyTask)


@pytest.mark.parametrize(
    ("cls", "promise"),
    [
        (Overlapping, "training sees held-out"),
        (Peeking, "validation and test share"),
        (OneSplit, "ignores its seed"),
        (MeanLoss, r"not \(B,\)"),
        (FloatPictures, "not uint8"),
        (OtherPictures, "lack captions"),
        (ShapedMetric, "must be 0-d"),
    ],
)
def test_a_broken_task_is_told_so(cls: type[TinyTask], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_task(cls)


def test_the_tiny_task_is_registered_only_inside_its_block() -> None:
    assert "tiny" not in TASKS.ids()
    with tiny_task() as cls:
        assert TASKS.get("tiny") is cls
    assert "tiny" not in TASKS.ids()
