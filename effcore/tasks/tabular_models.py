"""Networks for tables: a multilayer perceptron, and a network of residual blocks.

The second is the ResNet of Gorishniy et al. 2021, *Revisiting Deep Learning Models for
Tabular Data*, section 3.2, without its dropout.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from effcore.tasks.base import Defaults, ModelChoice
from effcore.tasks.residual_stage import ResidualStage

#: Factor on the width of a model at each size.
_WIDTH_SCALES = {"small": 0.5, "medium": 1.0, "large": 2.0}


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation that can train on a single row.

    A single row has no variance, so it is normalised by the running statistics.
    """

    def forward(self, rows_BD: torch.Tensor) -> torch.Tensor:
        """Normalise each of D columns over the batch."""
        if self.training and len(rows_BD) == 1:
            return nn.functional.batch_norm(
                rows_BD, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(rows_BD)


class Residual(ResidualStage):
    """A block x + Linear(ReLU(Linear(RowNorm(x)))).

    Args:
        width: Width of input and output.
        hidden: Width between the two linear layers.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        first, last = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.branch = nn.Sequential(RowNorm(width), first, nn.ReLU(inplace=True), last)
        self._last = (last,)

    def branches(self) -> tuple[nn.Module, ...]:
        """Return the branch."""
        return (self.branch,)

    def last_layers(self) -> tuple[nn.Linear, ...]:
        """Return the second linear layer."""
        return self._last


def build_mlp(columns: int, outputs: int, width: int, depth: int, size: str) -> nn.Sequential:
    """Return ``depth`` hidden layers with ReLU and a linear head."""
    scaled = round(width * _WIDTH_SCALES[size])
    widths = [columns, *[scaled] * depth]
    hidden = [
        nn.Sequential(nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True))
        for fan_in, fan_out in zip(widths, widths[1:], strict=False)
    ]
    return nn.Sequential(*hidden, nn.Linear(scaled, outputs))


def build_resnet(columns: int, outputs: int, width: int, blocks: int, size: str) -> nn.Sequential:
    """Return a linear stem, residual blocks twice as wide inside, and a normalised head."""
    scaled = round(width * _WIDTH_SCALES[size])
    head = nn.Sequential(RowNorm(scaled), nn.ReLU(inplace=True), nn.Linear(scaled, outputs))
    body = [Residual(scaled, 2 * scaled) for _ in range(blocks)]
    return nn.Sequential(nn.Linear(columns, scaled), *body, head)


def table_models(
    columns: int, outputs: int, width: int, plain: Defaults, residual: Defaults
) -> tuple[ModelChoice, ...]:
    """Return both models for a table; the residual one has half the width.

    Args:
        columns: Number of columns.
        outputs: Number of outputs.
        width: Width of the plain network's hidden layers, at size ``medium``.
        plain: Default settings of the plain network.
        residual: Default settings of the residual network.
    """
    return (
        ModelChoice(
            "mlp", "Two hidden layers.", partial(build_mlp, columns, outputs, width, 2), plain
        ),
        ModelChoice(
            "resnet",
            "Two residual blocks with batch normalisation.",
            partial(build_resnet, columns, outputs, width // 2, 2),
            residual,
        ),
    )
