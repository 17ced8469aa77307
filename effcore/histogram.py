"""The distribution of per-example losses, counted on the device."""

from __future__ import annotations

import numpy as np
import torch

from effcore.events import LossHistogram

#: Eight bins a decade on a fixed grid, so that the picture does not jump while it lives.
_LOG_LO, _LOG_HI, _BINS = -7.0, 1.0, 64
_EDGES = np.logspace(_LOG_LO, _LOG_HI, _BINS + 1)


def count_losses(
    last_loss_N: torch.Tensor, threshold: torch.Tensor | None, step: int
) -> LossHistogram:
    """Count losses, with one read of the device.

    Args:
        last_loss_N: float32; ``inf`` where an example was never trained on.
        threshold: 0-d, the loss up to which examples count as easy, if there is one.
        step: Batches trained on so far.
    """
    known = last_loss_N[last_loss_N.isfinite()].log10().clamp(_LOG_LO, _LOG_HI)
    counts = torch.histc(known, _BINS, _LOG_LO, _LOG_HI)
    cut = torch.full_like(counts[0], torch.nan) if threshold is None else threshold
    values = torch.cat([counts.double(), cut.double().reshape(1)]).cpu().numpy()
    whole = values[:-1].astype(np.int64)
    unseen = len(last_loss_N) - int(whole.sum())
    return LossHistogram(step, _EDGES, whole, float(values[-1]), unseen)
