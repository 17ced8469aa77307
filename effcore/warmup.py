"""Work done once at start-up so that the first run begins at once."""

from __future__ import annotations

import functools

from effcore.config import resolve
from effcore.events import StepBlock
from effcore.trainer import train


@functools.cache
def warm_up_once() -> None:
    """Warm up where this process has not done so, so that no run is timed loading."""
    warm_up()


def warm_up() -> None:
    """Take one step of the default task: PyTorch's optimizers and scikit-learn import much."""
    for event in train(resolve({"epochs": 1})):
        if isinstance(event, StepBlock):
            break
