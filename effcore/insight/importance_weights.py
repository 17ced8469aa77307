"""Weights that undo the selection: many passes drawn, and what their weighted means come to."""

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
    """The mean loss of all examples, as passes estimate it that draw some of them.

    Attributes:
        truth: Mean loss of all.
        drawn: Estimates by the policy, one a pass, (passes,).
        random: Estimates by as many examples drawn at random, (passes,).
        max_weight: Largest weight that an example may get.
    """

    truth: float
    drawn: FloatArray
    random: FloatArray
    max_weight: float

    def bias(self, name: str) -> float:
        """Return how far estimates are off on average, as a share of the truth."""
        return float(getattr(self, name).mean() / self.truth - 1.0)

    def spread(self, name: str) -> float:
        """Return their standard deviation, as a share of the truth."""
        return float(getattr(self, name).std() / self.truth)


@functools.lru_cache(maxsize=256)
def estimate_mean_loss(correction: float, skip_fraction: float) -> MeanLossEstimates:
    """Draw passes by what is known of the losses, and judge them by what the losses are now.

    Args:
        correction: The exponent c, 0 to 1: weights are pi**-c.
        skip_fraction: Share of the examples that is left out.
    """
    policy = SELECTIONS.get(POLICY)()
    knobs = {"skip_fraction": skip_fraction, "correction": correction}
    decision = _policy_decision(with_knobs(policy, knobs))
    plain = _policy_decision(
        with_knobs(SELECTIONS.get("random")(), {"skip_fraction": skip_fraction})
    )
    now_N = train_early_losses().now.double().numpy()
    weight_N = decision.weight_N
    heaviest = 1.0 if weight_N is None else float(weight_N.max())
    return MeanLossEstimates(
        float(now_N.mean()),
        _weighted_means(decision, now_N),
        _weighted_means(plain, now_N),
        heaviest,
    )


def _policy_decision(policy: SelectionPolicy) -> Decision:
    """Return what a policy decides that has seen each example once, a pass ago."""
    before_N = train_early_losses().before
    pool = example_state_of(before_N)
    memory = policy.initial_memory(len(before_N), before_N.device)
    if "score_N" in memory:  # for cross-entropy the loss itself, see ``fresh_score``
        memory["score_N"].copy_(before_N)
    return policy.inclusion_probabilities(dataclasses.replace(pool, memory=memory))


def _weighted_means(decision: Decision, value_N: FloatArray) -> FloatArray:
    """Return the weighted mean of what each pass draws, as a training's batches take it."""
    rng = np.random.default_rng(_SEED)
    drawn_PN = rng.random((_DRAWN_EPOCHS, len(value_N)), dtype=np.float32) < decision.pi_N.numpy()
    weight_N = 1.0 if decision.weight_N is None else decision.weight_N.double().numpy()
    means: FloatArray = (drawn_PN @ (weight_N * value_N)) / drawn_PN.sum(1)
    return means
