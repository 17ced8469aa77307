"""EL2N PPS: draw in proportion to the distance between prediction and truth.

The score is EL2N of Paul et al. 2021, *Deep Learning on a Data Diet* (section 3.2). The paper
takes the mean over ten networks early in training and prunes once; here the score is each
example's latest, from the training step itself. It is the gradient's norm with respect to the last
layer's outputs, the bound of Katharopoulos and Fleuret 2018 (equation 20) without the
factor that all examples share.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from effcore.policies.selection.base import SELECTIONS, BatchOutputs, ExampleState
from effcore.policies.selection.proportional_policy import ProportionalPolicy
from effcore.policies.selection.score_functions import el2n_scores

#: Operations per output: exponential, sum, division, square and sum.
_NORM_FLOPS = 5.0


@SELECTIONS.add
@dataclass(frozen=True)
class El2nPPS(ProportionalPolicy):
    """Draw in proportion to the last norm of prediction minus target.

    Unlike the loss this score is bounded, which limits the effect of mislabelled examples.
    """

    id = "el2n-pps"
    title = "EL2N PPS"
    summary = "Draws in proportion to how far each prediction was from its target."
    rank = 6

    def scores(self, examples: ExampleState) -> torch.Tensor:
        """Return each example's last score."""
        return examples.memory["score_N"]

    def scores_from_outputs(self, batch: BatchOutputs) -> torch.Tensor:
        """Return the norm of the error."""
        return el2n_scores(batch.outputs, batch.targets, batch.loss_kind)

    def batch_end_flops(self, output_count: int) -> float:
        """Return the cost of a softmax and a norm."""
        return _NORM_FLOPS * output_count
