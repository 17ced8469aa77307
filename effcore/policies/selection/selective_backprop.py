"""Selective-Backprop: score every candidate by a forward pass, train on the hard ones.

Jiang et al. 2019, *Accelerating Deep Learning by Focusing on the Biggest Losers* (section
3.2, equation 1): an example is trained on with probability CDF_R(loss)**beta, where CDF_R
is the distribution of the last R losses. Whoever is chosen is run forward again: with
forward 1 and backward 2, a share k costs 1 + 3k where dense training costs 3. Scoring is
not free, which is the lesson of this policy; to skip 40% it may train on one in four.
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

#: Losses that the distribution is made of (the authors' code keeps as many).
HISTORY_LENGTH = 1024


@SELECTIONS.add
@dataclass(frozen=True)
class SelectiveBackprop(ScoringPolicy):
    """Train on a batch out of beta + 1 scored ones.

    Biased as published: what is chosen is not weighted for it (the division by the
    probability is commented out in the authors' code). There, each candidate is chosen by
    itself and a step is taken whenever a batch is full, which waits for the device; here
    exactly a batch is drawn of every beta + 1 batches of candidates, by systematic sampling
    with the same probabilities scaled to that number. Scored is in evaluation mode, so that
    no normalisation statistics are moved by examples that are not trained on. Their code
    besides trains its first epoch on everything, and its CDF leaves out equal losses, so that
    the lowest is never chosen; here, as in the paper, selection starts at once.
    """

    id = "selective-backprop"
    title = "Selective-Backprop"
    summary = "Runs every example forward and trains on those of high loss; scoring is billed."
    rank = 7

    beta: float = knob(
        2.0,
        lo=0.0,
        hi=8.0,
        step=0.1,
        label="Beta",
        help="How much the hard ones are preferred; about one in beta + 1 is trained on.",
    )

    def scoring_batch_size(self, batch_size: int) -> int:
        """Return as many as hold a batch on average: the mean of CDF**beta is 1 / (beta + 1)."""
        return math.ceil(batch_size * (self.beta + 1.0))

    def initial_memory(self, n: int, device: torch.device) -> PolicyMemory:
        """Return the last losses scored, and where the next goes."""
        return {
            "history_R": torch.full((HISTORY_LENGTH,), torch.inf, device=device),
            "next": torch.zeros((), dtype=torch.int64, device=device),
        }

    def selection_probabilities(self, examples: ExampleState, loss_M: torch.Tensor) -> torch.Tensor:
        """Return CDF_R(loss)**beta of each candidate, float64."""
        history_R, oldest = examples.memory["history_R"], examples.memory["next"]
        place_R = (oldest + torch.arange(HISTORY_LENGTH, device=loss_M.device)) % HISTORY_LENGTH
        # The candidates are part of the history, in the place of its oldest.
        known_R = torch.cat([history_R.index_select(0, place_R), loss_M])[-HISTORY_LENGTH:]
        finite = known_R.isfinite().sum().clamp_min(1)
        below_M = torch.searchsorted(known_R.sort().values, loss_M, right=True)
        return (below_M.clamp_max(finite) / finite).double().pow(self.beta)

    def on_candidates_scored(self, memory: PolicyMemory, candidates: BatchOutputs) -> None:
        """Put the losses of the candidates in the place of the oldest."""
        newest_M = candidates.losses_B[-HISTORY_LENGTH:]
        place_M = torch.arange(len(newest_M), device=newest_M.device) + memory["next"]
        memory["history_R"].index_copy_(0, place_M % HISTORY_LENGTH, newest_M)
        memory["next"].add_(len(newest_M)).remainder_(HISTORY_LENGTH)

    def choosing_flops(self, candidates: int) -> float:
        """Return a sort of the history, a search in it, and the sampling's sums."""
        return sorting_flops(HISTORY_LENGTH) + candidates * (math.log2(HISTORY_LENGTH) + 30.0)

    def choose_batch(
        self, examples: ExampleState, candidates: BatchOutputs, count: int, uniform: torch.Tensor
    ) -> torch.Tensor:
        """Draw ``count`` of the scored by these probabilities."""
        return systematic_sample(
            self.selection_probabilities(examples, candidates.losses_B), count, uniform
        )
