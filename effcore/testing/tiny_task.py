"""A task small enough for tests: a run of it takes milliseconds.

It is not registered, so that no page and no command offers it; :func:`tiny_task` registers
it for as long as a test needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from effcore.records.views import ExampleDisplay, ViewItem
from effcore.tasks.base import TASKS, Defaults, Metric, ModelChoice, ViewInputs
from effcore.tasks.classification import Classification

_MAP_SIDE = 16


def _build_tiny_mlp(size: str) -> nn.Sequential:
    width = {"small": 8, "medium": 16, "large": 32}[size]
    return nn.Sequential(nn.Sequential(nn.Linear(2, width), nn.ReLU()), nn.Linear(width, 2))


class TinyTask(Classification):
    """Tell which of two opposite quadrant pairs a point lies in; trains in milliseconds.

    It is not registered; see :func:`tiny_task`. While training, each point is mirrored at
    the origin half of the time, which keeps its class.
    """

    id = "tiny"
    title = "Tiny"
    summary = "Points in four quadrants, made up from a seed; for tests."
    metric = Metric("accuracy", "Accuracy", "%", higher_is_better=True, digits=1, margin=0.02)
    groups = ("mixed", "alike")
    models = (
        ModelChoice(
            "mlp",
            "One hidden layer of 16.",
            _build_tiny_mlp,
            Defaults(epochs=4, batch_size=16, learning_rate=1e-2),
        ),
    )
    n_train = 200
    captions = {"map": "Where the points lie that this pass draws"}

    def __init__(self, seed: int, device: torch.device, data: Any = None) -> None:
        points = 2 * torch.rand(300, 2, generator=torch.Generator().manual_seed(0)) - 1
        rows = torch.randperm(300, generator=torch.Generator().manual_seed(seed))
        parts = self._split_rows(rows)
        self._points = {name: points[part].to(device) for name, part in parts.items()}
        self._label = {name: (p.prod(-1) > 0).long() for name, p in self._points.items()}

    def _split_rows(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"train": rows[:200], "validation": rows[200:240], "test": rows[240:]}

    def batch(
        self, idx_B: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return points (B, 2), each mirrored or not, and labels (B,)."""
        coin = torch.randint(0, 2, (len(idx_B), 1), generator=generator, device=idx_B.device)
        return self._points["train"][idx_B] * (2 * coin - 1), self._label["train"][idx_B]

    def held_out_inputs(self, split: str) -> torch.Tensor:
        """Return the points."""
        return self._points[split]

    def view(self, inputs: ViewInputs) -> dict[str, ViewItem]:
        """Return a map with a bright place for each point drawn."""
        drawn = self._points["train"][inputs.drawn_N]
        column, row = ((drawn + 1) / 2 * (_MAP_SIDE - 1)).round().long().cpu().T.numpy()
        picture = np.zeros((_MAP_SIDE, _MAP_SIDE), dtype=np.uint8)
        picture[row, column] = 255
        return {"map": picture}

    def display_example(self, index: int) -> ExampleDisplay:
        """Return where the point lies, and of which kind it is."""
        x, y = self._points["train"][index].tolist()
        return ExampleDisplay({"x": x, "y": y}, self.class_name_of(index))


@contextmanager
def tiny_task() -> Iterator[type[TinyTask]]:
    """Register :class:`TinyTask` for the duration of the block."""
    TASKS.add(TinyTask)
    try:
        yield TinyTask
    finally:
        TASKS.remove(TinyTask.id)
