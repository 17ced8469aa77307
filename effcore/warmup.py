"""Work done once at start-up so that the first run begins at once."""

from __future__ import annotations

from effcore.config import resolve
from effcore.events import StepBlock
from effcore.trainer import train


def warm_up() -> None:
    """Take one step of the default task: PyTorch's optimizers and scikit-learn import much."""
    for event in train(resolve({"epochs": 1})):
        if isinstance(event, StepBlock):
            break
