"""Per-example losses on their way to the host: counted, or in half precision."""

from __future__ import annotations

import numpy as np
import torch

from effcore.records import LossHistogram
from effcore.records.epoch_record import HalfLosses

#: Eight bins a decade on a fixed grid, so that the picture does not jump while it lives.
_LOG_LO, _LOG_HI, _BINS = -7.0, 1.0, 64
_EDGES = np.logspace(_LOG_LO, _LOG_HI, _BINS + 1)


def build_loss_histogram(
    last_loss_N: torch.Tensor, threshold: torch.Tensor | None, step: int
) -> LossHistogram:
    """Count losses, with one read of the device.

    Args:
        last_loss_N: float32; ``inf`` where an example was never trained on.
        threshold: 0-d, the loss up to which examples count as easy, if there is one.
        step: Batches trained on so far.
    """
    place = (last_loss_N.log10() - _LOG_LO) * (_BINS / (_LOG_HI - _LOG_LO))
    # One bin more for what has no loss yet. Counted by place, which is twice as quick as histc.
    bin_N = torch.where(last_loss_N.isfinite(), place.clamp(0, _BINS - 1), _BINS).long()
    counts = torch.bincount(bin_N, minlength=_BINS + 1)
    cut = last_loss_N.new_tensor(torch.nan) if threshold is None else threshold
    values = torch.cat([counts.double(), cut.double().reshape(1)]).cpu().numpy()
    whole = values[:-1].astype(np.int64)
    return LossHistogram(step, _EDGES, whole[:-1], float(values[-1]), int(whole[-1]))


def losses_to_half_precision(last_loss_N: torch.Tensor) -> HalfLosses:
    """Return losses in half precision on the host, with one read of the device.

    Args:
        last_loss_N: float32; ``inf``, where an example was never trained on, stays so.
    """
    most = torch.finfo(torch.float16).max
    losses_N = torch.where(last_loss_N.isinf(), last_loss_N, last_loss_N.clamp(max=most))
    result: HalfLosses = losses_N.half().cpu().numpy()
    return result
