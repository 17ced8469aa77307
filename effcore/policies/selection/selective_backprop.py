"""Selective-Backprop: score every candidate by a forward pass, train on the hard ones.

Jiang et al. 2019, *Accelerating Deep Learning by Focusing on the Biggest Losers* (section
3.2, equation 1): an example is trained on with probability CDF_R(loss)**beta, where CDF_R
is the distribution of the last R losses. A chosen example is run forward again: with a cost of
1 for forward and 2 for backward, training on a share k costs 1 + 3k where dense training costs
3. Scoring is not free: to skip 40% of the compute this policy trains on about one in four.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from effcore.knobs import knob
from effcore.policies.selection.base import (
    SELECTIONS,
    BatchOutputs,
    ExampleState,
    PolicyMemory,
    sorting_flops,
)
from effcore.policies.selection.score_functions import systematic_sample
from effcore.policies.selection.scoring_policy import ScoringPolicy

#: Number of losses in the distribution, R (as in the authors' code).
HISTORY_LENGTH = 1024


@SELECTIONS.add
@dataclass(frozen=True)
class SelectiveBackprop(ScoringPolicy):
    """Train on one batch out of every beta + 1 scored batches.

    Biased as published: the chosen examples are not weighted (the division by the probability
    is commented out in the authors' code). Differences from that code: it chooses each
    candidate independently and takes a step whenever a batch is full, which waits for the
    device; here exactly one batch is drawn of every beta + 1 batches of candidates, by
    systematic sampling with the same probabilities scaled to that number. Scoring is in
    evaluation mode, so that examples that are not trained on do not move the normalisation
    statistics. The authors' code also trains its first epoch on every example, and its CDF
    leaves out equal losses, so that the lowest is never chosen; here, as in the paper, selection
    starts at once.
    """

    id = "selective-backprop"
    title = "Selective-Backprop"
    summary = "Scores every example by a forward pass and trains on those with a high loss."
    rank = 7
    tuning_grid = (
        {},
        {"beta": 1.0},
        {"beta": 3.0},
        {"beta": 5.0},
    )

    beta: float = knob(
        2.0,
        lo=0.0,
        hi=8.0,
        step=0.1,
        label="Beta",
        help="How strongly high losses are preferred; about one example in beta + 1 is trained on.",
    )

    def scoring_batch_size(self, batch_size: int) -> int:
        """Return how many candidates yield a batch; the mean of CDF**beta is 1 / (beta + 1)."""
        return math.ceil(batch_size * (self.beta + 1.0))

    def initial_memory(self, n: int, device: torch.device) -> PolicyMemory:
        """Return the ring buffer of the last scored losses, and the position of the next one."""
        return {
            "history_R": torch.full((HISTORY_LENGTH,), torch.inf, device=device),
            "next": torch.zeros((), dtype=torch.int64, device=device),
        }

    def selection_probabilities(self, examples: ExampleState, loss_M: torch.Tensor) -> torch.Tensor:
        """Return CDF_R(loss)**beta of each candidate, float64."""
        history_R, oldest = examples.memory["history_R"], examples.memory["next"]
        place_R = (oldest + torch.arange(HISTORY_LENGTH, device=loss_M.device)) % HISTORY_LENGTH
        # The candidates are part of the history and replace its oldest losses.
        known_R = torch.cat([history_R.index_select(0, place_R), loss_M])[-HISTORY_LENGTH:]
        finite = known_R.isfinite().sum().clamp_min(1)
        below_M = torch.searchsorted(known_R.sort().values, loss_M, right=True)
        return (below_M.clamp_max(finite) / finite).double().pow(self.beta)

    def on_candidates_scored(self, memory: PolicyMemory, candidates: BatchOutputs) -> None:
        """Replace the oldest losses of the history by those of the candidates."""
        newest_M = candidates.losses_B[-HISTORY_LENGTH:]
        place_M = torch.arange(len(newest_M), device=newest_M.device) + memory["next"]
        memory["history_R"].index_copy_(0, place_M % HISTORY_LENGTH, newest_M)
        memory["next"].add_(len(newest_M)).remainder_(HISTORY_LENGTH)

    def choosing_flops(self, candidates: int) -> float:
        """Return the cost of sorting the history, searching in it, and the sums of sampling."""
        return sorting_flops(HISTORY_LENGTH) + candidates * (math.log2(HISTORY_LENGTH) + 30.0)

    def choose_batch(
        self, examples: ExampleState, candidates: BatchOutputs, count: int, uniform: torch.Tensor
    ) -> torch.Tensor:
        """Draw ``count`` candidates by :meth:`selection_probabilities`."""
        return systematic_sample(
            self.selection_probabilities(examples, candidates.losses_B), count, uniform
        )
