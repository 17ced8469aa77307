"""No step waits for the board: PyTorch itself says so, its sync debug mode set to error.

``python -m pytest -m gpu tests/gpu -s``. What the decisions between passes and the reports read is
left out, as in ``tests/training/test_no_reads.py``, which asks the same on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from effcore.config import resolve
from effcore.knobs import Controls
from effcore.policies.selection.base import SELECTIONS
from effcore.training.training_loop import TrainingLoop

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no NVIDIA GPU here"),
]
#: Steps that price what they do, and load kernels.
FIRST = 5


@contextmanager
def waiting_is_an_error(on: bool) -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error" if on else "default")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Strict(TrainingLoop):
    """A loop in whose steps nothing may wait for the device."""

    def next_batch(self) -> torch.Tensor | None:
        with waiting_is_an_error(self.ledger.steps > FIRST):
            return super().next_batch()

    def train_on_batch(self, idx_B: torch.Tensor) -> None:
        with waiting_is_an_error(self.ledger.steps > FIRST):
            super().train_on_batch(idx_B)


@pytest.mark.parametrize("selection", SELECTIONS.ids())
@pytest.mark.parametrize("task", ["digits", "code"])
def test_no_step_waits(task: str, selection: str) -> None:
    config = resolve({"task": task, "selection": selection, "epochs": 3, "device": "cuda:0"})
    loop = Strict(config, Controls(), lambda: 0.0)
    for _ in loop.run():
        if loop.ledger.steps > 200:
            break
    assert loop.ledger.steps > FIRST
