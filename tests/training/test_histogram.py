from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from effcore.training.reporter import build_loss_histogram


def test_losses_fall_into_their_bins() -> None:
    losses = torch.tensor([0.5, 0.5, 1e-3, math.inf, math.nan])
    found = build_loss_histogram(losses, torch.tensor(0.01), 7)
    assert len(found.edges) == len(found.counts) + 1
    assert (found.step, found.n_unseen) == (7, 2)
    assert found.threshold == float(torch.tensor(0.01))
    places = np.flatnonzero(found.counts)
    assert found.counts[places].tolist() == [1, 2]
    for place, loss in zip(places, (1e-3, 0.5), strict=True):
        assert found.edges[place] * (1 - 1e-5) <= loss <= found.edges[place + 1] * (1 + 1e-5)


def test_the_outer_bins_hold_what_lies_beyond() -> None:
    found = build_loss_histogram(torch.tensor([0.0, 1e-30, 1e30]), None, 0)
    assert (found.counts[0], found.counts[-1]) == (2, 1)
    assert math.isnan(found.threshold)


@given(st.lists(st.floats(0, 1e6, width=32) | st.just(math.inf), max_size=50))
def test_every_example_is_counted_once(losses: list[float]) -> None:
    found = build_loss_histogram(torch.tensor(losses, dtype=torch.float32), None, 0)
    assert found.counts.sum() + found.n_unseen == len(losses)
    assert found.n_unseen == losses.count(math.inf)
