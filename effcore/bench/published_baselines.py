"""Published methods against Effcore's policies: same task, model, schedule, seeds and machine.

Each method's class follows a published code in what it does and in what that costs: objects and
loops in Python per example, losses copied to the host at every step, choices by NumPy, a second
forward pass. What a code spends on other things than selection (logging, a loader with one object
per example, tests for several processes) is left out, in its favour. A published code also trains
on the short batch that ends an epoch. NumPy's generator is private here, so that other draws do
not change it.

Both sides train for all epochs, and are evaluated at the same progress while the clock is paused.
Effcore's side is its whole trainer, including views and histograms; the published side draws
nothing.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from effcore.bench.command_line import (
    ProgressSink,
    bench,
    echo_progress,
    given_or_default,
    print_result,
    quick_epochs,
    with_eta,
)
from effcore.bench.host_sync_counter import (
    EvaluationPoint,
    HostSyncCounter,
    TrainingCurve,
    UntimedReporter,
    loop_with_counter,
)
from effcore.cli.knob_options import json_option
from effcore.config import resolve
from effcore.records import EvalEvent, RunConfig, RunEnd, RunStatus
from effcore.records.settings import Settings
from effcore.studies.statistics import MedianInterval, median_interval
from effcore.tasks.base import TASKS, Metric, make_model, make_task
from effcore.training.optimizer import learning_rate_factor, make_optimizer
from effcore.training.reporter import EVALUATIONS

# Methods ----------------------------------------------------------------------------------


Floats = NDArray[np.floating[Any]]


def shuffled(indices: Sequence[int], rng: np.random.RandomState) -> list[int]:
    """Return the indices in random order."""
    return [indices[place] for place in rng.permutation(len(indices)).tolist()]


class BaselineContext:
    """Training state of a published method: task, model, optimizer and progress.

    Args:
        config: Configuration; its policies are ignored.
    """

    def __init__(self, config: RunConfig) -> None:
        torch.set_num_threads(config.threads)
        self.config, self.device = config, torch.device(config.device)
        self.task = make_task(config)
        self.model = make_model(self.task, config)
        self.optimizer = make_optimizer(config, self.model)
        self.augment_generator = torch.Generator(device=self.device).manual_seed(config.seed)
        self.rng = np.random.RandomState(config.seed)
        self.n, self.batch_size = self.task.n_train, config.batch_size
        self.progress = 0.0  # in the middle of the loader's batch
        self.steps = self.examples_trained = 0

    def batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets of these examples."""
        return self.task.batch(torch.tensor(indices, device=self.device), self.augment_generator)

    def optimizer_step(self, loss: torch.Tensor, examples: int, lr_multiplier: float = 1.0) -> None:
        """Take a step with the scheduled learning rate times ``lr_multiplier``."""
        lr_multiplier *= learning_rate_factor(self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * lr_multiplier
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.steps += 1
        self.examples_trained += examples


class PublishedMethod(ABC):
    """A published method of selection; subclasses say what happens to each batch and epoch.

    Args:
        context: What it trains with.
    """

    def __init__(self, context: BaselineContext) -> None:
        self.context = context
        self.epoch = self.batch_index = 0  # the index is within the epoch
        self.elapsed_share = 0.0  # share of the run before the batch

    def train(self) -> Iterator[float]:
        """Train for all epochs; yields the progress after each of the loader's batches."""
        context, epochs = self.context, self.context.config.epochs
        for self.epoch in range(epochs):
            order = self.epoch_order()
            share = 1.0 / len(order) / epochs
            for self.batch_index, start in enumerate(range(0, len(order), context.batch_size)):
                batch = order[start : start + context.batch_size]
                self.elapsed_share = self.epoch / epochs + start * share
                context.progress = self.elapsed_share + len(batch) / 2 * share
                self.process_batch(batch)
                yield self.elapsed_share + len(batch) * share
            self.on_epoch_end()

    def epoch_order(self) -> list[int]:
        """Return the examples of the epoch, shuffled."""
        return shuffled(range(self.context.n), self.context.rng)

    @abstractmethod
    def process_batch(self, indices: Sequence[int]) -> None:
        """Process one of the loader's batches."""

    def on_epoch_end(self) -> None:
        """Finish an epoch; by default, do nothing."""
        return None


class PublishedInfoBatch(PublishedMethod):
    """InfoBatch (Qin et al. 2024) by its authors' code.

    Scores are on the host and begin at 3, so every step copies its losses there. Of the examples
    below the mean, exactly int(keep * count) are chosen without replacement and weigh 1 / keep;
    keep is 1 - r, but at least a tenth. The mean over the batch is not rescaled. NumPy is seeded
    with the number of the epoch alone, so the draws among equal scores are the same in every
    run. Epochs count from 1. All data is used once that count exceeds delta times the epochs.
    The weights of the last choice are reset only where that product is whole; otherwise they
    stay to the end.

    Args:
        prune_ratio: r.
        delta: Share of the epochs that prune.
    """

    def __init__(
        self, context: BaselineContext, prune_ratio: float = 0.5, delta: float = 0.875
    ) -> None:
        super().__init__(context)
        self.keep_fraction = min(1.0, max(0.1, 1.0 - prune_ratio))
        self.last_pruning_epoch = delta * context.config.epochs
        self.score_N = np.full(context.n, 3.0, dtype=np.float32)
        self.weight_N = np.ones(context.n, dtype=np.float32)

    def well_learned(self) -> NDArray[np.bool_]:
        """Return which examples have a score below the mean."""
        below: NDArray[np.bool_] = self.score_N < self.score_N.mean()
        return below

    def epoch_order(self) -> list[int]:
        """Return all hard examples and a part of the easy ones; near the end, all examples."""
        count = self.epoch + 1
        random = np.random.RandomState(count)
        if count <= self.last_pruning_epoch:
            return shuffled(self._pruned_order(random), random)
        if count == self.last_pruning_epoch + 1:
            self.weight_N[:] = 1.0
        return shuffled(range(self.context.n), random)

    def _pruned_order(self, random: np.random.RandomState) -> list[int]:
        easy, hard = np.flatnonzero(self.well_learned()), np.flatnonzero(~self.well_learned())
        kept = random.choice(easy, int(self.keep_fraction * len(easy)), replace=False)
        self.weight_N[:] = 1.0
        self.weight_N[kept] = 1.0 / self.keep_fraction
        indices: list[int] = [*hard.tolist(), *kept.tolist()]
        return indices

    def process_batch(self, indices: Sequence[int]) -> None:
        """Train on the whole batch, weighted, and copy the losses to the host."""
        context = self.context
        inputs, targets = context.batch(indices)
        losses_B = context.task.losses(context.model(inputs), targets)
        weight_B = torch.from_numpy(self.weight_N[indices]).to(context.device)
        self.score_N[indices] = losses_B.detach().cpu().numpy()
        context.optimizer_step((losses_B * weight_B).mean(), len(indices))


@dataclass
class ScoredExample:
    """An example of Selective-Backprop, on the host."""

    inputs: torch.Tensor
    target: torch.Tensor
    loss: float = 0.0
    chosen: bool = True


class PublishedSelectiveBackprop(PublishedMethod):
    """Selective-Backprop (Jiang et al. 2019) by its authors' code.

    Each example is a Python object whose tensors are copied to the host and stacked again. All
    are scored in evaluation mode, and each loss is read alone. A deque holds the last 1024
    losses. A Python loop ranks each new loss in it by counting the strictly lower ones, so that
    the lowest is never chosen. One uniform number per example decides. Chosen examples wait
    until a batch is full or the epoch ends, and are run forward again, unweighted. The first
    epoch scores all examples as well, but trains on all and keeps no losses.

    Args:
        prob_pow: beta, the power of the rank; about one example in beta + 1 is trained on.
    """

    def __init__(self, context: BaselineContext, prob_pow: float = 3.0) -> None:
        super().__init__(context)
        self.prob_pow = prob_pow
        self.loss_history: deque[float] = deque(maxlen=1024)
        self.pending: list[ScoredExample] = []

    def process_batch(self, indices: Sequence[int]) -> None:
        """Score all examples, and train once a batch of chosen ones is full."""
        context = self.context
        inputs, targets = context.batch(indices)
        examples = [ScoredExample(x.cpu(), y.cpu()) for x, y in zip(inputs, targets, strict=True)]
        self._score_examples(examples)
        if self.epoch:
            probabilities = self.selection_probabilities(examples)
            for example, probability in zip(examples, probabilities, strict=True):
                example.chosen = context.rng.uniform() < probability
        self.pending += [example for example in examples if example.chosen]
        if len(self.pending) >= context.batch_size:
            self._train_on(self.pending[: context.batch_size])
            self.pending = self.pending[context.batch_size :]

    def _score_examples(self, examples: Sequence[ScoredExample]) -> None:
        context = self.context
        inputs, targets = self._stack_batch(examples)
        context.model.eval()
        with torch.no_grad():
            losses_B = context.task.losses(context.model(inputs), targets)
        context.model.train()
        for example, loss in zip(examples, losses_B, strict=True):
            example.loss = loss.item()

    def selection_probabilities(self, examples: Sequence[ScoredExample]) -> list[float]:
        """Return the probability of each example, after adding all of them to the history."""
        self.loss_history.extend(example.loss for example in examples)
        return [self.loss_rank(example.loss) ** self.prob_pow for example in examples]

    def loss_rank(self, loss: float) -> float:
        """Return the share of the history that is strictly lower than the loss."""
        return sum(1 for other in self.loss_history if other < loss) / len(self.loss_history)

    def _stack_batch(self, examples: Sequence[ScoredExample]) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = torch.stack([example.inputs for example in examples])
        targets = torch.stack([example.target for example in examples])
        return inputs.to(self.context.device), targets.to(self.context.device)

    def _train_on(self, examples: Sequence[ScoredExample]) -> None:
        inputs, targets = self._stack_batch(examples)
        losses_B = self.context.task.losses(self.context.model(inputs), targets)
        self.context.optimizer_step(losses_B.mean(), len(examples))

    def on_epoch_end(self) -> None:
        """Train on the examples that still wait."""
        if self.pending:
            self._train_on(self.pending)
        self.pending = []


class ComposerSelectiveBackprop(PublishedMethod):
    """Selective-Backprop by the code of the library Composer.

    It selects only between 0.5 and 0.9 of the run, and there in every second batch: each
    ``interrupt``-th batch is trained on whole, whatever Composer's documentation says. The
    losses of the batch come from a forward pass in training mode, which changes normalisation
    statistics. NumPy draws int(keep * N) of N examples on the host without replacement; rank r
    has a probability in proportion to ((r + 0.5) / N)**(1 / keep - 1). The smaller batch is
    unweighted. Of a batch of one, int() would keep no example; here it stays.

    Args:
        keep: Share of a batch that is trained on.
    """

    start, end, interrupt = 0.5, 0.9, 2

    def __init__(self, context: BaselineContext, keep: float = 0.5) -> None:
        super().__init__(context)
        self.keep = keep

    def selects_in_batch(self) -> bool:
        """Return whether this batch is reduced to a selection of its examples."""
        is_interrupted = (self.batch_index + 1) % self.interrupt == 0
        return not is_interrupted and self.start <= self.elapsed_share < self.end

    def rank_probabilities(self, count: int) -> Floats:
        """Return the probability of each rank, lowest loss first."""
        weight = ((np.arange(count) + 0.5) / count) ** (1.0 / self.keep - 1.0)
        probability: Floats = weight / weight.sum()
        return probability

    def choose_positions(self, losses: Floats) -> list[int]:
        """Return the places in the batch of the examples to train on."""
        count = len(losses)
        kept, probability = max(1, int(self.keep * count)), self.rank_probabilities(count)
        ranks = self.context.rng.choice(count, kept, replace=False, p=probability)
        places: list[int] = np.argsort(losses)[ranks].tolist()
        return places

    def process_batch(self, indices: Sequence[int]) -> None:
        """Train on the batch or on the selected part of it."""
        context = self.context
        inputs, targets = context.batch(indices)
        if self.selects_in_batch():
            with torch.no_grad():
                losses_B = context.task.losses(context.model(inputs), targets)
            places = self.choose_positions(losses_B.cpu().numpy())
            chosen = torch.tensor(places, device=context.device)
            inputs, targets = inputs[chosen], targets[chosen]
        losses_B = context.task.losses(context.model(inputs), targets)
        context.optimizer_step(losses_B.mean(), len(inputs))


class PublishedKakurenbo(PublishedMethod):
    """KAKURENBO (Nguyen et al. 2023) by its paper, at the cost of its authors' code.

    As in the code, loss, correctness and confidence of every example are read one by one: three
    reads per step and example. A Python loop decides which examples of the lowest losses stay
    hidden. Hidden examples are run forward at the end of every epoch, including the last. As in
    the paper, confidence is a softmax over the classes, the learning rate is divided by 1 - F
    for the hidden share F, and refreshing changes no statistics. See :class:`CodedKakurenbo`.

    Args:
        fraction: Largest hidden share; it falls during the run.
        threshold: Least confidence of a correct example that is hidden.
    """

    softmax_dim = -1
    refreshes_in_training_mode = False
    fraction_schedule = ((0.8, 0.4), (0.6, 0.6), (0.3, 0.8), (0.0, 1.0))

    def __init__(
        self, context: BaselineContext, fraction: float = 0.3, threshold: float = 0.7
    ) -> None:
        super().__init__(context)
        self.fraction, self.threshold = fraction, threshold
        self.last_loss, self.confidence = [0.0] * context.n, [0.0] * context.n
        self.correct = [False] * context.n
        self.hidden: list[int] = []

    def hideable_share(self) -> float:
        """Return the largest hidden share of this epoch; it falls in steps."""
        elapsed = self.epoch / self.context.config.epochs
        return self.fraction * next(by for start, by in self.fraction_schedule if elapsed >= start)

    def epoch_order(self) -> list[int]:
        """Return the examples that are not hidden."""
        self.hidden = self.choose_hidden()
        return shuffled(sorted({*range(self.context.n)} - {*self.hidden}), self.context.rng)

    def choose_hidden(self) -> list[int]:
        """Return the examples of the lowest losses that were correct with confidence."""
        lowest, hidden = np.argsort(self.last_loss, kind="stable"), []
        for index in lowest[: int(self.hideable_share() * self.context.n)].tolist():
            if self.correct[index] and self.confidence[index] >= self.threshold:
                hidden.append(index)  # the others are trained on
        return hidden

    def lr_multiplier(self) -> float:
        """Return 1 / (1 - F) for the hidden share F."""
        return 1.0 / (1.0 - len(self.hidden) / self.context.n)

    def process_batch(self, indices: Sequence[int]) -> None:
        """Train on the whole batch, and read the outcome of each example."""
        context = self.context
        inputs, targets = context.batch(indices)
        outputs = context.model(inputs)
        losses_B = context.task.losses(outputs, targets)
        self.record_outcomes(
            indices, losses_B.detach(), self.confidence_and_correctness(outputs.detach(), targets)
        )
        context.optimizer_step(losses_B.mean(), len(indices), self.lr_multiplier())

    def record_outcomes(
        self, indices: Sequence[int], loss_B: torch.Tensor, outcomes: tuple[torch.Tensor, ...]
    ) -> None:
        """Read loss, confidence and correctness, example by example."""
        confidence_B, correct_B = outcomes
        for place, index in enumerate(indices):
            self.last_loss[index] = loss_B[place].item()
            self.confidence[index] = confidence_B[place].item()
            self.correct[index] = bool(correct_B[place].item())

    def confidence_and_correctness(
        self, outputs: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return the model's confidence in each example, and whether it is correct.

        In regression, every example counts as correct with confidence.
        """
        if self.context.task.loss_kind == "squared_error":
            return (torch.ones(len(targets)),) * 2
        confidence = outputs.float().softmax(self.softmax_dim).amax(-1)
        correct = (outputs.argmax(-1) == targets).float()
        # A text has many predictions: mean confidence, and correct where most of them are.
        confidence_B = confidence.view(len(confidence), -1).mean(-1)
        return confidence_B, correct.view(len(correct), -1).mean(-1) > 0.5

    def on_epoch_end(self) -> None:
        """Run the hidden examples forward, so that their losses are up to date."""
        context = self.context
        context.model.train(self.refreshes_in_training_mode)
        for start in range(0, len(self.hidden), context.batch_size):
            indices = self.hidden[start : start + context.batch_size]
            inputs, targets = context.batch(indices)
            with torch.no_grad():
                outputs = context.model(inputs)
                losses_B = context.task.losses(outputs, targets)
            self.record_outcomes(
                indices, losses_B, self.confidence_and_correctness(outputs, targets)
            )
        context.model.train()


class CodedKakurenbo(PublishedKakurenbo):
    """KAKURENBO to the letter of its authors' code.

    The softmax runs over the batch instead of the classes, so confidence depends on the rest of
    the batch. From the second epoch on, the learning rate is divided by one minus the largest
    share allowed in the epoch, hidden or not. Refreshing is done in training mode.
    """

    softmax_dim = 0
    refreshes_in_training_mode = True

    def lr_multiplier(self) -> float:
        """Return 1 / (1 - F) for the largest share F, except in the first epoch."""
        return 1.0 / (1.0 - self.hideable_share()) if self.epoch else 1.0


#: Epochs of the runs in which host reads are counted; these runs also warm up.
_READ_COUNTING_EPOCHS = 3


@dataclass(frozen=True)
class BaselinePairing:
    """A published method and the policy of Effcore with the same settings.

    Attributes:
        name: Name of the pairing in results.
        make_published: Creates the published method.
        selection: Id of Effcore's policy.
        knobs: Knob values that set the policy to what was published, where its defaults differ.
    """

    name: str
    make_published: Callable[[BaselineContext], PublishedMethod]
    selection: str
    knobs: tuple[tuple[str, float], ...] = ()


#: Composer keeps half by rank to the power of 1, which is beta = 1, but not in every batch.
BASELINE_PAIRINGS = (
    BaselinePairing("infobatch", PublishedInfoBatch, "infobatch"),
    BaselinePairing(
        "selective-backprop", PublishedSelectiveBackprop, "selective-backprop", (("beta", 3.0),)
    ),
    BaselinePairing("composer", ComposerSelectiveBackprop, "selective-backprop", (("beta", 1.0),)),
    BaselinePairing("kakurenbo", PublishedKakurenbo, "kakurenbo", (("hidden_share", 0.3),)),
    BaselinePairing("kakurenbo-coded", CodedKakurenbo, "kakurenbo", (("hidden_share", 0.3),)),
)


@dataclass(frozen=True)
class BaselineRow:
    """Results of one side of a pairing, ``published`` or ``ours``; lists have a value per seed.

    ``metric`` is the final one on validation. ``seconds_to_target`` is ``None`` where the target
    was not reached. ``trained_share`` is of the examples considered.
    """

    name: str
    side: str
    seconds: list[float]
    metric: list[float]
    seconds_to_target: list[float | None]
    trained_share: list[float]
    steps: list[int]
    reads_per_step: float


@dataclass(frozen=True)
class SpeedRatios:
    """Time of Effcore's policy ÷ time of the published method, by seed.

    A ratio is ``None`` where a side missed the target, an interval for fewer than three ratios.
    """

    seconds: list[float | None]
    seconds_to_target: list[float | None]
    seconds_interval: MedianInterval | None
    seconds_to_target_interval: MedianInterval | None


@dataclass(frozen=True)
class BaselineComparison:
    """Results of dense training and of both sides of each pairing.

    ``targets`` holds the final metric of dense training less the margin, by seed; ``ratios`` the
    ratios by name of the pairing.
    """

    settings: dict[str, str | int]
    metric: str
    margin: float
    seeds: list[int]
    targets: list[float]
    rows: list[BaselineRow]
    ratios: dict[str, SpeedRatios]


@dataclass(frozen=True)
class BaselineEntry:
    """One side of a pairing, ready to train."""

    name: str
    side: str
    train: Callable[[RunConfig, HostSyncCounter], TrainingCurve]
    config: RunConfig


def train_published(
    make: Callable[[BaselineContext], PublishedMethod], config: RunConfig, counter: HostSyncCounter
) -> TrainingCurve:
    """Train a published method, evaluated at the same progress as Effcore's runs.

    Raises:
        ArithmeticError: The loss is not finite.
    """
    context = BaselineContext(config)
    method, due = make(context), 1 / EVALUATIONS
    points = [_evaluate_published(context, counter)]
    with counter.running():
        for progress in method.train():
            if progress >= due:
                due = (int(progress * EVALUATIONS) + 1) / EVALUATIONS
                with counter.running(False):
                    points.append(_evaluate_published(context, counter))
    points.append(_evaluate_published(context, counter))
    if not math.isfinite(points[-1].loss):
        raise ArithmeticError(
            f"{config.selection} as published, seed {config.seed}: the loss is not finite"
        )
    share = context.examples_trained / (config.epochs * context.n)
    return TrainingCurve(tuple(points), points[-1].seconds, context.steps, share)


def _evaluate_published(context: BaselineContext, counter: HostSyncCounter) -> EvaluationPoint:
    context.model.eval()
    with torch.inference_mode():
        loss, metric = torch.stack(
            list(context.task.evaluate(context.model, "validation"))
        ).tolist()
    context.model.train()
    return EvaluationPoint(counter.clock(), loss, metric)


def train_ours(config: RunConfig, counter: HostSyncCounter) -> TrainingCurve:
    """Train with Effcore's trainer; everything it reports but the evaluations is timed.

    Raises:
        ArithmeticError: The run failed.
    """
    loop, points = loop_with_counter(config, counter, UntimedReporter), list[EvaluationPoint]()
    with counter.running():
        for event in loop.run():
            if isinstance(event, EvalEvent):
                points.append(EvaluationPoint(event.seconds, event.loss, event.metric))
    assert isinstance(event, RunEnd), "a run ends with its RunEnd"
    if event.status is not RunStatus.FINISHED:
        raise ArithmeticError(f"{config.selection}, seed {config.seed}: {event.reason}")
    share = event.examples_trained / event.examples_considered
    return TrainingCurve(tuple(points), points[-1].seconds, loop.ledger.steps, share)


def first_pairing_name(pairing: BaselinePairing) -> str:
    """Return the name of the first pairing with the same policy and knob values."""
    return next(
        other.name
        for other in BASELINE_PAIRINGS
        if (other.selection, other.knobs) == (pairing.selection, pairing.knobs)
    )


def baseline_entries(settings: Settings) -> list[BaselineEntry]:
    """Return dense training and both sides of each pairing, without repeating equal policies.

    Raises:
        ConfigError: A setting is not allowed.
    """
    dense = resolve({**settings, "selection": "dense"})
    entries = [BaselineEntry("dense", "ours", train_ours, dense)]
    for pairing in BASELINE_PAIRINGS:
        config = resolve({**settings, **dict(pairing.knobs), "selection": pairing.selection})
        train = partial(train_published, pairing.make_published)
        entries.append(BaselineEntry(pairing.name, "published", train, config))
        if first_pairing_name(pairing) == pairing.name:
            entries.append(BaselineEntry(pairing.name, "ours", train_ours, config))
    return entries


def host_reads_per_step(entry: BaselineEntry) -> float:
    """Count reads from the device in a short run, evaluations excluded; return them per step."""
    short = replace(entry.config, epochs=min(entry.config.epochs, _READ_COUNTING_EPOCHS))
    counter = HostSyncCounter(counts=True)
    with counter:
        steps = entry.train(short, counter).steps
    return counter.reads / steps


def compare_published_baselines(
    task: str,
    model: str | None,
    size: str | None,
    epochs: int | None,
    seeds: Sequence[int],
    device: str,
    say: ProgressSink,
) -> BaselineComparison:
    """Train each published method and Effcore's policy on the same seeds, and compare times.

    Only one run trains at a time, since times are compared. The order of the runs is reversed
    for every other seed, so that neither side always comes first.

    Raises:
        ConfigError: A setting is not allowed.
        ArithmeticError: A run failed.
    """
    settings = {"task": task, "model": model, "size": size, "epochs": epochs, "device": device}
    entries = baseline_entries({**settings, "threads": 1})
    reads = [host_reads_per_step(entry) for entry in entries]
    curves = _training_curves(entries, seeds, say)
    config, metric = entries[0].config, TASKS.get(task).metric
    sign = metric.sign
    targets = [dense.points[-1].metric - sign * metric.margin for dense in curves[0]]
    rows = [
        _baseline_row(*one, targets, metric) for one in zip(entries, reads, curves, strict=True)
    ]
    return BaselineComparison(
        settings={name: getattr(config, name) for name in settings},
        metric=metric.name,
        margin=metric.margin,
        seeds=list(seeds),
        targets=targets,
        rows=rows,
        ratios={pairing.name: _speed_ratios(pairing, rows) for pairing in BASELINE_PAIRINGS},
    )


def _training_curves(
    entries: Sequence[BaselineEntry], seeds: Sequence[int], say: ProgressSink
) -> list[list[TrainingCurve]]:
    """Train all entries, seed by seed; returns the curves of each entry."""
    curves: list[list[TrainingCurve]] = [[] for _ in entries]
    say = with_eta(say, len(entries) * len(seeds))
    for place, seed in enumerate(seeds):
        for index, entry in list(enumerate(entries))[:: -1 if place % 2 else 1]:
            curve = entry.train(replace(entry.config, seed=seed), HostSyncCounter())
            curves[index].append(curve)
            say(f"seed {seed} {entry.name} ({entry.side}): {curve.seconds:.2f} s")
    return curves


def _baseline_row(
    entry: BaselineEntry,
    reads: float,
    curves: Sequence[TrainingCurve],
    targets: Sequence[float],
    metric: Metric,
) -> BaselineRow:
    pairs = zip(curves, targets, strict=True)
    return BaselineRow(
        name=entry.name,
        side=entry.side,
        seconds=[curve.seconds for curve in curves],
        metric=[curve.points[-1].metric for curve in curves],
        seconds_to_target=[curve.seconds_to_target(target, metric) for curve, target in pairs],
        trained_share=[curve.trained_share for curve in curves],
        steps=[curve.steps for curve in curves],
        reads_per_step=reads,
    )


def _speed_ratios(pairing: BaselinePairing, rows: Sequence[BaselineRow]) -> SpeedRatios:
    by_key = {(row.name, row.side): row for row in rows}
    published, ours = by_key[pairing.name, "published"], by_key[first_pairing_name(pairing), "ours"]
    seconds = _ratios(ours.seconds, published.seconds)
    to_target = _ratios(ours.seconds_to_target, published.seconds_to_target)
    return SpeedRatios(seconds, to_target, _ratio_interval(seconds), _ratio_interval(to_target))


def _ratios(ours: Sequence[float | None], published: Sequence[float | None]) -> list[float | None]:
    pairs = zip(ours, published, strict=True)
    return [None if a is None or not b else a / b for a, b in pairs]


def _ratio_interval(ratios: Sequence[float | None]) -> MedianInterval | None:
    known = [ratio for ratio in ratios if ratio is not None]
    return median_interval(known) if len(known) >= 3 else None


def published_baselines_text(comparison: BaselineComparison) -> str:
    """Return the results as Markdown: a table of all rows, and one of the ratios."""
    metric = comparison.metric
    lines = [
        f"| method | side | seconds | {metric}, validation | seconds to target | trained on | "
        "host reads per step |",
        "|-|-|-|-|-|-|-|",
    ]
    lines += [_baseline_row_text(row) for row in comparison.rows]
    lines += ["", "| ours ÷ published | whole run | to target |", "|-|-|-|"]
    for name, ratios in comparison.ratios.items():
        whole = _ratio_text(ratios.seconds, ratios.seconds_interval)
        to_target = _ratio_text(ratios.seconds_to_target, ratios.seconds_to_target_interval)
        lines.append(f"| {name} | {whole} | {to_target} |")
    lines.append(
        f"\nMedians over {len(comparison.seeds)} seeds, ratios with 95% bootstrap interval. "
        f"Target: the final {metric} of dense training less its margin of {comparison.margin:g}. "
        "Evaluations are not timed. Composer selects in one batch of five, the policy beside it "
        "in all."
    )
    return "\n".join(lines)


def _baseline_row_text(row: BaselineRow) -> str:
    reached = [value for value in row.seconds_to_target if value is not None]
    count = f"({len(reached)} of {len(row.seconds_to_target)})"
    cells = [
        row.name,
        row.side,
        f"{np.median(row.seconds):.2f}",
        f"{np.median(row.metric):.4f}",
        f"{np.median(reached):.2f} {count}" if reached else f"never {count}",
        f"{np.median(row.trained_share):.1%}",
        f"{row.reads_per_step:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def _ratio_text(ratios: Sequence[float | None], interval: MedianInterval | None) -> str:
    known = [ratio for ratio in ratios if ratio is not None]
    if not known:
        return "–"
    return f"{np.median(known):.3f} n={len(known)}" if interval is None else str(interval)


# Command ----------------------------------------------------------------------------------


@bench.command()
@click.option("--task", default="digits", help="Task that both sides train.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option("--size", help="Size of the model.")
@click.option("--epochs", type=int, help="Epochs of every run; the model's own by default.")
@click.option("--seeds", type=click.IntRange(1), help="Paired seeds; 6 by default.")
@click.option("--first-seed", default=100, type=click.IntRange(0), help="The first of the seeds.")
@click.option("--device", default="cpu", help="cpu, cuda or cuda:N.")
@click.option("--quick", is_flag=True, help="A quarter of the epochs and 3 seeds; minutes.")
@json_option
def peers(
    task: str,
    model: str | None,
    size: str | None,
    epochs: int | None,
    seeds: int | None,
    first_seed: int,
    device: str,
    quick: bool,
    as_json: bool,
) -> None:
    """Compare published methods with Effcore's policies.

    The methods are InfoBatch, Selective-Backprop and KAKURENBO. Not resumable: only runs that
    follow each other directly are comparable.
    """
    if quick and epochs is None:
        epochs = quick_epochs(task, model)
    fresh = range(first_seed, first_seed + given_or_default(seeds, quick, 3, 6))
    comparison = compare_published_baselines(
        task, model, size, epochs, fresh, device, echo_progress
    )
    print_result(dataclasses.asdict(comparison), as_json, published_baselines_text(comparison))
