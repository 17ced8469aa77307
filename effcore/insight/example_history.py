"""A run seen from its training examples: pass by pass, who was trained on and at which loss."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effcore.records import EpochDrawEvent, FloatArray
from effcore.records.epoch_record import EpochRecord, HalfLosses
from effcore.store import Store
from effcore.store.epoch_records import EPOCH_RECORDS_FILE, read_epoch_records
from effcore.store.run_files import DECISIONS_FILE, read_decisions

CountArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ExampleHistory:
    """What was stored of each example; P passes, R of them with losses, N examples.

    Attributes:
        n_examples: Number of examples.
        step_P: Batches trained on by the end of each pass.
        index_P: Which pass each is; one that was not stored is missing.
        complete_P: Whether it went through all examples; the last one may have been cut short.
        trained_P: Who was trained on in each, one bit per example.
        losses_R: float16, shape (N,) each: everyone's last loss by the end of a pass.
        row_P: How many of ``losses_R`` there are by the end of each pass.
        has_losses: Whether the run kept losses; else only decisions are known.
    """

    n_examples: int
    step_P: CountArray
    index_P: CountArray
    complete_P: NDArray[np.bool_]
    trained_P: Sequence[NDArray[np.uint8]]
    losses_R: Sequence[HalfLosses]
    row_P: CountArray
    has_losses: bool

    @property
    def epochs(self) -> int:
        """How many passes are stored."""
        return len(self.step_P)

    def trained_N(self, place: int) -> NDArray[np.bool_]:
        """Return who was trained on in the pass at a place."""
        return np.unpackbits(self.trained_P[place], count=self.n_examples).view(np.bool_)

    def losses(self, epochs: int) -> Sequence[HalfLosses]:
        """Return everyone's losses of the first passes, of those that have any."""
        return self.losses_R[: int(self.row_P[epochs - 1])] if epochs else []


def history_from_losses(epoch_records: Sequence[EpochRecord]) -> ExampleHistory:
    """Return the history that a run has kept; the last record of a pass counts.

    Args:
        epoch_records: One record at least, all of equally many examples.
    """
    last = list({each.epoch_index: each for each in epoch_records}.values())
    kept = [each.losses_N for each in last]
    return ExampleHistory(
        n_examples=last[0].n,
        step_P=np.array([each.step for each in last], np.int64),
        index_P=np.array([each.epoch_index for each in last], np.int64),
        complete_P=np.array([each.is_complete for each in last]),
        trained_P=[each.trained_bits for each in last],
        losses_R=[losses for losses in kept if losses is not None],
        row_P=np.cumsum([losses is not None for losses in kept]),
        has_losses=True,
    )


def history_from_decisions(decisions: Sequence[EpochDrawEvent], n: int) -> ExampleHistory | None:
    """Return what decisions alone tell; ``None`` where they tell nothing.

    Of a pass in which was decided again, the last decision counts; of the last pass nobody
    knows how far it came.

    Args:
        decisions: All decisions of a run from before losses were kept.
        n: Number of examples.
    """
    size = (n + 7) // 8
    last = list(
        {each.epoch_index: each for each in decisions if each.drawn_bits.size == size}.values()
    )
    if not last:
        return None
    return ExampleHistory(
        n_examples=n,
        step_P=np.array([each.step for each in last], np.int64),
        index_P=np.array([each.epoch_index for each in last], np.int64),
        complete_P=np.arange(len(last)) < len(last) - 1,
        trained_P=[each.drawn_bits for each in last],
        losses_R=[],
        row_P=np.zeros(len(last), np.int64),
        has_losses=False,
    )


def load_history(store: Store, run_id: str, n: int) -> ExampleHistory | None:
    """Return a run's history as far as it is stored; ``None`` where nothing is, yet.

    Args:
        store: Where the run is.
        run_id: Its id, that of a run of this store.
        n: Examples that the run trains on.

    Raises:
        OSError: Its files cannot be read.
    """
    folder = store.home / "runs" / run_id
    return _read_history(
        folder, n, _file_size(folder / EPOCH_RECORDS_FILE), _file_size(folder / DECISIONS_FILE)
    )


def _file_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@functools.lru_cache(maxsize=2)  # files only ever grow: of one size they are as they were
def _read_history(folder: Path, n: int, losses: int, decisions: int) -> ExampleHistory | None:
    if losses:
        found = [each for each in read_epoch_records(folder) if each.n == n]
        return history_from_losses(found) if found else None
    return history_from_decisions(read_decisions(folder), n) if decisions else None


@dataclass(frozen=True, eq=False)
class ExampleStatistics:
    """What is known of each example by the end of a pass.

    Attributes:
        epochs: Stored passes that it is of.
        complete_epochs: How many of them went through all examples: those that are counted below.
        trained_N: In how many of these each was trained on.
        skipped_N: In how many it was skipped.
        confidence_N: Mean confidence, float64; NaN where the model was never shown it.
        variability_N: Standard deviation of the confidence over passes.
        loss_N: The last known loss; NaN where there is none.
    """

    epochs: int
    complete_epochs: int
    trained_N: CountArray
    skipped_N: CountArray
    confidence_N: FloatArray
    variability_N: FloatArray
    loss_N: FloatArray

    @property
    def known_N(self) -> NDArray[np.bool_]:
        """Who has a place on the map."""
        return np.isfinite(self.confidence_N)


@functools.lru_cache(maxsize=8)
def example_statistics(history: ExampleHistory, epochs: int, loss_kind: str) -> ExampleStatistics:
    """Return what is known by the end of the first so many stored passes.

    Confidence is the probability of what is right, e^−loss, of a cross-entropy (the mean over
    an example's characters or pixels is the geometric mean of theirs); its mean and standard
    deviation over passes are those of Swayamdipta et al. 2020, *Dataset Cartography*, section
    2. A squared error has no probability: there it is e^−(loss ÷ the mean loss of the first
    pass), 37% for an error that was the average in the beginning.

    Args:
        history: What was stored.
        epochs: Stored passes, from 0 on.
        loss_kind: ``cross_entropy`` or ``squared_error``.
    """
    whole = np.flatnonzero(history.complete_P[:epochs]).tolist()
    trained_N = np.zeros(history.n_examples, np.int64)
    for bits_K in _chunks_of_255([history.trained_P[place] for place in whole]):
        few_N = np.zeros(history.n_examples, np.uint8)
        for bits in bits_K:
            few_N += np.unpackbits(bits, count=history.n_examples)
        trained_N += few_N
    losses = history.losses(epochs)
    confidence_N, variability_N = _confidence_moments(
        losses, history.n_examples, confidence_scale(history, loss_kind)
    )
    last_N = losses[-1].astype(np.float64) if losses else np.full(history.n_examples, np.nan)
    return ExampleStatistics(
        epochs=epochs,
        complete_epochs=len(whole),
        trained_N=trained_N,
        skipped_N=len(whole) - trained_N,
        confidence_N=confidence_N,
        variability_N=variability_N,
        loss_N=np.where(np.isfinite(last_N), last_N, np.nan),
    )


def confidence_scale(history: ExampleHistory, loss_kind: str) -> float:
    """Return the loss at which confidence is 1/e."""
    if loss_kind == "cross_entropy" or not history.losses_R:
        return 1.0
    first_N = history.losses_R[0].astype(np.float64)
    known_N = first_N[np.isfinite(first_N)]
    mean = float(known_N.mean()) if len(known_N) else 0.0
    return mean or 1.0


def _confidence_moments(
    losses: Sequence[HalfLosses], n: int, scale: float
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Return mean and standard deviation over passes of e^−(loss ÷ scale).

    A loss of 16 bits has one of 65,536 values: the exponential of each is looked up.
    """
    known_V, confidence_V = _confidence_by_float16(scale)
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


def _confidence_by_float16(scale: float) -> tuple[NDArray[np.uint8], FloatArray]:
    """Return for each float16, by its bits, whether it is a loss, and the confidence of it."""
    losses_V = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    known_V = np.isfinite(losses_V)
    confidence_V: FloatArray = np.exp(np.where(known_V, np.maximum(losses_V, 0), np.inf) / -scale)
    return known_V.astype(np.uint8), confidence_V


def _chunks_of_255(bit_rows: Sequence[NDArray[np.uint8]]) -> Iterator[Sequence[NDArray[np.uint8]]]:
    """Yield as many rows at a time as can be counted in a byte."""
    for first in range(0, len(bit_rows), 255):
        yield bit_rows[first : first + 255]


def confidence_from_losses(losses: FloatArray, scale: float) -> FloatArray:
    """Return the confidence that goes with losses; NaN where a loss is not known."""
    known = np.where(np.isfinite(losses), losses, np.nan)
    result: FloatArray = np.exp(-known / scale)
    return result
