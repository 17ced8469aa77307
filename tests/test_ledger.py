"""The ledger against PyTorch's counter, left on over whole short runs of every policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from effcore.config import incompatibility, resolve
from effcore.knobs import Controls
from effcore.policies.combination import POLICY_REGISTRIES, PolicyCombination
from effcore.records import RunConfig
from effcore.tasks.base import TASKS, Evaluation
from effcore.training import ledger
from effcore.training.train_step import TrainStep
from effcore.training.training_loop import TrainingLoop
from tests.tiny_runs import still

#: Checked each time; the others in the slow suite.
QUICK = ("tabular-wine", "resnet")
#: Large ones, where the default would make many steps, which take long to count.
BATCHES = {"photo": 8192, "code": 256, "snippets": 512, "digits": 128, "tabular-digits": 128}
#: Every policy of each kind beside the plain ones of the others, and some that stack.
STACKED = (
    PolicyCombination("confident-skip", "prefix-freeze", "full"),
    PolicyCombination("selective-backprop", "prefix-freeze", "full"),
    PolicyCombination("stale-pps", "drop-backward", "depth-growth"),
    PolicyCombination("kakurenbo", "skip-step", "sequence-growth"),
    PolicyCombination("el2n-pps", "prefix-freeze", "resolution"),
)
POLICIES = (
    *(PolicyCombination(selection=name) for name in POLICY_REGISTRIES["selection"].ids()),
    *(PolicyCombination("dense", update=name) for name in POLICY_REGISTRIES["update"].ids()[1:]),
    *(
        PolicyCombination("dense", intensity=name)
        for name in POLICY_REGISTRIES["intensity"].ids()[1:]
    ),
    *STACKED,
)


def fits(task: str, model: str, policies: PolicyCombination) -> bool:
    return incompatibility(policies, task, TASKS.get(task).model_choice(model), "small") is None


def models_for(task: str, policies: PolicyCombination) -> list[str]:
    """The models of a task that policies go with."""
    return [each.id for each in TASKS.get(task).models if fits(task, each.id, policies)]


def config_of(task: str, model: str, policies: PolicyCombination) -> RunConfig:
    """A short run that reaches all a policy does."""
    raw: dict[str, Any] = {"task": task, "model": model, "size": "small", **policies._asdict()}
    raw |= {"device": "cpu", "threads": 1, "epochs": 3 if task in BATCHES else 4}
    if policies.selection == "rho-loss":
        raw["epochs"] = 4  # much goes into models of its own
    if policies.update == "prefix-freeze":
        raw["freeze_after"] = 0.3
    if task == "tabular":
        raw["rows"] = 500
    if task in BATCHES:
        raw["batch_size"] = BATCHES[task]
    return resolve(raw)


def spent_and_counted(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> tuple[float, float]:
    """Train; returns the ledger's matmul-class FLOPs and those of the counter left on.

    What the ledger ran to calibrate itself is taken off, and nothing is evaluated or drawn.
    """
    calibrated = 0.0
    count, score, looks = ledger.count_flops, TrainStep.score_batch, list[bool]()

    def noted(run: Callable[[], object]) -> float:
        nonlocal calibrated
        found = count(run)
        calibrated += found
        return found

    def nothing(self: TrainStep, split: str) -> Evaluation:
        return Evaluation(torch.zeros(()), torch.zeros(()))

    def looked(self: TrainStep, *batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        looks.append(True)
        return score(self, *batch)

    def all_sure(outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.ones(len(targets)), torch.ones(len(targets), dtype=torch.bool)

    # Or KAKURENBO would hide nobody in so short a run, and not look at anybody again.
    monkeypatch.setattr("effcore.policies.selection.kakurenbo.confidence_and_correctness", all_sure)
    monkeypatch.setattr(ledger, "count_flops", noted)
    monkeypatch.setattr(TrainStep, "score_batch", looked)
    monkeypatch.setattr(TrainStep, "evaluate", nothing)
    monkeypatch.setattr(TrainStep, "extra_metrics", lambda self, split: {})
    monkeypatch.setattr(TASKS.get(config.task), "view", lambda self, attention: {})
    with FlopCounterMode(display=False) as counter:
        loop = TrainingLoop(config, Controls(), still)
        list(loop.run())
    assert loop.ledger.steps > 5
    assert bool(looks) == loop.sampler.policy.needs_extra_forward(), (
        "what is to be billed took place"
    )
    return loop.ledger.counted_flops, counter.get_total_flops() - calibrated


def check(
    task: str, model: str, policies: PolicyCombination, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent, counted = spent_and_counted(config_of(task, model, policies), monkeypatch)
    assert spent == pytest.approx(counted, rel=1e-3)


@pytest.mark.parametrize("policies", [p for p in POLICIES if fits(*QUICK, p)], ids="+".join)
def test_the_ledger_agrees_with_the_counter(
    policies: PolicyCombination, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(*QUICK, policies, monkeypatch)


@pytest.mark.parametrize("policies", POLICIES, ids="+".join)
def test_every_policy_fits_something(policies: PolicyCombination) -> None:
    assert any(models_for(task, policies) for task in TASKS.ids())


#: Every policy with every model that it goes with.
EVERYWHERE = [
    (task.id, choice.id, policies)
    for task in TASKS
    for choice in task.models
    for policies in POLICIES
    if fits(task.id, choice.id, policies)
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "model", "policies"),
    EVERYWHERE,
    ids=[f"{t}-{m}-{'+'.join(p)}" for t, m, p in EVERYWHERE],
)
def test_the_ledger_agrees_with_the_counter_everywhere(
    task: str, model: str, policies: PolicyCombination, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(task, model, policies, monkeypatch)


def test_a_ledger_that_forgets_scoring_would_be_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = config_of("digits", "mlp", PolicyCombination("selective-backprop"))
    monkeypatch.setattr(TrainStep, "scoring_flops", lambda self, inputs: 0.0)
    spent, counted = spent_and_counted(config, monkeypatch)
    assert spent < 0.9 * counted
