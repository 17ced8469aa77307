"""What the policies share that draw in proportion to a score.

Inclusion proportional to size, weights pi**-c, a budget that is held, and what keeps scores
from doing harm: a uniform share, a limit for the highest, a floor for each class, a gate
that falls back to uniform, a dense first pass and a dense end.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch

from effcore.knobs import knob
from effcore.policies.selection.base import (
    BatchOutputs,
    Decision,
    ExampleState,
    PolicyMemory,
    SelectionPolicy,
    correction_knob,
    normalised_correction_weights,
    sorting_flops,
)
from effcore.policies.selection.score_functions import (
    least_variance_uniform_share,
    proportional_probabilities,
    raise_to_class_floor,
    winsorise_scores,
)

#: Weights are at most so many times the mean; what is drawn hardly ever would else decide
#: a step alone.
_MAX_WEIGHT = 10.0
#: Operations per example of finding the scale, its sort aside: sums, quotients, comparisons.
_SCALING_FLOPS = 6.0


@dataclass(frozen=True)
class ProportionalPolicy(SelectionPolicy):
    """Draw each example with a probability proportional to its score."""

    skip_fraction: float = knob(
        0.4,
        lo=0.0,
        hi=0.95,
        step=0.01,
        label="Skip fraction",
        help="Share of the run's compute to skip; every pass makes up for the ones before.",
    )
    uniform_share: float = knob(
        0.3,
        lo=0.0,
        hi=1.0,
        step=0.05,
        label="Uniform share",
        help="How much of each probability does not depend on the score; 1 is random.",
    )
    correction: float = correction_knob()
    winsor: float = knob(
        0.95,
        lo=0.5,
        hi=1.0,
        step=0.01,
        label="Score limit",
        help="Scores above this quantile count as if they were it: the limit for wrong labels.",
    )
    class_floor: float = knob(
        0.0,
        lo=0.0,
        hi=1.0,
        step=0.05,
        label="Class floor",
        help="No class is drawn less than this share of the average.",
    )
    gate: int = knob(
        0,
        lo=0,
        hi=1,
        step=1,
        label="Variance gate",
        help="At 1 selection gives way to random where, corrected, it would not lower variance.",
    )
    dense_end: float = knob(
        0.0,
        lo=0.0,
        hi=1.0,
        step=0.005,
        label="Dense end",
        help="Share of the run, at its end, that trains on everything.",
    )

    @abstractmethod
    def scores(self, examples: ExampleState) -> torch.Tensor:
        """Return float32 scores, not negative, shape (N,); ``inf`` where unknown."""

    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        """Return probabilities proportional to the mixed score; 1 for what is new."""
        if examples.progress >= 1.0 - self.dense_end:
            return Decision(torch.ones_like(examples.last_loss_N))
        keep = examples.budget_state.keep_fraction(self.skip_fraction, self.dense_end)
        score_N = winsorise_scores(_clean_scores(self.scores(examples)), self.winsor)
        pi_N = proportional_probabilities(
            score_N, keep, self._gated_uniform_share(examples, keep), examples.active_mask_N
        )
        pi_N = raise_to_class_floor(
            pi_N, examples.group_N, examples.groups, self.class_floor
        ).clamp_min(keep / _MAX_WEIGHT)
        return Decision(
            pi_N, None, normalised_correction_weights(pi_N, self.correction, examples.active_mask_N)
        )

    def _gated_uniform_share(self, examples: ExampleState, keep: float) -> torch.Tensor:
        asked = torch.full((), self.uniform_share, device=examples.last_loss_N.device)
        if not self.gate:
            return asked
        stale_N = winsorise_scores(examples.memory["stale_N"], self.winsor)
        return least_variance_uniform_share(stale_N, examples.memory["fresh_N"], keep, asked)

    def redecide_at(self) -> tuple[float, ...]:
        """Return where the dense end begins, be it in the middle of a pass."""
        return (1.0 - self.dense_end,) if self.dense_end else ()

    def decision_flops(self, n: int) -> float:
        """Return the sorts of the limit and of the scale, and the gate's three more."""
        scaling = sorting_flops(n) + _SCALING_FLOPS * n
        return sorting_flops(n) + scaling * (4 if self.gate else 1) + 10.0 * n

    def initial_memory(self, n: int, device: torch.device) -> PolicyMemory:
        """Return the scores kept for the gate: before each example's last step, and after."""
        unknown = torch.full((n,), torch.inf, device=device)
        return {"score_N": unknown, "stale_N": unknown.clone(), "fresh_N": unknown.clone()}

    def on_batch_end(self, memory: PolicyMemory, batch: BatchOutputs) -> None:
        """Keep the new score, and for the gate the one before and what it turned out to be."""
        fresh_B = _clean_scores(self.fresh_scores(batch))
        before_B = memory["score_N"].index_select(0, batch.idx_B)
        if self.gate:
            memory["stale_N"].index_copy_(0, batch.idx_B, before_B)
            memory["fresh_N"].index_copy_(0, batch.idx_B, fresh_B)
        memory["score_N"].index_copy_(0, batch.idx_B, self.merge_scores(before_B, fresh_B))

    @abstractmethod
    def fresh_scores(self, batch: BatchOutputs) -> torch.Tensor:
        """Return the scores that a step shows, float32, shape (B,)."""

    def merge_scores(self, before_B: torch.Tensor, fresh_B: torch.Tensor) -> torch.Tensor:
        """Return what is kept of old and new scores; by default the new ones."""
        return fresh_B


def _clean_scores(score: torch.Tensor) -> torch.Tensor:
    """Return scores as they are, and as unknown where they are no numbers."""
    return torch.where(score.isnan(), torch.inf, score.clamp_min(0.0))
