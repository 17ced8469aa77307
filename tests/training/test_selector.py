"""A loop of one's own: it trains as the page does, goes on where it was, and refuses nonsense."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch

import effcore
from effcore.policies.selection.base import SELECTIONS
from effcore.records import RunConfig
from effcore.tasks.base import make_model, make_task
from effcore.testing.tiny_task import TinyTask, tiny_task
from effcore.training.optimizer import learning_rate_factor, make_optimizer, parameters_sha256
from effcore.training.selector import Selector
from tests.tiny_runs import ended, tiny_config

USABLE = [policy.id for policy in SELECTIONS if not policy().needs_extra_forward()]
N = TinyTask.n_train


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def selector_of(config: RunConfig, **knobs: Any) -> Selector:
    task = make_task(config)
    return effcore.selector(
        config.selection,
        examples=task.n_train,
        batch_size=config.batch_size,
        epochs=config.epochs,
        budget=config.budget,
        seed=config.seed,
        loss_kind=task.loss_kind,
        classes=task.group_N,
        **knobs,
    )


def by_hand(config: RunConfig, selector: Selector) -> str:
    """Train as a stranger would; returns the hash of the parameters."""
    task = make_task(config)
    model = make_model(task, config)
    optimizer = make_optimizer(config, model)
    augment = torch.Generator().manual_seed(config.seed)
    for batch in selector:
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(selector.progress)
        inputs, targets = task.batch(batch, augment)
        outputs = model(inputs)
        loss = selector.loss(batch, task.losses(outputs, targets), outputs, targets)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return parameters_sha256(model)


@pytest.fixture(autouse=True)
def selecting_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs bill nothing for it, as a loop of one's own does: budgets hold to the example."""
    for policy in SELECTIONS:
        monkeypatch.setattr(policy, "decision_flops", lambda self, n: 0.0)
        monkeypatch.setattr(policy, "batch_end_flops", lambda self, outputs: 0.0)


@pytest.mark.parametrize("policy", USABLE)
def test_a_loop_of_ones_own_trains_to_the_bit_as_the_page_does(policy: str) -> None:
    config = tiny_config(selection=policy, epochs=4, seed=3)
    selector, run = selector_of(config), ended(config)
    assert by_hand(config, selector) == run.parameters_sha256
    assert selector.steps * config.batch_size == run.examples_trained
    skipped = 1 - run.examples_trained / run.examples_considered
    assert selector.skip_fraction == pytest.approx(skipped)


def test_knobs_and_weights_are_those_of_the_page() -> None:
    for knobs in ({"correction": 1.0, "skip_fraction": 0.5}, {"dense_end": 0.4}):
        config = tiny_config(selection="stale-pps", epochs=4, **knobs)
        assert by_hand(config, selector_of(config, **knobs)) == ended(config).parameters_sha256
        assert by_hand(config, selector_of(config)) != ended(config).parameters_sha256


def test_a_budget_buys_more_passes_and_is_not_exceeded() -> None:
    selector = effcore.selector("random", examples=N, batch_size=16, epochs=4, budget=0.6,
                                skip_fraction=0.5)  # fmt: skip
    progress = [(selector.loss(batch, torch.ones(16)), selector.progress)[1] for batch in selector]
    assert len(progress) == selector.steps == int(0.6 * 4 * N / 16)
    assert progress == sorted(progress)
    assert 0 < progress[0] < 0.04
    assert 0.96 < progress[-1] < 1
    assert list(selector) == []
    assert selector.skip_fraction == pytest.approx(0.5, abs=0.1)


def test_each_pass_is_decided_by_the_losses_of_the_ones_before() -> None:
    selector = effcore.selector(
        "confident-skip", examples=64, batch_size=16, epochs=2, loss_threshold=0.1
    )
    easy = torch.arange(64) < 32
    trained = torch.zeros(64)
    for batch in selector:
        trained[batch] += 1
        selector.loss(batch, torch.where(easy[batch], 1e-4, 2.0))
    assert trained[easy].sum() <= 32 + 32 / 4  # looked at again every fourth pass
    assert trained.sum() == 64 + 32  # the rest of 40 does not fill a batch


@pytest.mark.parametrize("policy", USABLE)
def test_it_goes_on_from_what_was_saved(policy: str) -> None:
    def losses(batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = torch.stack([batch % 7, batch % 5, batch % 3], 1).float()
        targets = batch % 3
        losses_B = torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
        return losses_B, outputs, targets

    settings: dict[str, Any] = {"examples": 200, "batch_size": 16, "epochs": 4, "seed": 1}
    whole, interrupted, resumed = (effcore.selector(policy, **settings) for _ in range(3))
    told = [(batch.tolist(), float(whole.loss(batch, *losses(batch)))) for batch in whole]
    first = [(b.tolist(), float(interrupted.loss(b, *losses(b)))) for b in islice(interrupted, 17)]
    file = io.BytesIO()
    torch.save(interrupted.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    rest = [(batch.tolist(), float(resumed.loss(batch, *losses(batch)))) for batch in resumed]
    assert first + rest == told
    assert (resumed.steps, resumed.progress) == (whole.steps, whole.progress)


def test_a_data_loader_takes_its_batches() -> None:
    class Numbers(torch.utils.data.Dataset[tuple[int, int]]):
        def __getitem__(self, index: int) -> tuple[int, int]:
            return index, index**2

    selector = effcore.selector("random", examples=40, batch_size=8, epochs=2)
    batches = (batch.tolist() for batch in selector)
    loader = torch.utils.data.DataLoader(Numbers(), batch_sampler=batches)
    for indices, squares in loader:
        selector.loss(indices, squares.float())
        assert squares.tolist() == [index**2 for index in indices.tolist()]
    assert selector.steps > 2


SETTINGS: dict[str, Any] = {"policy": "random", "examples": 40, "batch_size": 8, "epochs": 2}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"policy": "rho-loss"}, "'rho-loss' is not allowed here.*choose one of .*confident-skip"),
        ({"policy": "kakurenbo"}, "'kakurenbo' is not allowed here"),
        ({"policy": "selective-backprop"}, "'selective-backprop' is not allowed here"),
        ({"policy": "randon"}, "unknown selection policy 'randon'.*random"),
        ({"mass": 0.5}, "mass"),
        ({"skip_fraction": 2}, "skip_fraction=2"),
        ({"examples": 0}, "examples=0 is not allowed: expected a whole number from 1"),
        ({"examples": 40.0}, "examples=40.0"),
        ({"batch_size": 41}, "batch_size=41 is not allowed: .* from 1 to 40"),
        ({"epochs": True}, "epochs=True"),
        ({"budget": 0.0}, "budget=0.0 is not allowed"),
        ({"budget": float("nan")}, "budget=nan is not allowed"),
        ({"budget": 0.01}, "one batch costs more than that; choose at least 0.1"),
        ({"loss_kind": "hinge"}, "loss_kind='hinge' is not allowed: choose one of cross_entropy"),
        ({"classes": torch.zeros(3)}, r"classes of shape \(3,\) is not allowed"),
    ],
)
def test_nonsense_is_refused_with_what_is_allowed(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        effcore.selector(**{**SETTINGS, **changed})


def test_losses_that_do_not_fit_are_refused() -> None:
    selector = effcore.selector("el2n-pps", examples=40, batch_size=8, epochs=2)
    batch = next(iter(selector))
    with pytest.raises(ValueError, match=r'shape \(\) is not allowed.*8 indices.*"none"'):
        selector.loss(batch, torch.tensor(1.0))
    with pytest.raises(ValueError, match="'el2n-pps' needs outputs and targets"):
        selector.loss(batch, torch.ones(8))


def test_what_needs_outputs_says_so() -> None:
    losses_B, needing = torch.ones(8), list[str]()
    for policy in {*SELECTIONS.ids()} - {"selective-backprop", "rho-loss", "kakurenbo"}:
        selector = effcore.selector(policy, examples=40, batch_size=8, epochs=2)
        try:
            selector.loss(next(iter(selector)), losses_B)
        except ValueError:
            needing.append(policy)
    said, _, _ = (Selector.loss.__doc__ or "").partition("targets:")
    assert set(needing) == {each for each in SELECTIONS.ids() if f"``{each}``" in said}


def test_a_policy_that_draws_nothing_is_given_up() -> None:
    selector = effcore.selector(
        "random", examples=40, batch_size=40, epochs=2, budget=1.0, skip_fraction=0.95
    )
    for batch in islice(selector, 3):  # what is carried over fills a batch in the end
        selector.loss(batch, torch.ones(40))
    assert selector.steps <= 2
