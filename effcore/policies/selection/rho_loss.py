"""RHO-LOSS: train on what is learnable and not yet learned.

Mindermann et al. 2022, *Prioritized Training on Points that are Learnable, Worth Learning,
and Not Yet Learnt* (ICML 2022, equation 3): of a large batch of candidates those are
trained on whose reducible loss, the loss minus the irreducible one, is largest; the
irreducible loss is that of a model trained on other data. Noise has a high loss under both
models, redundant points a low one, so neither is chosen.

Held-out data is what others are judged by; here, as the paper does without such data, two
small models are each trained on one half of the training data and judge the other half.
Their training is billed, which the authors' code leaves out (as does *No Train No Gain*'s);
candidates are scored in evaluation mode, where their code scores in training mode.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from effcore.knobs import knob
from effcore.policies.selection.base import SELECTIONS, BatchOutputs, ExampleState, sorting_flops
from effcore.policies.selection.scoring_policy import ScoringPolicy


@SELECTIONS.add
@dataclass(frozen=True)
class RhoLoss(ScoringPolicy):
    """Train on the candidates of the largest reducible loss.

    Biased: it takes the top of each large batch. Training on a share k of what is scored
    costs 1 + 3k where dense training costs 3, besides the two models before.
    """

    id = "rho-loss"
    title = "RHO-LOSS"
    summary = "Scores candidates and trains on the learnable that are not yet learned."
    rank = 8
    needs_irreducible = True

    chosen_share: float = knob(
        0.3,
        lo=0.05,
        hi=1.0,
        step=0.05,
        label="Chosen share",
        help="Share of the scored examples that is trained on.",
    )

    def scoring_batch_size(self, batch_size: int) -> int:
        """Return the size of the large batch."""
        return math.ceil(batch_size / self.chosen_share)

    def reducible_losses(self, examples: ExampleState, candidates: BatchOutputs) -> torch.Tensor:
        """Return each candidate's loss minus its irreducible one."""
        return candidates.losses_B - examples.memory["irreducible_N"].index_select(
            0, candidates.idx_B
        )

    def choosing_flops(self, candidates: int) -> float:
        """Return a subtraction each, and a sort."""
        return candidates + sorting_flops(candidates)

    def choose_batch(
        self, examples: ExampleState, candidates: BatchOutputs, count: int, uniform: torch.Tensor
    ) -> torch.Tensor:
        """Return the ``count`` of the largest reducible loss; ties by place."""
        value_M = self.reducible_losses(examples, candidates).nan_to_num(
            -torch.inf
        )  # no number is no reason
        order_M = value_M.argsort(descending=True, stable=True)
        return order_M[:count]
