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
from effcore.selection.base import (
    Decision,
    Memory,
    Pool,
    Seen,
    SelectionPolicy,
    correction_knob,
    scaled_weights,
    sorting_flops,
)
from effcore.selection.parts import floored, gated, proportional, winsorised

#: Weights are at most so many times the mean; what is drawn hardly ever would else decide
#: a step alone.
_LARGEST_WEIGHT = 10.0
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
    def score(self, pool: Pool) -> torch.Tensor:
        """Return float32 scores, not negative, shape (N,); ``inf`` where unknown."""

    def inclusion(self, pool: Pool) -> Decision:
        """Return probabilities proportional to the mixed score; 1 for what is new."""
        if pool.progress >= 1.0 - self.dense_end:
            return Decision(torch.ones_like(pool.last_loss_N))
        keep = pool.account.share_to_keep(self.skip_fraction, self.dense_end)
        score_N = winsorised(_not_negative(self.score(pool)), self.winsor)
        pi_N = proportional(score_N, keep, self._uniform(pool, keep), pool.open_N)
        pi_N = floored(pi_N, pool.group_N, pool.groups, self.class_floor).clamp_min(
            keep / _LARGEST_WEIGHT
        )
        return Decision(pi_N, None, scaled_weights(pi_N, self.correction, pool.open_N))

    def _uniform(self, pool: Pool, keep: float) -> torch.Tensor:
        asked = torch.full((), self.uniform_share, device=pool.last_loss_N.device)
        if not self.gate:
            return asked
        stale_N = winsorised(pool.memory["stale_N"], self.winsor)
        return gated(stale_N, pool.memory["fresh_N"], keep, asked)

    def moments(self) -> tuple[float, ...]:
        """Return where the dense end begins, be it in the middle of a pass."""
        return (1.0 - self.dense_end,) if self.dense_end else ()

    def decision_flops(self, n: int) -> float:
        """Return the sorts of the limit and of the scale, and the gate's three more."""
        scaling = sorting_flops(n) + _SCALING_FLOPS * n
        return sorting_flops(n) + scaling * (4 if self.gate else 1) + 10.0 * n

    def memory(self, n: int, device: torch.device) -> Memory:
        """Return the scores kept for the gate: before each example's last step, and after."""
        unknown = torch.full((n,), torch.inf, device=device)
        return {"score_N": unknown, "stale_N": unknown.clone(), "fresh_N": unknown.clone()}

    def observe(self, memory: Memory, seen: Seen) -> None:
        """Keep the new score, and for the gate the one before and what it turned out to be."""
        fresh_B = _not_negative(self.fresh_score(seen))
        before_B = memory["score_N"].index_select(0, seen.idx_B)
        if self.gate:
            memory["stale_N"].index_copy_(0, seen.idx_B, before_B)
            memory["fresh_N"].index_copy_(0, seen.idx_B, fresh_B)
        memory["score_N"].index_copy_(0, seen.idx_B, self.kept(before_B, fresh_B))

    @abstractmethod
    def fresh_score(self, seen: Seen) -> torch.Tensor:
        """Return the scores that a step shows, float32, shape (B,)."""

    def kept(self, before_B: torch.Tensor, fresh_B: torch.Tensor) -> torch.Tensor:
        """Return what is kept of old and new scores; by default the new ones."""
        return fresh_B


def _not_negative(score: torch.Tensor) -> torch.Tensor:
    """Return scores as they are, and as unknown where they are no numbers."""
    return torch.where(score.isnan(), torch.inf, score.clamp_min(0.0))
