"""Numbers that the explanations of the How page show, from real examples, policies and models."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import torch

from effcore.insight.multi_seed_learner import EPOCHS, LOSS_KIND, MultiSeedLearner, steps_for_frac
from effcore.knobs import KnobSpec, knobs_of, with_knob, with_knobs
from effcore.policies.selection.base import SELECTIONS, Decision, ExampleState, SelectionPolicy
from effcore.policies.selection.confident_skip import ConfidentSkip
from effcore.records import FloatArray, LossHistogram
from effcore.studies.statistics import PairedDifference, paired_difference
from effcore.tasks.base import TASKS, Task
from effcore.training.ledger import count_forward_flops, count_step_flops
from effcore.training.optimizer import learning_rate_factor
from effcore.training.reporter import build_loss_histogram

# Early losses -----------------------------------------------------------------------------


#: Epochs after which the losses are copied.
_SNAPSHOT_EPOCHS = (1, 2)
#: Low, so that losses of these early epochs are spread like those of larger data sets.
_PEAK_LR = 0.01


class EarlyLosses(NamedTuple):
    """Last loss of each example after two successive epochs of dense training, float32 (N,).

    Attributes:
        before: Losses after the earlier epoch, which a policy would know.
        now: Losses after the later epoch.
        steps: Steps taken by then.
    """

    before: torch.Tensor
    now: torch.Tensor
    steps: int


@functools.cache
def train_early_losses() -> EarlyLosses:
    """Train the small network densely for a few epochs; the result is deterministic."""
    learner = MultiSeedLearner(SELECTIONS.get("dense")(), steps_for_frac(1.0), _PEAK_LR)
    before, now = (_losses_after(learner, epochs) for epochs in _SNAPSHOT_EPOCHS)
    return EarlyLosses(before, now, learner.steps)


def _losses_after(learner: MultiSeedLearner, epochs: int) -> torch.Tensor:
    while learner.steps < steps_for_frac(epochs / EPOCHS):
        learner.step()
    return learner.last_loss_SN[0].clone()


def example_state_of(loss_N: torch.Tensor, epoch_index: int = _SNAPSHOT_EPOCHS[-1]) -> ExampleState:
    """Return the example state with these losses, halfway through a run."""
    return ExampleState(loss_N, epoch_index, LOSS_KIND, progress=0.5)


# Cut of confident skip --------------------------------------------------------------------


class LossCut(NamedTuple):
    """Effect of one knob value on the losses.

    Attributes:
        histogram: The losses with the threshold.
        examples: Number of examples.
        easy_examples: Number of examples below the cut.
        gradient_mass: Their share of the total gradient size.
        skipped_examples: How many of them this epoch skips.
        revisit_epochs: Every so many epochs an easy example is trained on again.
    """

    histogram: LossHistogram
    examples: int
    easy_examples: int
    gradient_mass: float
    skipped_examples: int
    revisit_epochs: int


def cut_knobs() -> dict[str, KnobSpec]:
    """Return the policy's two knobs that set the cut, by name."""
    return {spec.name: spec for spec in knobs_of(ConfidentSkip) if spec.group == "cut"}


def cut_losses(knob_name: str, value: float) -> LossCut:
    """Return the effect of a knob value on the losses.

    Args:
        knob_name: A key of :func:`cut_knobs`.
        value: The knob's value, within its range.

    Raises:
        KnobError: There is no such knob, or the value is out of range.
    """
    policy = with_knob(ConfidentSkip(), knob_name, value)
    early_losses = train_early_losses()
    example_state = example_state_of(early_losses.now)
    decision = policy.inclusion_probabilities(example_state)
    # Every easy example is trained on in one epoch of ``revisit``, and skipped in the others.
    epochs = range(example_state.epoch_index, example_state.epoch_index + policy.revisit)
    skipped_by_epoch = [
        policy.inclusion_probabilities(example_state_of(early_losses.now, index)).pi_N == 0
        for index in epochs
    ]
    easy_N = torch.stack(skipped_by_epoch).any(0)
    size_N = example_state.gradient_size(early_losses.now)
    return LossCut(
        histogram=build_loss_histogram(early_losses.now, decision.threshold, early_losses.steps),
        examples=len(easy_N),
        easy_examples=int(easy_N.sum()),
        gradient_mass=float(size_N[easy_N].sum() / size_N.sum()),
        skipped_examples=int((decision.pi_N == 0).sum()),
        revisit_epochs=policy.revisit,
    )


# Importance weights -----------------------------------------------------------------------


WEIGHTED_POLICY: Final = "stale-pps"
_DRAWN_EPOCHS, _SEED = 400, 0


class MeanLossEstimates(NamedTuple):
    """Estimates of the mean loss of all examples, from epochs that draw only some of them.

    Attributes:
        truth: Mean loss of all examples.
        drawn: Estimates with the policy, one per epoch, (epochs,).
        random: Estimates with random selection of as many examples, (epochs,).
        max_weight: Largest weight of an example.
    """

    truth: float
    drawn: FloatArray
    random: FloatArray
    max_weight: float

    def bias(self, name: str) -> float:
        """Return the mean error of the estimates, as a fraction of the truth."""
        return float(getattr(self, name).mean() / self.truth - 1.0)

    def spread(self, name: str) -> float:
        """Return the standard deviation of the estimates, as a fraction of the truth."""
        return float(getattr(self, name).std() / self.truth)


@functools.lru_cache(maxsize=256)
def estimate_mean_loss(correction: float, skip_fraction: float) -> MeanLossEstimates:
    """Draw epochs by the losses after one epoch, and estimate the mean of those one epoch later.

    Args:
        correction: The exponent c, 0 to 1: weights are pi**-c.
        skip_fraction: Share of the examples that is skipped.
    """
    policy = SELECTIONS.get(WEIGHTED_POLICY)()
    knobs = {"skip_fraction": skip_fraction, "correction": correction}
    decision = _policy_decision(with_knobs(policy, knobs))
    random_decision = _policy_decision(
        with_knobs(SELECTIONS.get("random")(), {"skip_fraction": skip_fraction})
    )
    now_N = train_early_losses().now.double().numpy()
    weight_N = decision.weight_N
    max_weight = 1.0 if weight_N is None else float(weight_N.max())
    return MeanLossEstimates(
        float(now_N.mean()),
        _weighted_means(decision, now_N),
        _weighted_means(random_decision, now_N),
        max_weight,
    )


def _policy_decision(policy: SelectionPolicy) -> Decision:
    """Return the decision of a policy that saw each example once, one epoch ago."""
    before_N = train_early_losses().before
    example_state = example_state_of(before_N)
    memory = policy.initial_memory(len(before_N), before_N.device)
    if "score_N" in memory:  # for cross-entropy the loss itself, see ``fresh_score``
        memory["score_N"].copy_(before_N)
    return policy.inclusion_probabilities(dataclasses.replace(example_state, memory=memory))


def _weighted_means(decision: Decision, value_N: FloatArray) -> FloatArray:
    """Return the weighted mean loss of each drawn epoch, as a training's batches compute it."""
    rng = np.random.default_rng(_SEED)
    drawn_PN = rng.random((_DRAWN_EPOCHS, len(value_N)), dtype=np.float32) < decision.pi_N.numpy()
    weight_N = 1.0 if decision.weight_N is None else decision.weight_N.double().numpy()
    means: FloatArray = (drawn_PN @ (weight_N * value_N)) / drawn_PN.sum(1)
    return means


# Cost of a subset -------------------------------------------------------------------------


FORWARD_COST: Final = 1.0
BACKWARD_COST: Final = 2.0
DENSE_COST: Final = FORWARD_COST + BACKWARD_COST


class SubsetCost(NamedTuple):
    """Cost of one method to train on a share of the examples, in forward passes over all examples.

    Attributes:
        name: How the other examples are treated.
        policy: A policy that uses this method.
        scoring: Cost of forward passes used only for scoring.
        forward: Cost of forward passes of training.
        backward: Cost of backward passes.
    """

    name: str
    policy: str
    scoring: float
    forward: float
    backward: float

    @property
    def total(self) -> float:
        """Total cost."""
        return self.scoring + self.forward + self.backward

    @property
    def saved_frac(self) -> float:
        """Share of full training's cost that is saved; below 0 if it costs more."""
        return 1.0 - self.total / DENSE_COST


def subset_costs(trained_frac: float) -> tuple[SubsetCost, SubsetCost, SubsetCost]:
    """Return the costs of the three methods, cheapest first.

    Args:
        trained_frac: Share of the examples that is trained on, 0 to 1.
    """
    trained = (FORWARD_COST * trained_frac, BACKWARD_COST * trained_frac)
    return (
        SubsetCost("Never load the others", "random", 0.0, *trained),
        SubsetCost(
            "Score the others afterwards",
            "kakurenbo",
            FORWARD_COST * (1.0 - trained_frac),
            *trained,
        ),
        SubsetCost("Score all of them first", "selective-backprop", FORWARD_COST, *trained),
    )


def trainable_frac(saved_frac: float) -> float:
    """Return the share of examples to train on that saves ``saved_frac`` if all are scored first.

    Args:
        saved_frac: Share of full training's cost, at most :func:`max_saving_when_scored`.
    """
    return 1.0 - saved_frac - FORWARD_COST / DENSE_COST


def max_saving_when_scored() -> float:
    """Return the largest possible saving if all examples are scored first and none trained on."""
    return subset_costs(0.0)[-1].saved_frac


# Masked examples --------------------------------------------------------------------------


MASKED_BATCH_SIZE: Final = 32
_MASKED_TASK, _MASKED_MODEL, _MASKED_SIZE = "digits", "cnn", "small"
_CPU = torch.device("cpu")


class MaskingFlops(NamedTuple):
    """Matmul-class FLOPs of one step on a batch, if only some of its examples are wanted.

    Attributes:
        forward: Forward pass with the whole batch.
        everything: Forward and backward pass with the whole batch.
        masked: The same, with the losses of the unwanted examples multiplied by zero.
        sliced: The same, with their losses dropped before the mean.
        never_loaded: Forward and backward pass with the wanted examples only.
        gradient_difference: Largest difference between the gradients of the masked step and of
            the step with the wanted examples only, as a fraction of the largest entry.
    """

    forward: float
    everything: float
    masked: float
    sliced: float
    never_loaded: float
    gradient_difference: float


class _MaskingStepInputs(NamedTuple):
    """A real model with a batch of its task."""

    task: Task
    model: torch.nn.Sequential
    inputs: torch.Tensor
    targets: torch.Tensor


@functools.cache
def _load_step_inputs() -> _MaskingStepInputs:
    task = TASKS.get(_MASKED_TASK)(0, _CPU)
    inputs, targets = task.batch(torch.arange(MASKED_BATCH_SIZE), torch.Generator().manual_seed(0))
    return _MaskingStepInputs(
        task, task.build_model(_MASKED_MODEL, 0, _CPU, _MASKED_SIZE), inputs, targets
    )


@functools.lru_cache(maxsize=MASKED_BATCH_SIZE)
def count_masking_flops(wanted_examples: int) -> MaskingFlops:
    """Return the FLOPs of the steps, counted on a real batch and model.

    Args:
        wanted_examples: Examples of the batch to train on, 1 to ``MASKED_BATCH_SIZE``.
    """
    torch.set_num_threads(1)  # as in a run, per thread; more threads are slower for so little work
    task, model, inputs, targets = _load_step_inputs()
    mask_B = (torch.arange(MASKED_BATCH_SIZE) < wanted_examples) * (
        MASKED_BATCH_SIZE / wanted_examples
    )

    def all_losses(m: torch.nn.Module) -> torch.Tensor:
        return task.losses(m(inputs), targets)

    def masked_losses(m: torch.nn.Module) -> torch.Tensor:
        return all_losses(m) * mask_B

    def sliced_losses(m: torch.nn.Module) -> torch.Tensor:
        return all_losses(m)[:wanted_examples]

    def wanted_losses(m: torch.nn.Module) -> torch.Tensor:
        return task.losses(m(inputs[:wanted_examples]), targets[:wanted_examples])

    gradient_difference = max(
        float((masked_gradient - wanted_gradient).abs().max() / masked_gradient.abs().max())
        for masked_gradient, wanted_gradient in zip(
            _mean_loss_gradient(model, masked_losses),
            _mean_loss_gradient(model, wanted_losses),
            strict=True,
        )
    )
    return MaskingFlops(
        forward=count_forward_flops(model, lambda m: m(inputs)),
        everything=count_step_flops(model, all_losses),
        masked=count_step_flops(model, masked_losses),
        sliced=count_step_flops(model, sliced_losses),
        never_loaded=count_step_flops(model, wanted_losses),
        gradient_difference=gradient_difference,
    )


def _mean_loss_gradient(
    model: torch.nn.Module, losses: Callable[[torch.nn.Module], torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(losses(model).mean(), tuple(model.parameters()))


# Race within a budget ---------------------------------------------------------------------


RACED_POLICY: Final = "confident-skip"
#: Evaluations on the validation split during full training.
_EVALUATIONS = 20


class BudgetRaceCurve(NamedTuple):
    """Learning curve and final accuracy of one variant.

    Attributes:
        spent: Share of full training's computation at each evaluation, (evaluations,).
        rate: Learning rate there, as a share of its peak, (evaluations,).
        validation: Accuracy on the validation split, mean over seeds, (evaluations,).
        test: Final accuracy on the test split, by seed, (seeds,).
    """

    spent: FloatArray
    rate: FloatArray
    validation: FloatArray
    test: FloatArray

    @property
    def mean_test_accuracy(self) -> float:
        """Accuracy on the test split, mean over seeds."""
        return float(self.test.mean())


class BudgetRace(NamedTuple):
    """The four variants; all but the first spend the budget.

    Attributes:
        full: Full training.
        cut: Full training, cut off at the budget.
        matched: Same-budget training: dense, with the learning rate decayed over the budget.
        policy: Confident skip, with the learning rate decayed over the budget.
    """

    full: BudgetRaceCurve
    cut: BudgetRaceCurve
    matched: BudgetRaceCurve
    policy: BudgetRaceCurve

    def gain(self, baseline: str) -> PairedDifference:
        """Return the policy's test accuracy less that of another variant, paired by seed."""
        baseline_curve: BudgetRaceCurve = getattr(self, baseline)
        return paired_difference(self.policy.test.tolist(), baseline_curve.test.tolist())

    def conclusion(self) -> str:
        """Return a sentence on how the verdict depends on the baseline, from both intervals."""
        cut, matched = self.gain("cut"), self.gain("matched")
        if cut.lo <= 0:
            return "At this budget the policy is not clearly better, not even than the cut-off run."
        if matched.lo > 0:
            return "The policy is better than both, so it also beats the fair baseline."
        if matched.hi < 0:
            return (
                "Against the cut-off run the policy looks like a win; against the fair baseline it "
                "is a loss."
            )
        return (
            "Against the cut-off run the policy looks like a win; against the fair baseline it is "
            "a tie."
        )


def run_budget_race(budget: float) -> BudgetRace:
    """Train the four variants.

    Args:
        budget: Share of full training's computation, in (0, 1].
    """
    all_steps, steps = steps_for_frac(1.0), steps_for_frac(budget)
    return BudgetRace(
        _train_curve("dense", all_steps, all_steps),
        _train_curve("dense", steps, all_steps),
        _train_curve("dense", steps, steps),
        _train_curve(RACED_POLICY, steps, steps),
    )


@functools.lru_cache(maxsize=64)
def _train_curve(selection: str, steps: int, decay_steps: int) -> BudgetRaceCurve:
    """Train for ``steps``; the cost of decisions, a thousandth of an epoch, is not counted."""
    learner, steps_per_evaluation = (
        MultiSeedLearner(SELECTIONS.get(selection)(), decay_steps),
        steps_for_frac(1.0 / _EVALUATIONS),
    )
    rows = [_curve_point(learner, decay_steps)]
    while learner.steps < steps:
        learner.step()
        if learner.steps % steps_per_evaluation == 0 or learner.steps == steps:
            rows.append(_curve_point(learner, decay_steps))
    spent, rate, validation = np.array(rows).T
    return BudgetRaceCurve(spent, rate, validation, learner.accuracy("test"))


def _curve_point(learner: MultiSeedLearner, decay_steps: int) -> tuple[float, float, float]:
    lr_factor = learning_rate_factor(learner.steps / decay_steps)
    return (
        learner.steps / steps_for_frac(1.0),
        lr_factor,
        float(learner.accuracy("validation").mean()),
    )
