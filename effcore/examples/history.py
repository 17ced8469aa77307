"""A run seen from its training examples: pass by pass, who was trained on and at which loss."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effcore.events import FloatArray, PassEvent
from effcore.passlosses import Losses, PassLosses
from effcore.store import Store
from effcore.store.files import PASSES, read_passes
from effcore.store.losses import LOSSES, read_losses

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class History:
    """What was stored of each example; P passes, R of them with losses, N examples.

    Attributes:
        n: Number of examples.
        step_P: Batches trained on by the end of each pass.
        index_P: Which pass each is; one that was not stored is missing.
        whole_P: Whether it went through all examples; the last one may have been cut short.
        trained_P: Who was trained on in each, one bit per example.
        losses_R: float16, shape (N,) each: everyone's last loss by the end of a pass.
        row_P: How many of ``losses_R`` there are by the end of each pass.
        stored: Whether the run kept losses; else only decisions are known.
    """

    n: int
    step_P: Counts
    index_P: Counts
    whole_P: NDArray[np.bool_]
    trained_P: Sequence[NDArray[np.uint8]]
    losses_R: Sequence[Losses]
    row_P: Counts
    stored: bool

    @property
    def passes(self) -> int:
        """How many passes are stored."""
        return len(self.step_P)

    def trained_N(self, place: int) -> NDArray[np.bool_]:
        """Return who was trained on in the pass at a place."""
        return np.unpackbits(self.trained_P[place], count=self.n).view(np.bool_)

    def losses(self, upto: int) -> Sequence[Losses]:
        """Return everyone's losses of the first passes, of those that have any."""
        return self.losses_R[: int(self.row_P[upto - 1])] if upto else []


def from_losses(found: Sequence[PassLosses]) -> History:
    """Return the history that a run has kept; the last record of a pass counts.

    Args:
        found: One record at least, all of equally many examples.
    """
    last = list({each.pass_index: each for each in found}.values())
    kept = [each.losses_N for each in last]
    return History(
        n=last[0].n,
        step_P=np.array([each.step for each in last], np.int64),
        index_P=np.array([each.pass_index for each in last], np.int64),
        whole_P=np.array([each.whole for each in last]),
        trained_P=[each.trained_bits for each in last],
        losses_R=[losses for losses in kept if losses is not None],
        row_P=np.cumsum([losses is not None for losses in kept]),
        stored=True,
    )


def from_decisions(found: Sequence[PassEvent], n: int) -> History | None:
    """Return what decisions alone tell; ``None`` where they tell nothing.

    Of a pass in which was decided again, the last decision counts; of the last pass nobody
    knows how far it came.

    Args:
        found: All decisions of a run from before losses were kept.
        n: Number of examples.
    """
    size = (n + 7) // 8
    last = list({each.pass_index: each for each in found if each.drawn_bits.size == size}.values())
    if not last:
        return None
    return History(
        n=n,
        step_P=np.array([each.step for each in last], np.int64),
        index_P=np.array([each.pass_index for each in last], np.int64),
        whole_P=np.arange(len(last)) < len(last) - 1,
        trained_P=[each.drawn_bits for each in last],
        losses_R=[],
        row_P=np.zeros(len(last), np.int64),
        stored=False,
    )


def history_of(store: Store, run_id: str, n: int) -> History | None:
    """Return a run's history as far as it is stored; ``None`` where nothing is, yet.

    Args:
        store: Where the run is.
        run_id: Its id, that of a run of this store.
        n: Examples that the run trains on.

    Raises:
        OSError: Its files cannot be read.
    """
    folder = store.home / "runs" / run_id
    return _read(folder, n, _size(folder / LOSSES), _size(folder / PASSES))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@functools.lru_cache(maxsize=2)  # files only ever grow: of one size they are as they were
def _read(folder: Path, n: int, losses: int, decisions: int) -> History | None:
    if losses:
        found = [each for each in read_losses(folder) if each.n == n]
        return from_losses(found) if found else None
    return from_decisions(read_passes(folder), n) if decisions else None


@dataclass(frozen=True, eq=False)
class Look:
    """What is known of each example by the end of a pass.

    Attributes:
        upto: Stored passes that it is of.
        whole: How many of them went through all examples: those that are counted below.
        trained_N: In how many of these each was trained on.
        skipped_N: In how many it was skipped.
        confidence_N: Mean confidence, float64; NaN where the model was never shown it.
        variability_N: Standard deviation of the confidence over passes.
        loss_N: The last known loss; NaN where there is none.
    """

    upto: int
    whole: int
    trained_N: Counts
    skipped_N: Counts
    confidence_N: FloatArray
    variability_N: FloatArray
    loss_N: FloatArray

    @property
    def known_N(self) -> NDArray[np.bool_]:
        """Who has a place on the map."""
        return np.isfinite(self.confidence_N)


@functools.lru_cache(maxsize=8)
def look_at(history: History, upto: int, loss_kind: str) -> Look:
    """Return what is known by the end of the first so many stored passes.

    Confidence is the probability of what is right, e^−loss, of a cross-entropy (the mean over
    an example's characters or pixels is the geometric mean of theirs); its mean and standard
    deviation over passes are those of Swayamdipta et al. 2020, *Dataset Cartography*, section
    2. A squared error has no probability: there it is e^−(loss ÷ the mean loss of the first
    pass), 37% for an error that was the average in the beginning.

    Args:
        history: What was stored.
        upto: Stored passes, from 0 on.
        loss_kind: ``cross_entropy`` or ``squared_error``.
    """
    whole = np.flatnonzero(history.whole_P[:upto]).tolist()
    trained_N = np.zeros(history.n, np.int64)
    for bits_K in _few([history.trained_P[place] for place in whole]):
        few_N = np.zeros(history.n, np.uint8)
        for bits in bits_K:
            few_N += np.unpackbits(bits, count=history.n)
        trained_N += few_N
    losses = history.losses(upto)
    confidence_N, variability_N = _confidence(losses, history.n, scale_of(history, loss_kind))
    last_N = losses[-1].astype(np.float64) if losses else np.full(history.n, np.nan)
    return Look(
        upto=upto,
        whole=len(whole),
        trained_N=trained_N,
        skipped_N=len(whole) - trained_N,
        confidence_N=confidence_N,
        variability_N=variability_N,
        loss_N=np.where(np.isfinite(last_N), last_N, np.nan),
    )


def scale_of(history: History, loss_kind: str) -> float:
    """Return the loss at which confidence is 1/e."""
    if loss_kind == "cross_entropy" or not history.losses_R:
        return 1.0
    first_N = history.losses_R[0].astype(np.float64)
    known_N = first_N[np.isfinite(first_N)]
    mean = float(known_N.mean()) if len(known_N) else 0.0
    return mean or 1.0


def _confidence(
    losses: Sequence[Losses], n: int, scale: float
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Return mean and standard deviation over passes of e^−(loss ÷ scale).

    A loss of 16 bits has one of 65,536 values: the exponential of each is looked up.
    """
    known_V, confidence_V = _by_value(scale)
    count_N, sum_N, squares_N = np.zeros(n, np.int64), np.zeros(n), np.zeros(n)
    for losses_N in losses:
        value_N = losses_N.view(np.uint16).astype(np.intp)
        confidence_N = np.take(confidence_V, value_N)
        count_N += np.take(known_V, value_N)
        sum_N += confidence_N
        squares_N += np.square(confidence_N, out=confidence_N)
    with np.errstate(invalid="ignore"):
        mean_N = sum_N / count_N
        variance_N = np.maximum(squares_N / count_N - mean_N**2, 0.0)
    return mean_N, np.sqrt(variance_N)


def _by_value(scale: float) -> tuple[NDArray[np.uint8], FloatArray]:
    """Return for each float16, by its bits, whether it is a loss, and the confidence of it."""
    losses_V = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    known_V = np.isfinite(losses_V)
    confidence_V: FloatArray = np.exp(np.where(known_V, np.maximum(losses_V, 0), np.inf) / -scale)
    return known_V.astype(np.uint8), confidence_V


def _few(rows: Sequence[NDArray[np.uint8]]) -> Iterator[Sequence[NDArray[np.uint8]]]:
    """Yield as many rows at a time as can be counted in a byte."""
    for first in range(0, len(rows), 255):
        yield rows[first : first + 255]


def confidence_of(losses: FloatArray, scale: float) -> FloatArray:
    """Return the confidence that goes with losses; NaN where a loss is not known."""
    known = np.where(np.isfinite(losses), losses, np.nan)
    result: FloatArray = np.exp(-known / scale)
    return result
