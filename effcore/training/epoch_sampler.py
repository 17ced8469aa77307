"""Epochs of a run: which examples are drawn, in which order, packed into full batches.

An epoch fixes a random order and one uniform number per example. An example is drawn if
its number lies below its inclusion probability. Drawn examples are packed into full batches
of fixed shape; a rest that does not fill a batch is carried into the next epoch. The device
is read when an epoch begins or is decided again, never per step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from effcore.policies.selection.base import Decision
from effcore.training.checkpoint import State
from effcore.training.checkpoint_tensors import (
    copy_arrays_into,
    optional_tensor_from_array,
    tensor_from_array,
)

SEED_STRIDE = (
    1_000_003  # a prime, so that epochs of neighbouring seeds do not share generator seeds
)


class EpochSampler:
    """Queue of the examples drawn in a run's current epoch.

    Args:
        n: Number of training examples.
        batch_size: Examples per step.
        seed: Seed of orders and draws; they do not depend on the policy.
        device: Device of the indices.
    """

    def __init__(self, n: int, batch_size: int, seed: int, device: torch.device) -> None:
        self.n = n
        self.batch_size = batch_size
        self.epoch_index = -1  # the current epoch
        self._seed = seed
        self._device = device
        self._generator = torch.Generator(device=device)
        self._queue = torch.empty(0, dtype=torch.int64, device=device)
        self._weights: torch.Tensor | None = None  # of each queued example; None if all are 1
        self.weight_B: torch.Tensor | None = None  # of the last batch
        self._order_positions = np.empty(
            0, dtype=np.int64
        )  # 1-based, of each queued example; 0 if carried
        self._cursor = 0
        self._visited = 0
        self.drawn_N = torch.zeros(n, dtype=torch.bool, device=device)

    @property
    def considered(self) -> int:
        """Examples considered so far, in all epochs."""
        return max(self.epoch_index, 0) * self.n + self._visited

    def begin_epoch(self) -> None:
        """Start the next epoch with a fresh order; :meth:`apply_decision` must follow."""
        self.epoch_index += 1
        self._visited = 0
        self._shuffle()
        carried = self._queue[self._cursor :]
        if self._weights is not None:
            self._weights = self._weights[self._cursor :]
        self._queue, self._cursor = carried, 0
        self._order_positions = np.zeros(len(carried), dtype=np.int64)

    def _shuffle(self) -> None:
        """Draw the order and the uniform numbers of the epoch; they depend on its index alone."""
        self._generator.manual_seed(self._seed * SEED_STRIDE + self.epoch_index)
        self._order = torch.randperm(self.n, generator=self._generator, device=self._device)
        self._uniform_N = torch.rand(self.n, generator=self._generator, device=self._device)

    def state(self) -> State:
        """Return the state of the current epoch that cannot be drawn again."""
        ahead = slice(self._cursor, None)
        return {
            "index": self.epoch_index,
            "visited": self._visited,
            "queue": self._queue[ahead],
            "places": self._order_positions[ahead],
            "weights": None if self._weights is None else self._weights[ahead],
            "drawn_N": self.drawn_N,
        }

    def restore(self, state: State) -> None:
        """Continue the epoch of a saved state."""
        self.epoch_index, self._visited, self._cursor = state["index"], state["visited"], 0
        self._shuffle()
        self._queue = tensor_from_array(state["queue"], self._device)
        self._order_positions = state["places"]
        self._weights = optional_tensor_from_array(state["weights"], self._device)
        copy_arrays_into({"drawn_N": self.drawn_N}, {"drawn_N": state["drawn_N"]})

    def apply_decision(self, decision: Decision) -> None:
        """Draw the part of the epoch not yet visited; also used after a knob change.

        Must not be called once :meth:`next_batch` has returned ``None`` for the epoch.
        """
        drawn_N = self._uniform_N < decision.pi_N
        rest = self._order[self._visited :]
        drawn_host = np.flatnonzero(drawn_N.index_select(0, rest).cpu().numpy())
        positions = torch.from_numpy(drawn_host).to(self._device)
        visited = self._order[: self._visited]
        self.drawn_N = drawn_N.index_copy(0, visited, self.drawn_N[visited])
        carried, fresh = self._carried_over(), rest.index_select(0, positions)
        self._weights = self._merged_weights(len(carried), fresh, decision.weight_N)
        self._queue = torch.cat([carried, fresh])
        self._order_positions = np.concatenate(
            [np.zeros(len(carried), dtype=np.int64), drawn_host + (self._visited + 1)]
        )
        self._cursor = 0

    def _merged_weights(
        self, n_carried: int, fresh: torch.Tensor, weight_N: torch.Tensor | None
    ) -> torch.Tensor | None:
        """Return the queue's weights; an example keeps the weight it was drawn with."""
        if weight_N is None and self._weights is None:
            return None
        ones = torch.ones(max(n_carried, len(fresh)), device=self._device)
        carried = ones if self._weights is None else self._weights[self._cursor :]
        new = ones[: len(fresh)] if weight_N is None else weight_N.index_select(0, fresh)
        return torch.cat([carried[:n_carried], new])

    def _carried_over(self) -> torch.Tensor:
        """Return the carried examples not trained on yet; their order position is 0."""
        ahead = self._order_positions[self._cursor :]
        return self._queue[self._cursor : self._cursor + int((ahead == 0).sum())]

    def skip_batches(
        self,
        rule: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
        last_loss_N: torch.Tensor,
    ) -> None:
        """Remove whole batches from the queue; call it right after :meth:`apply_decision`.

        Args:
            rule: Returns which batches to skip, from the mean last loss of each, shape (K,).
            last_loss_N: float32, each example's last loss.
        """
        batches = len(self._order_positions) // self.batch_size
        ahead = self._queue[: batches * self.batch_size]
        mean_K = last_loss_N.index_select(0, ahead).view(batches, self.batch_size).mean(1)
        out_K = rule(mean_K.double().cpu().numpy())
        if not out_K.any():
            return
        out = np.zeros(len(self._order_positions), dtype=np.bool_)
        out[: len(ahead)] = out_K.repeat(self.batch_size)
        kept = torch.from_numpy(np.flatnonzero(~out)).to(self._device)
        skipped = torch.from_numpy(np.flatnonzero(out)).to(self._device)
        self.drawn_N.index_fill_(0, self._queue.index_select(0, skipped), False)
        self._queue, self._order_positions = (
            self._queue.index_select(0, kept),
            self._order_positions[~out],
        )
        if self._weights is not None:
            self._weights = self._weights.index_select(0, kept)

    def mark_chosen(self, candidates: torch.Tensor, chosen: torch.Tensor) -> None:
        """Mark only the chosen candidates as drawn."""
        self.drawn_N.index_fill_(0, candidates, False).index_fill_(0, chosen, True)

    def next_batch(self, count: int | None = None) -> torch.Tensor | None:
        """Return the next indices (int64), or ``None`` at the end of the epoch.

        Args:
            count: Number of indices; ``None`` for one batch.
        """
        end = self._cursor + (self.batch_size if count is None else count)
        if end > len(self._order_positions):
            self._visited = self.n
            return None
        batch = self._queue[self._cursor : end]
        self.weight_B = None if self._weights is None else self._weights[self._cursor : end]
        self._cursor = end
        self._visited = max(self._visited, int(self._order_positions[end - 1]))
        return batch
