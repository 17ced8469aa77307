"""Timeline of one example: losses and decisions by epoch."""

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
    """Timeline of one example over P epochs.

    Attributes:
        number: Number of the example.
        epoch_P: Epoch numbers, from 1 on.
        step_P: Batches trained on by the end of each epoch.
        trained_P: Whether the example was trained on in each epoch.
        loss_P: Its last loss at the end of each epoch; NaN where it is unknown or not stored.
        confidence_P: The confidence that follows from the loss.
    """

    number: int
    epoch_P: CountArray
    step_P: CountArray
    trained_P: NDArray[np.bool_]
    loss_P: FloatArray
    confidence_P: FloatArray


def example_timeline(history: ExampleHistory, number: int, loss_kind: str) -> ExampleTimeline:
    """Return an example's timeline.

    Args:
        history: The run's stored history.
        number: Number of the example, from 0 on.
        loss_kind: ``cross_entropy`` or ``squared_error``.
    """
    byte, bit = divmod(number, 8)
    bits_P = np.array([bits[byte] for bits in history.trained_P], np.uint8)
    has_losses_P = np.diff(history.row_P, prepend=0) > 0
    loss_P = np.full(history.epochs, np.nan)
    loss_P[has_losses_P] = [losses[number] for losses in history.losses_R]
    loss_P[~np.isfinite(loss_P)] = np.nan
    return ExampleTimeline(
        number=number,
        epoch_P=history.index_P + 1,
        step_P=history.step_P,
        trained_P=(bits_P >> (7 - bit) & 1).astype(np.bool_),
        loss_P=loss_P,
        confidence_P=confidence_from_losses(loss_P, confidence_scale(history, loss_kind)),
    )
