"""What is known of each training example by the end of a pass: trained on or not, and its loss."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Losses are kept in half precision; larger ones are as large as that can be.
HalfLosses = NDArray[np.float16]
#: Bytes of losses that a run keeps of every pass; beyond them, of fewer and fewer.
MAX_LOSS_BYTES: Final = 8 << 20


class EpochRecord(NamedTuple):
    """Who a pass trained on, and the last known loss of every example by its end.

    An example that the pass skipped has the loss of an earlier pass, and one that the model was
    never shown has ``inf``.

    Attributes:
        step: Batches trained on by then.
        epoch_index: Which pass.
        visited: Number of examples considered; fewer than all if the run ended within the epoch.
        trained_bits: One bit per example in dataset order (``numpy.packbits``).
        losses_N: float16, shape (N,); ``None`` where they are not kept of this pass.
        n: Number of examples.
    """

    step: int
    epoch_index: int
    visited: int
    trained_bits: NDArray[np.uint8]
    losses_N: HalfLosses | None
    n: int

    @property
    def is_complete(self) -> bool:
        """Whether the pass went through all examples."""
        return self.visited == self.n

    @property
    def trained_N(self) -> NDArray[np.bool_]:
        """Who was trained on."""
        return np.unpackbits(self.trained_bits, count=self.n).view(np.bool_)


def keeps_epoch_losses(epoch_index: int, n: int) -> bool:
    """Return whether the losses of a pass are kept: of all until there are many, then of some.

    Of every pass while that takes ``MAX_LOSS_BYTES`` at most; then of every second one until there
    are twice as many passes, of every fourth until there are twice as many again, and so on.
    """
    every = max(1, MAX_LOSS_BYTES // (2 * n))
    return epoch_index % (1 << (epoch_index // every).bit_length()) == 0
