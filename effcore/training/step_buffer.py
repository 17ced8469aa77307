"""Rows of the step table on their way from the device to the host."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from effcore.records import StepBlock


class NonFiniteLossError(ArithmeticError):
    """The loss stopped being a finite number.

    Args:
        step: The first such step, from 1.
        learning_rate: The run's peak rate.
        block: The rows up to it, which are kept.
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
        """Copy the losses to the host, once, and start anew.

        Raises:
            NonFiniteLossError: One of them is not a finite number.
        """
        rows = np.array(self.rows, dtype=np.float64).T
        loss = torch.stack(self.losses).double().cpu().numpy()
        self.rows, self.losses = [], []
        block = StepBlock(np.concatenate([rows, loss[None]]))
        bad = np.flatnonzero(~np.isfinite(loss))
        if bad.size:
            raise NonFiniteLossError(int(rows[0, bad[0]]), learning_rate, block)
        return block
