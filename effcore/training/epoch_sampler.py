"""Passes over the data: who is drawn, in which order, packed into full batches.

A pass fixes a random order and one uniform number per example. An example is drawn if
its number lies below its inclusion probability. Drawn examples are cut into full batches
of fixed shape; what does not fill the last one is carried into the next pass. The device
is read when a pass begins or is re-decided, never per step.
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

SEED_STRIDE = 1_000_003  # a prime: passes of neighbouring seeds do not share generators


class EpochSampler:
    """The queue of drawn examples of one run.

    Args:
        n: Number of training examples.
        batch_size: Examples per step.
        seed: Seed of orders and draws; the policy does not change them.
        device: Where indices live.
    """

    def __init__(self, n: int, batch_size: int, seed: int, device: torch.device) -> None:
        self.n = n
        self.batch_size = batch_size
        self.epoch_index = -1  # the pass under way
        self._seed = seed
        self._device = device
        self._generator = torch.Generator(device=device)
        self._queue = torch.empty(0, dtype=torch.int64, device=device)
        self._weights: torch.Tensor | None = None  # of each queued example; None for 1
        self.weight_B: torch.Tensor | None = None  # of the last batch
        self._order_positions = np.empty(0, dtype=np.int64)  # of each queued example in the order
        self._cursor = 0
        self._visited = 0
        self.drawn_N = torch.zeros(n, dtype=torch.bool, device=device)

    @property
    def considered(self) -> int:
        """Examples considered so far, in all passes."""
        return max(self.epoch_index, 0) * self.n + self._visited

    def begin_epoch(self) -> None:
        """Start the next pass with a fresh order; :meth:`decide` must follow."""
        self.epoch_index += 1
        self._visited = 0
        self._shuffle()
        left = self._queue[self._cursor :]
        if self._weights is not None:
            self._weights = self._weights[self._cursor :]
        self._queue, self._cursor = left, 0
        self._order_positions = np.zeros(len(left), dtype=np.int64)

    def _shuffle(self) -> None:
        """Draw the order of the pass and the examples' numbers, by its index alone."""
        self._generator.manual_seed(self._seed * SEED_STRIDE + self.epoch_index)
        self._order = torch.randperm(self.n, generator=self._generator, device=self._device)
        self._uniform_N = torch.rand(self.n, generator=self._generator, device=self._device)

    def state(self) -> State:
        """Return what of the pass under way cannot be drawn again."""
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
        """Go on in the pass that a state is of."""
        self.epoch_index, self._visited, self._cursor = state["index"], state["visited"], 0
        self._shuffle()
        self._queue = tensor_from_array(state["queue"], self._device)
        self._order_positions = state["places"]
        self._weights = optional_tensor_from_array(state["weights"], self._device)
        copy_arrays_into({"drawn_N": self.drawn_N}, {"drawn_N": state["drawn_N"]})

    def apply_decision(self, decision: Decision) -> None:
        """Draw the part of the pass not yet visited; also used when a knob moved.

        Not to be called once :meth:`next_batch` has returned ``None`` for the pass.
        """
        drawn_N = self._uniform_N < decision.pi_N
        rest = self._order[self._visited :]
        host = np.flatnonzero(drawn_N.index_select(0, rest).cpu().numpy())
        places = torch.from_numpy(host).to(self._device)
        seen = self._order[: self._visited]
        self.drawn_N = drawn_N.index_copy(0, seen, self.drawn_N[seen])
        waiting, fresh = self._carried_over(), rest.index_select(0, places)
        self._weights = self._merged_weights(len(waiting), fresh, decision.weight_N)
        self._queue = torch.cat([waiting, fresh])
        self._order_positions = np.concatenate(
            [np.zeros(len(waiting), dtype=np.int64), host + (self._visited + 1)]
        )
        self._cursor = 0

    def _merged_weights(
        self, waiting: int, fresh: torch.Tensor, weight_N: torch.Tensor | None
    ) -> torch.Tensor | None:
        """Return the queue's weights: an example keeps the weight that it was drawn with."""
        if weight_N is None and self._weights is None:
            return None
        ones = torch.ones(max(waiting, len(fresh)), device=self._device)
        kept = ones if self._weights is None else self._weights[self._cursor :]
        new = ones[: len(fresh)] if weight_N is None else weight_N.index_select(0, fresh)
        return torch.cat([kept[:waiting], new])

    def _carried_over(self) -> torch.Tensor:
        """Return carried examples not trained on yet; their place in this order is 0."""
        ahead = self._order_positions[self._cursor :]
        return self._queue[self._cursor : self._cursor + int((ahead == 0).sum())]

    def skip_batches(
        self,
        rule: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
        last_loss_N: torch.Tensor,
    ) -> None:
        """Take whole batches out of those ahead; to be called right after :meth:`decide`.

        Args:
            rule: Says which, by the mean last loss of each batch, shape (K,).
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
        left_out = torch.from_numpy(np.flatnonzero(out)).to(self._device)
        self.drawn_N.index_fill_(0, self._queue.index_select(0, left_out), False)
        self._queue, self._order_positions = (
            self._queue.index_select(0, kept),
            self._order_positions[~out],
        )
        if self._weights is not None:
            self._weights = self._weights.index_select(0, kept)

    def mark_chosen(self, candidates: torch.Tensor, chosen: torch.Tensor) -> None:
        """Note that of some drawn examples only the chosen ones are trained on."""
        self.drawn_N.index_fill_(0, candidates, False).index_fill_(0, chosen, True)

    def next_batch(self, count: int | None = None) -> torch.Tensor | None:
        """Return the next indices (int64), or ``None`` at the pass's end.

        Args:
            count: How many; a batch where not given.
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
