"""Published methods choose as Effcore's policies do where they should, and train."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch

from effcore.bench.host_sync_counter import HostSyncCounter
from effcore.bench.published_baselines import (
    BASELINE_PAIRINGS,
    BaselineContext,
    CodedKakurenbo,
    ComposerSelectiveBackprop,
    PublishedInfoBatch,
    PublishedKakurenbo,
    PublishedMethod,
    PublishedSelectiveBackprop,
    ScoredExample,
    train_ours,
    train_published,
)
from effcore.policies.selection.base import BatchOutputs, ExampleState, PolicyMemory
from effcore.policies.selection.infobatch import InfoBatch
from effcore.policies.selection.kakurenbo import Kakurenbo
from effcore.policies.selection.selective_backprop import SelectiveBackprop
from effcore.records import EvalEvent
from effcore.testing.tiny_task import TinyTask, tiny_task
from effcore.training.optimizer import parameters_sha256
from tests.tiny_runs import of, tiny_config, trained

CPU, KIND, N, EPOCHS = torch.device("cpu"), "cross_entropy", TinyTask.n_train, 10
METHODS = [pairing.make_published for pairing in BASELINE_PAIRINGS]


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def context(epochs: int = EPOCHS, seed: int = 0) -> BaselineContext:
    return BaselineContext(tiny_config(selection="dense", epochs=epochs, seed=seed))


def losses_of(seed: int, count: int = N) -> torch.Tensor:
    """Losses that all differ, as most do."""
    return torch.rand(count, generator=torch.Generator().manual_seed(seed)).square() * 3


def pool_of(
    losses_N: torch.Tensor, progress: float = 0.3, memory: PolicyMemory | None = None
) -> ExampleState:
    return ExampleState(losses_N, 1, KIND, progress, memory or {})


def example(loss: float) -> ScoredExample:
    return ScoredExample(torch.empty(0), torch.empty(0), loss)


# The same choice, where both can be compared ------------------------------------------------------


@pytest.mark.parametrize("r", [0.5, 0.3, 0.75])
def test_infobatch_prunes_with_our_probabilities_and_weights_but_an_exact_count(r: float) -> None:
    losses_N, method = losses_of(1), PublishedInfoBatch(context(), prune_ratio=r)
    method.score_N[:] = losses_N.numpy()
    decision = InfoBatch(drop_probability=r).inclusion_probabilities(pool_of(losses_N))
    easy_N, drawn = method.well_learned(), method.epoch_order()
    assert np.where(easy_N, method.keep_fraction, 1.0) == pytest.approx(decision.pi_N.numpy())
    kept = [i for i in drawn if easy_N[i]]
    assert len(kept) == int(method.keep_fraction * easy_N.sum())
    assert sorted(set(drawn) - set(kept)) == np.flatnonzero(~easy_N).tolist()
    assert len(set(drawn)) == len(drawn)
    assert decision.weight_N is not None
    assert method.weight_N[drawn] == pytest.approx(decision.weight_N.numpy()[drawn])


def test_infobatch_keeps_all_examples_at_first_and_in_the_end() -> None:
    method = PublishedInfoBatch(context(epochs=8))  # 0.875 * 8 is whole
    assert len(method.epoch_order()) == N
    method.score_N[:] = losses_of(1).numpy()
    sizes = []
    for method.epoch in range(8):
        sizes.append(len(method.epoch_order()))
    assert sizes[7] == N
    assert max(sizes[:7]) < N
    assert method.weight_N.max() == 1.0


def test_infobatch_leaves_its_weights_where_the_dense_end_begins_within_an_epoch() -> None:
    method = PublishedInfoBatch(context(epochs=10))  # 0.875 * 10 = 8.75
    method.score_N[:] = losses_of(1).numpy()
    for method.epoch in range(10):
        drawn = method.epoch_order()
    assert len(drawn) == N
    assert method.weight_N.max() == 2.0


def test_infobatch_draws_the_same_in_every_seed() -> None:
    drawn = []
    for seed in (0, 1):
        method = PublishedInfoBatch(context(seed=seed))
        method.score_N[:] = losses_of(1).numpy()
        drawn.append(method.epoch_order())
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(("before", "beta"), [(0, 1.0), (30, 3.0), (1024, 2.0), (3000, 3.0)])
def test_selective_backprop_has_our_ranks_less_one(before: int, beta: float) -> None:
    """Ours counts the losses that are no larger, theirs the lower ones: without oneself."""
    history, now = losses_of(2, before + 1)[:before], losses_of(3, 16)
    policy, method = SelectiveBackprop(beta=beta), PublishedSelectiveBackprop(context(), beta)
    memory = policy.initial_memory(1, CPU)
    if before:
        method.loss_history.extend(history.tolist())
        for part in torch.split(history, 500):
            none = torch.empty(0)
            policy.on_candidates_scored(memory, BatchOutputs(none, part, none, none, 1, KIND))
    ours = policy.selection_probabilities(pool_of(now, memory=memory), now).numpy() ** (1 / beta)
    theirs = np.array(method.selection_probabilities([example(loss) for loss in now.tolist()])) ** (
        1 / beta
    )
    assert len(method.loss_history) == min(before + 16, 1024)
    assert theirs + 1 / len(method.loss_history) == pytest.approx(ours, abs=1e-6)


def test_selective_backprop_never_chooses_the_lowest_and_trains_in_full_batches() -> None:
    method = PublishedSelectiveBackprop(context(epochs=2))
    assert method.selection_probabilities([example(1.0), example(1.0), example(2.0)])[:2] == [
        0.0,
        0.0,
    ]
    method = PublishedSelectiveBackprop(context(epochs=2))
    sizes: list[int] = []
    plain = method.context.optimizer_step

    def descend(loss: torch.Tensor, examples: int, lr_multiplier: float = 1.0) -> None:
        sizes.append(examples)
        plain(loss, examples, lr_multiplier)

    method.context.optimizer_step = descend  # type: ignore[method-assign]
    assert max(method.train()) == pytest.approx(1.0)
    first, rest = sizes[:13], sizes[13:]
    assert first == [16] * 12 + [8]  # the first epoch trains on all
    assert set(rest[:-1]) <= {16}
    assert 20 < sum(rest) < 90  # about one in four of 200
    assert not method.pending


@pytest.mark.parametrize("keep", [0.5, 0.25, 0.8])
def test_composer_ranks_by_its_formula(keep: float) -> None:
    method = ComposerSelectiveBackprop(context(), keep)
    raw = [((r + 0.5) / 5) ** (1 / keep - 1) for r in range(5)]
    assert method.rank_probabilities(5).tolist() == pytest.approx([p / sum(raw) for p in raw])


def test_composer_draws_its_share_of_a_batch_and_the_hard_more_often() -> None:
    method, losses = ComposerSelectiveBackprop(context()), np.array([5.0, 1.0, 3.0, 2.0])
    drawn = [method.choose_positions(losses) for _ in range(2000)]
    assert all(len(set(places)) == len(places) == 2 for places in drawn)
    often = np.bincount(np.concatenate(drawn), minlength=4)
    assert often[0] > often[2] > often[3] > often[1] > 0
    chances = method.rank_probabilities(4)
    first = np.bincount([places[0] for places in drawn], minlength=4) / 2000
    assert first[[1, 3, 2, 0]] == pytest.approx(chances, abs=0.04)
    assert method.choose_positions(np.array([1.0])) == [0]


def test_composer_selects_in_every_second_batch_between_its_ends() -> None:
    method = ComposerSelectiveBackprop(context())
    selects = []
    for method.batch_index, method.elapsed_share in enumerate(
        [0.49, 0.49, 0.5, 0.5, 0.89, 0.89, 0.9, 0.9]
    ):
        selects.append(method.selects_in_batch())
    assert selects == [False, False, True, False, True, False, False, False]


@pytest.mark.parametrize("epoch", [0, 2, 3, 6, 8, 9])
@pytest.mark.parametrize("largest", [0.3, 0.6])
def test_kakurenbo_hides_the_examples_that_our_policy_hides(epoch: int, largest: float) -> None:
    method, policy = PublishedKakurenbo(context(), largest), Kakurenbo(hidden_share=largest)
    generator = torch.Generator().manual_seed(epoch)
    outputs = 3 * torch.randn(N, 2, generator=generator)
    targets = torch.where(torch.arange(N) % 7 == 0, 1 - outputs.argmax(-1), outputs.argmax(-1))
    losses_N = torch.nn.functional.cross_entropy(outputs, targets, reduction="none")
    memory = policy.initial_memory(N, CPU)
    for part in torch.split(torch.randperm(N, generator=generator), 16):
        policy.on_batch_end(
            memory, BatchOutputs(part, losses_N[part], outputs[part], targets[part], 1, KIND)
        )
        outcomes = method.confidence_and_correctness(outputs[part], targets[part])
        method.record_outcomes(part.tolist(), losses_N[part], outcomes)
    method.epoch = epoch
    shown = method.epoch_order()
    decision = policy.inclusion_probabilities(pool_of(losses_N, epoch / EPOCHS, memory))
    assert sorted(shown) == decision.pi_N.nonzero()[:, 0].tolist()
    assert 0 < len(method.hidden) == N - len(shown)
    assert method.lr_multiplier() == pytest.approx(
        policy.lr_multiplier(float(decision.pi_N.mean()))
    )


def test_kakurenbo_hides_no_example_at_first_and_refreshes_the_hidden() -> None:
    method = PublishedKakurenbo(context(epochs=6))
    seen: list[Sequence[int]] = []
    plain = method.record_outcomes

    def note(
        indices: Sequence[int], loss_B: torch.Tensor, outcomes: tuple[torch.Tensor, ...]
    ) -> None:
        seen.append(indices)
        plain(indices, loss_B, outcomes)

    method.record_outcomes = note  # type: ignore[method-assign]
    hidden = [len(method.hidden) for _ in method.train()]
    assert max(hidden[:13]) == 0
    assert max(hidden) > 0
    assert sum(len(indices) for indices in seen) == 6 * N


def test_coded_kakurenbo_has_confidence_by_batch_and_a_rate_by_the_largest_share() -> None:
    method = CodedKakurenbo(context(), fraction=0.4)
    outputs = torch.tensor([[5.0, 0.0], [5.0, 0.0], [0.0, 0.0]])
    sure, right = method.confidence_and_correctness(outputs, torch.tensor([0, 1, 0]))
    share = outputs.softmax(0)
    assert sure.tolist() == pytest.approx(share.amax(-1).tolist())
    assert sure[0] < 0.7  # sure by its classes, which are 0.99 and 0.01
    assert right.tolist() == [True, False, True]
    assert method.lr_multiplier() == 1.0
    method.epoch = 1
    assert method.lr_multiplier() == pytest.approx(1 / 0.6)


# Training --------------------------------------------------------------------------------------


def last(
    make: Callable[[BaselineContext], PublishedMethod], epochs: int = 4, seed: int = 0
) -> tuple[str, int]:
    method = make(context(epochs, seed))
    for _ in method.train():
        pass
    return parameters_sha256(method.context.model), method.context.examples_trained


@pytest.mark.parametrize("make", METHODS)
def test_each_method_trains_and_is_evaluated_as_often_as_ours(
    make: Callable[[BaselineContext], PublishedMethod],
) -> None:
    config = tiny_config(selection="dense", epochs=12)
    course = train_published(make, config, HostSyncCounter())
    assert course.points[-1].loss < 0.9 * course.points[0].loss
    assert 0 < course.trained_share <= 1.0
    seconds = [point.seconds for point in course.points]
    assert seconds == sorted(seconds)
    assert course.points[0].seconds < 1e-3
    assert course.seconds == seconds[-1] > 0
    ours = train_ours(config, HostSyncCounter())
    assert abs(len(course.points) - len(ours.points)) <= 1


@pytest.mark.parametrize("make", METHODS)
def test_each_method_repeats_from_its_seed_without_changing_other_draws(
    make: Callable[[BaselineContext], PublishedMethod],
) -> None:
    np.random.seed(5)
    expected = np.random.uniform(size=3)
    np.random.seed(5)
    first = last(make)
    assert np.random.uniform(size=3).tolist() == expected.tolist()
    assert last(make) == first
    assert last(make, seed=1) != first


def test_a_loss_that_is_not_finite_is_reported() -> None:
    config = tiny_config(selection="dense", epochs=2, learning_rate=10, optimizer="sgd")

    class Broken(PublishedInfoBatch):
        def process_batch(self, indices: Sequence[int]) -> None:
            with torch.no_grad():
                next(self.context.model.parameters()).fill_(math.nan)

    with pytest.raises(ArithmeticError, match="the loss is not finite"):
        train_published(Broken, config, HostSyncCounter())


def test_our_side_is_what_the_trainer_does() -> None:
    config = tiny_config(selection="kakurenbo", epochs=3)
    course = train_ours(config, HostSyncCounter())
    evaluations = of(EvalEvent, trained(config))
    assert [point.metric for point in course.points] == [event.metric for event in evaluations]
