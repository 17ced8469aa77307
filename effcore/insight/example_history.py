"""History of a run's training examples: selection and loss by epoch, example and class."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effcore.records import EpochDrawEvent, FloatArray
from effcore.records.epoch_record import EpochRecord, HalfLosses
from effcore.store import Store
from effcore.store.run_files import (
    DECISIONS_FILE,
    EPOCH_RECORDS_FILE,
    read_decisions,
    read_epoch_records,
)

CountArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ExampleHistory:
    """Stored decisions and losses of each example; P epochs, R of them with losses, N examples.

    Attributes:
        n_examples: Number of examples.
        step_P: Batches trained on by the end of each epoch.
        index_P: Epoch indices, from 0 on; epochs that were not stored are missing.
        complete_P: Whether the epoch went through all examples; the last may have been cut short.
        trained_P: Examples trained on in each epoch, one bit per example.
        losses_R: Last loss of every example at the end of an epoch, float16, shape (N,) each.
        row_P: Number of rows of ``losses_R`` up to the end of each epoch.
        has_losses: Whether the run stored losses; otherwise only decisions are known.
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
        """Number of stored epochs."""
        return len(self.step_P)

    def trained_N(self, place: int) -> NDArray[np.bool_]:
        """Return which examples were trained on in the stored epoch number ``place``, from 0."""
        return np.unpackbits(self.trained_P[place], count=self.n_examples).view(np.bool_)

    def losses(self, epochs: int) -> Sequence[HalfLosses]:
        """Return the stored rows of losses up to the end of the first ``epochs`` stored epochs."""
        return self.losses_R[: int(self.row_P[epochs - 1])] if epochs else []


def history_from_losses(epoch_records: Sequence[EpochRecord]) -> ExampleHistory:
    """Return the history from a run's epoch records; the last record of an epoch counts.

    Args:
        epoch_records: At least one record, all with the same number of examples.
    """
    records = list({record.epoch_index: record for record in epoch_records}.values())
    losses_by_epoch = [record.losses_N for record in records]
    return ExampleHistory(
        n_examples=records[0].n,
        step_P=np.array([record.step for record in records], np.int64),
        index_P=np.array([record.epoch_index for record in records], np.int64),
        complete_P=np.array([record.is_complete for record in records]),
        trained_P=[record.trained_bits for record in records],
        losses_R=[losses for losses in losses_by_epoch if losses is not None],
        row_P=np.cumsum([losses is not None for losses in losses_by_epoch]),
        has_losses=True,
    )


def history_from_decisions(decisions: Sequence[EpochDrawEvent], n: int) -> ExampleHistory | None:
    """Return the history from decisions alone; ``None`` if none of them fits.

    If an epoch has several decisions, the last one counts. The last epoch is taken as
    incomplete, because its length is not known.

    Args:
        decisions: All decisions of a run without stored losses.
        n: Number of examples.
    """
    size = (n + 7) // 8
    last_decisions = list(
        {
            decision.epoch_index: decision
            for decision in decisions
            if decision.drawn_bits.size == size
        }.values()
    )
    if not last_decisions:
        return None
    return ExampleHistory(
        n_examples=n,
        step_P=np.array([decision.step for decision in last_decisions], np.int64),
        index_P=np.array([decision.epoch_index for decision in last_decisions], np.int64),
        complete_P=np.arange(len(last_decisions)) < len(last_decisions) - 1,
        trained_P=[decision.drawn_bits for decision in last_decisions],
        losses_R=[],
        row_P=np.zeros(len(last_decisions), np.int64),
        has_losses=False,
    )


def load_history(store: Store, run_id: str, n: int) -> ExampleHistory | None:
    """Return the stored history of a run; ``None`` if nothing is stored yet.

    Args:
        store: The store that contains the run.
        run_id: The run's id.
        n: Number of examples that the run trains on.

    Raises:
        OSError: The run's files cannot be read.
    """
    folder = store.home / "runs" / run_id
    return _read_history(
        folder, n, _file_size(folder / EPOCH_RECORDS_FILE), _file_size(folder / DECISIONS_FILE)
    )


def _file_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@functools.lru_cache(maxsize=2)  # files only grow: with the same size they are unchanged
def _read_history(
    folder: Path, n: int, losses_size: int, decisions_size: int
) -> ExampleHistory | None:
    if losses_size:
        records = [record for record in read_epoch_records(folder) if record.n == n]
        return history_from_losses(records) if records else None
    return history_from_decisions(read_decisions(folder), n) if decisions_size else None


@dataclass(frozen=True, eq=False)
class ExampleStatistics:
    """Statistics of each example up to the end of an epoch.

    Attributes:
        epochs: Number of stored epochs covered.
        complete_epochs: How many of them went through all examples; the next two count these.
        trained_N: Number of complete epochs in which the example was trained on.
        skipped_N: Number of complete epochs in which it was skipped.
        confidence_N: Mean confidence, float64; NaN for an example without a known loss.
        variability_N: Standard deviation of the confidence over epochs.
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
        """Which examples have a known confidence, hence a point on the data map."""
        return np.isfinite(self.confidence_N)


@functools.lru_cache(maxsize=8)
def example_statistics(history: ExampleHistory, epochs: int, loss_kind: str) -> ExampleStatistics:
    """Return the statistics over the first ``epochs`` stored epochs.

    With a cross-entropy, confidence is the probability of the true class, e^−loss (for a mean
    over an example's characters or pixels, the geometric mean of their probabilities). Its mean
    and standard deviation over epochs are those of Swayamdipta et al. 2020, *Dataset
    Cartography*, section 2. A squared error has no probability: there, confidence is
    e^−(loss ÷ mean loss of the first epoch), 37% for an error equal to that mean.

    Args:
        history: The run's stored history.
        epochs: Number of stored epochs, from 0 on.
        loss_kind: ``cross_entropy`` or ``squared_error``.
    """
    complete = np.flatnonzero(history.complete_P[:epochs]).tolist()
    trained_N = np.zeros(history.n_examples, np.int64)
    for bits_K in _chunks_of_255([history.trained_P[place] for place in complete]):
        count_N = np.zeros(history.n_examples, np.uint8)
        for bits in bits_K:
            count_N += np.unpackbits(bits, count=history.n_examples)
        trained_N += count_N
    losses = history.losses(epochs)
    confidence_N, variability_N = _confidence_moments(
        losses, history.n_examples, confidence_scale(history, loss_kind)
    )
    last_N = losses[-1].astype(np.float64) if losses else np.full(history.n_examples, np.nan)
    return ExampleStatistics(
        epochs=epochs,
        complete_epochs=len(complete),
        trained_N=trained_N,
        skipped_N=len(complete) - trained_N,
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
    """Return mean and standard deviation over epochs of e^−(loss ÷ scale).

    A float16 loss has one of 65,536 values, so the exponential is read from a table.
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
    """Return tables by float16 bit pattern: whether the loss is finite, and its confidence."""
    losses_V = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    known_V = np.isfinite(losses_V)
    confidence_V: FloatArray = np.exp(np.where(known_V, np.maximum(losses_V, 0), np.inf) / -scale)
    return known_V.astype(np.uint8), confidence_V


def _chunks_of_255(bit_rows: Sequence[NDArray[np.uint8]]) -> Iterator[Sequence[NDArray[np.uint8]]]:
    """Yield chunks of at most 255 rows, whose bits can be summed in a byte."""
    for first in range(0, len(bit_rows), 255):
        yield bit_rows[first : first + 255]


def confidence_from_losses(losses: FloatArray, scale: float) -> FloatArray:
    """Return the confidence for each loss; NaN where a loss is not known."""
    known = np.where(np.isfinite(losses), losses, np.nan)
    result: FloatArray = np.exp(-known / scale)
    return result


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


#: A class is rare if it has at most this fraction of the mean number of examples per class.
RARE_FRAC: Final = 0.5
#: A rare class starves if its examples are trained on at most this fraction as often as average.
STARVED_RATIO: Final = 0.5


class ClassShare(NamedTuple):
    """Skipped share of one class.

    Attributes:
        name: Name of the class.
        examples: Number of its examples.
        skipped_frac: Share of them skipped per epoch, mean over epochs.
        rare: Whether the class is rare.
        starves: Whether it is rare and trained on much less often than average.
    """

    name: str
    examples: int
    skipped_frac: float
    rare: bool
    starves: bool


def compute_class_shares(
    statistics: ExampleStatistics, group_N: NDArray[np.int64], class_names: Sequence[str]
) -> list[ClassShare]:  # fmt: skip
    """Return the shares of all classes that have examples, in order.

    Args:
        statistics: Statistics over at least one complete epoch.
        group_N: The class of each example.
        class_names: Names of the classes.
    """
    epochs = max(statistics.complete_epochs, 1)
    counts = np.bincount(group_N, minlength=len(class_names))
    trained = np.bincount(group_N, statistics.trained_N, minlength=len(class_names))
    mean_trained = trained.sum() / (epochs * max(counts.sum(), 1))
    mean_count = counts.sum() / len(class_names)
    shares = []
    for name, count, trained_count in zip(
        class_names, counts.tolist(), trained.tolist(), strict=True
    ):
        if not count:
            continue
        class_trained = trained_count / (epochs * count)
        is_rare = count <= RARE_FRAC * mean_count
        shares.append(
            ClassShare(
                name,
                count,
                1.0 - class_trained,
                is_rare,
                is_rare and class_trained <= STARVED_RATIO * mean_trained,
            )
        )
    return shares
