"""Mastered: rest an example once its loss has stopped changing.

Yuan et al. 2025, *Instance-dependent Early Stopping* (ICLR 2025, equations 4 and 5): an
instance is mastered when the second difference of its loss over the last epochs, averaged
over three of them, lies below a threshold. The paper runs mastered examples forward again in
each epoch to see whether they are still mastered (cost 1 + 2k). Here a share of them is trained
on in each epoch instead: these FLOPs also train, every probability stays above 0, and weights
can correct for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from effcore.knobs import knob
from effcore.policies.selection.base import (
    SELECTIONS,
    BatchOutputs,
    Decision,
    ExampleState,
    PolicyMemory,
    SelectionPolicy,
    correction_knob,
    normalised_correction_weights,
)

#: Losses stored per example, enough for three second differences.
_LOSS_HISTORY_LENGTH = 5


@SELECTIONS.add
@dataclass(frozen=True)
class Mastered(SelectionPolicy):
    """Draw a mastered example once in ``rest`` epochs on average, all others in every epoch."""

    id = "mastered"
    title = "Mastered"
    summary = (
        "Rests examples whose loss has stopped changing, and trains on some of them in each epoch."
    )
    rank = 10
    tuning_grid = (
        {},
        {"second_difference": 0.0001},
        {"second_difference": 0.01},
        {"second_difference": 0.01, "rest": 8},
        {"second_difference": 0.1},
        {"second_difference": 0.1, "rest": 8},
    )

    second_difference: float = knob(
        0.001,
        lo=1e-6,
        hi=1.0,
        step=0.001,
        label="Second difference",
        help="An example is mastered while its loss curve bends by less than this per epoch.",
        log=True,
    )
    rest: int = knob(
        4,
        lo=1,
        hi=32,
        step=1,
        label="Rest",
        help="A mastered example is drawn once in this many epochs on average; 1 skips nothing.",
    )
    correction: float = correction_knob()

    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        """Return 1 / ``rest`` for mastered examples, 1 for all others."""
        pi_N = torch.where(self.mastered_mask(examples), 1.0 / self.rest, 1.0).float()
        return Decision(
            pi_N, None, normalised_correction_weights(pi_N, self.correction, examples.active_mask_N)
        )

    def mastered_mask(self, examples: ExampleState) -> torch.Tensor:
        """Return which examples' losses have stopped changing, bool of shape (N,)."""
        loss_N5 = examples.memory["losses_N5"]
        bend_N3 = loss_N5.diff(n=2, dim=1).abs()
        return (
            bend_N3.mean(1) < self.second_difference
        )  # False where unknown losses make the mean NaN or inf

    def decision_flops(self, n: int) -> float:
        """Return the cost of the differences and their mean."""
        return 14.0 * n

    def initial_memory(self, n: int, device: torch.device) -> PolicyMemory:
        """Return the last losses of each example, the newest last."""
        return {"losses_N5": torch.full((n, _LOSS_HISTORY_LENGTH), torch.inf, device=device)}

    def on_batch_end(self, memory: PolicyMemory, batch: BatchOutputs) -> None:
        """Append the new loss and drop the oldest."""
        before_B5 = memory["losses_N5"].index_select(0, batch.idx_B)
        after_B5 = torch.cat([before_B5[:, 1:], batch.losses_B[:, None]], dim=1)
        memory["losses_N5"].index_copy_(0, batch.idx_B, after_B5)
