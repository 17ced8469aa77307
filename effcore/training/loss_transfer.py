"""Transfer of per-example losses to the host: as a histogram, or in half precision."""

from __future__ import annotations

import numpy as np
import torch

from effcore.records import LossHistogram
from effcore.records.epoch_record import HalfLosses

#: Eight bins per decade on a fixed grid, so that the live chart does not jump.
_LOG_LO, _LOG_HI, _BINS = -7.0, 1.0, 64
_EDGES = np.logspace(_LOG_LO, _LOG_HI, _BINS + 1)


def build_loss_histogram(
    last_loss_N: torch.Tensor, threshold: torch.Tensor | None, step: int
) -> LossHistogram:
    """Return the histogram of last losses, with one read of the device.

    Args:
        last_loss_N: float32; ``inf`` for an unseen example.
        threshold: 0-d, the loss up to which examples count as easy; ``None`` if the policy does
            not cut by loss.
        step: Batches trained on so far.
    """
    bin_position = (last_loss_N.log10() - _LOG_LO) * (_BINS / (_LOG_HI - _LOG_LO))
    # One more bin for unseen examples. Counting bin indices is twice as fast as histc.
    bin_N = torch.where(last_loss_N.isfinite(), bin_position.clamp(0, _BINS - 1), _BINS).long()
    counts = torch.bincount(bin_N, minlength=_BINS + 1)
    cut = last_loss_N.new_tensor(torch.nan) if threshold is None else threshold
    values = torch.cat([counts.double(), cut.double().reshape(1)]).cpu().numpy()
    all_counts = values[:-1].astype(np.int64)
    n_unseen = int(all_counts[-1])
    return LossHistogram(step, _EDGES, all_counts[:-1], float(values[-1]), n_unseen)


def losses_to_half_precision(last_loss_N: torch.Tensor) -> HalfLosses:
    """Return the losses in half precision on the host, with one read of the device.

    Args:
        last_loss_N: float32; ``inf`` for an unseen example stays ``inf``.
    """
    largest = torch.finfo(torch.float16).max
    losses_N = torch.where(last_loss_N.isinf(), last_loss_N, last_loss_N.clamp(max=largest))
    result: HalfLosses = losses_N.half().cpu().numpy()
    return result
