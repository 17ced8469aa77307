"""What became of one example, pass by pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from effcore.insight.example_history import (
    CountArray,
    ExampleHistory,
    confidence_from_losses,
    confidence_scale,
)
from effcore.records import FloatArray


class ExampleTimeline(NamedTuple):
    """One example, P passes.

    Attributes:
        number: Which example.
        epoch_P: The passes, from 1 on.
        step_P: Batches trained on by the end of each.
        trained_P: Whether it was trained on in each.
        loss_P: Its last loss by the end of each; NaN where it is not known or was not kept.
        confidence_P: The confidence that goes with it.
    """

    number: int
    epoch_P: CountArray
    step_P: CountArray
    trained_P: NDArray[np.bool_]
    loss_P: FloatArray
    confidence_P: FloatArray


def example_timeline(history: ExampleHistory, number: int, loss_kind: str) -> ExampleTimeline:
    """Return what became of an example.

    Args:
        history: What was stored of the run.
        number: The example, from 0 on.
        loss_kind: ``cross_entropy`` or ``squared_error``.
    """
    byte, bit = divmod(number, 8)
    own = np.array([bits[byte] for bits in history.trained_P], np.uint8)
    kept_P = np.diff(history.row_P, prepend=0) > 0
    loss_P = np.full(history.epochs, np.nan)
    loss_P[kept_P] = [losses[number] for losses in history.losses_R]
    loss_P[~np.isfinite(loss_P)] = np.nan
    return ExampleTimeline(
        number=number,
        epoch_P=history.index_P + 1,
        step_P=history.step_P,
        trained_P=(own >> (7 - bit) & 1).astype(np.bool_),
        loss_P=loss_P,
        confidence_P=confidence_from_losses(loss_P, confidence_scale(history, loss_kind)),
    )
