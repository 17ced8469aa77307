"""Importance weights: estimates of the mean loss from many drawn epochs, with bias and spread."""

from __future__ import annotations

import dataclasses
import functools
from typing import Final, NamedTuple

import numpy as np

from effcore.insight.early_losses import example_state_of, train_early_losses
from effcore.knobs import with_knobs
from effcore.policies.selection.base import SELECTIONS, Decision, SelectionPolicy
from effcore.records import FloatArray

POLICY: Final = "stale-pps"
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
    policy = SELECTIONS.get(POLICY)()
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
