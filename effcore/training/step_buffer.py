"""Buffer of step-table rows until their losses are copied from the device."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from effcore.records import StepBlock


class NonFiniteLossError(ArithmeticError):
    """The loss stopped being a finite number.

    Args:
        step: The first step with such a loss, from 1.
        learning_rate: The run's peak learning rate.
        block: The rows up to and including that step.
    """

    def __init__(self, step: int, learning_rate: float, block: StepBlock) -> None:
        super().__init__(
            f"the loss became infinite or not a number at step {step}, with "
            f"learning_rate={learning_rate:g}: lower the learning rate or set --clip-norm 1"
        )
        self.step = step
        self.block = block


@dataclass
class StepBuffer:
    """Host-side rows since the last block, and the losses still on the device."""

    rows: list[tuple[float, ...]] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)

    def flush(self, learning_rate: float) -> StepBlock:
        """Return the buffered rows with their losses, in one copy, and empty the buffer.

        Raises:
            NonFiniteLossError: A loss is not a finite number.
        """
        rows = np.array(self.rows, dtype=np.float64).T
        loss = torch.stack(self.losses).double().cpu().numpy()
        self.rows, self.losses = [], []
        block = StepBlock(np.concatenate([rows, loss[None]]))
        non_finite = np.flatnonzero(~np.isfinite(loss))
        if non_finite.size:
            raise NonFiniteLossError(int(rows[0, non_finite[0]]), learning_rate, block)
        return block
