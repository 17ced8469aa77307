"""Base class of policies that draw examples in proportion to a score.

Inclusion probabilities are proportional to the score, weights are pi**-c, and the skipped share
of the compute is held over the run. Safeguards against bad scores: a uniform share, a limit for
the highest scores, a floor for each class, a gate that falls back to uniform sampling, a dense
first epoch and a dense end.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

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
from effcore.records.deprecation import with_old_names
from effcore.records.settings import Settings

#: Largest weight, as a multiple of the mean weight. Without a limit an example that is hardly
#: ever drawn would dominate the step in which it is drawn.
_MAX_WEIGHT = 10.0
#: Operations per example to find the scale, without the sort: sums, quotients, comparisons.
_SCALING_FLOPS = 6.0


@with_old_names
@dataclass(frozen=True)
class ProportionalPolicy(SelectionPolicy):
    """Draw each example with a probability proportional to its score."""

    tuning_grid: ClassVar[tuple[Settings, ...]] = (
        {},
        {"correction": 0.5},
        {"skip_fraction": 0.5},
        {"uniform_share": 0.1, "dense_end": 0.125},
    )

    skip_fraction: float = knob(
        0.4,
        lo=0.0,
        hi=0.95,
        step=0.01,
        label="Skip fraction",
        help="Share of the run's compute to skip; each epoch corrects what earlier ones missed.",
    )
    uniform_share: float = knob(
        0.3,
        lo=0.0,
        hi=1.0,
        step=0.05,
        label="Uniform share",
        help="Share of each probability that ignores the score; 1 is random skipping.",
    )
    correction: float = correction_knob()
    winsor: float = knob(
        0.95,
        lo=0.5,
        hi=1.0,
        step=0.01,
        label="Score limit",
        help="Scores above this quantile are cut to it, which limits the effect of wrong labels.",
    )
    class_floor: float = knob(
        0.0,
        lo=0.0,
        hi=1.0,
        step=0.05,
        label="Class floor",
        help="No class is drawn less often than this share of the average.",
    )
    gate: int = knob(
        0,
        lo=0,
        hi=1,
        step=1,
        label="Variance gate",
        help="At 1, draws at random wherever selection would not lower the gradient's variance.",
    )
    dense_end: float = knob(
        0.0,
        lo=0.0,
        hi=1.0,
        step=0.005,
        label="Dense end",
        help="Share of the run, at its end, that trains on every example.",
    )

    @abstractmethod
    def scores(self, examples: ExampleState) -> torch.Tensor:
        """Return float32 scores, not negative, shape (N,); ``inf`` if unknown."""

    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        """Return probabilities proportional to the mixed score; 1 for unseen examples."""
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
        uniform_share = torch.full((), self.uniform_share, device=examples.last_loss_N.device)
        if not self.gate:
            return uniform_share
        stale_N = winsorise_scores(examples.memory["stale_N"], self.winsor)
        return least_variance_uniform_share(
            stale_N, examples.memory["fresh_N"], keep, uniform_share
        )

    def redecide_at(self) -> tuple[float, ...]:
        """Return the progress at which the dense end begins; it may be within an epoch."""
        return (1.0 - self.dense_end,) if self.dense_end else ()

    def decision_flops(self, n: int) -> float:
        """Return the cost of sorting for limit and scale, and of three more scales for the gate."""
        scaling = sorting_flops(n) + _SCALING_FLOPS * n
        return sorting_flops(n) + scaling * (4 if self.gate else 1) + 10.0 * n

    def initial_memory(self, n: int, device: torch.device) -> PolicyMemory:
        """Return the scores, and for the gate those before and after each example's last step."""
        unknown = torch.full((n,), torch.inf, device=device)
        return {"score_N": unknown, "stale_N": unknown.clone(), "fresh_N": unknown.clone()}

    def on_batch_end(self, memory: PolicyMemory, batch: BatchOutputs) -> None:
        """Store the new score, and for the gate the score before and after the step."""
        fresh_B = _clean_scores(self.scores_from_outputs(batch))
        before_B = memory["score_N"].index_select(0, batch.idx_B)
        if self.gate:
            memory["stale_N"].index_copy_(0, batch.idx_B, before_B)
            memory["fresh_N"].index_copy_(0, batch.idx_B, fresh_B)
        memory["score_N"].index_copy_(0, batch.idx_B, self.merge_scores(before_B, fresh_B))

    @abstractmethod
    def scores_from_outputs(self, batch: BatchOutputs) -> torch.Tensor:
        """Return the scores of a step's examples, float32, shape (B,)."""

    def merge_scores(self, before_B: torch.Tensor, fresh_B: torch.Tensor) -> torch.Tensor:
        """Return the scores to store, from the old and the new ones; by default the new ones."""
        return fresh_B


def _clean_scores(score: torch.Tensor) -> torch.Tensor:
    return torch.where(score.isnan(), torch.inf, score.clamp_min(0.0))
