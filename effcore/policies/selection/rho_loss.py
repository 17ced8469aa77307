"""RHO-LOSS: train on what is learnable and not yet learned.

Mindermann et al. 2022, *Prioritized Training on Points that are Learnable, Worth Learning,
and Not Yet Learnt* (ICML 2022, equation 3): each step trains on those of a large
batch of candidates that have the largest reducible loss, the loss minus the irreducible one.
The irreducible loss is that of a model trained on other data. Noise has a high loss under both
models, redundant points a low one, so neither is chosen.

Held-out data is reserved for evaluation; here, as the paper does without such data, two small
models are each trained on one half of the training data and score the other half. The FLOPs of
their training are counted, which the authors' code leaves out (as does *No Train No Gain*'s).
Candidates are scored in evaluation mode, where their code scores in training mode.
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
    """Train on the candidates with the largest reducible loss.

    Biased: it takes the top of each large batch. Training on a share k of the scored examples
    costs 1 + 3k where dense training costs 3, plus the two models trained before the run.
    """

    id = "rho-loss"
    title = "RHO-LOSS"
    summary = "Scores candidates and trains on those that are learnable but not yet learned."
    rank = 8
    tuning_grid = (
        {},
        {"chosen_share": 0.1},
        {"chosen_share": 0.2},
        {"chosen_share": 0.5},
    )
    needs_irreducible = True

    chosen_share: float = knob(
        0.3,
        lo=0.05,
        hi=1.0,
        step=0.05,
        label="Chosen share",
        help="Share of the scored examples to train on.",
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
        """Return the cost of one subtraction per candidate and a sort."""
        return candidates + sorting_flops(candidates)

    def choose_batch(
        self, examples: ExampleState, candidates: BatchOutputs, count: int, uniform: torch.Tensor
    ) -> torch.Tensor:
        """Return the ``count`` candidates with the largest reducible loss; ties by position."""
        # A loss that is NaN is chosen last.
        value_M = self.reducible_losses(examples, candidates).nan_to_num(-torch.inf)
        order_M = value_M.argsort(descending=True, stable=True)
        return order_M[:count]
