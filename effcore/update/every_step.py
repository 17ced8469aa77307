"""The plain update: every parameter, after every batch."""

from dataclasses import dataclass

import torch

from effcore.update.base import UPDATES, UpdatePolicy


@UPDATES.add
@dataclass(frozen=True)
class EveryStep(UpdatePolicy):
    """Backward through everything, clip, step."""

    id = "every-step"
    title = "Every step"
    summary = "Updates every parameter after every batch."
    rank = 0

    def update(
        self,
        loss: torch.Tensor,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        clip_norm: float,
    ) -> None:
        """Backpropagate, clip without reading the norm to the host, and step."""
        for group in optimizer.param_groups:  # as zero_grad does, which takes ten times as long
            for parameter in group["params"]:
                parameter.grad = None
        torch.autograd.backward(loss)
        if clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
