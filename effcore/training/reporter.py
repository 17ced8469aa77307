"""Reporter of a run: events for steps, losses, pictures and evaluations.

Losses stay on the device until they are copied in one read: as rows of the step table, as a
histogram, or in half precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from effcore.knobs import Controls
from effcore.records import EvalEvent, Event, LossHistogram, StepBlock, ViewEvent
from effcore.records.epoch_record import EpochRecord, HalfLosses, keeps_epoch_losses
from effcore.tasks.base import ViewInputs
from effcore.training.checkpoint import State
from effcore.training.phase_clock import PhaseClock
from effcore.training.sampler import Sampler
from effcore.training.train_step import TrainStep

# Rows of the step table -------------------------------------------------------------------


class NonFiniteLossError(ArithmeticError):
    """The loss stopped being a finite number.

    Args:
        step: The first step with such a loss, from 1.
        learning_rate: The run's peak learning rate.
        block: The rows up to and including that step.
    """

    def __init__(self, step: int, learning_rate: float, block: StepBlock) -> None:
        super().__init__(
            f"the loss became infinite or not a number at step {step}, with "
            f"learning_rate={learning_rate:g}: lower the learning rate or set --clip-norm 1"
        )
        self.step = step
        self.block = block


@dataclass
class StepBuffer:
    """Host-side rows since the last block, and the losses still on the device."""

    rows: list[tuple[float, ...]] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)

    def flush(self, learning_rate: float) -> StepBlock:
        """Return the buffered rows with their losses, in one copy, and empty the buffer.

        Raises:
            NonFiniteLossError: A loss is not a finite number.
        """
        rows = np.array(self.rows, dtype=np.float64).T
        loss = torch.stack(self.losses).double().cpu().numpy()
        self.rows, self.losses = [], []
        block = StepBlock(np.concatenate([rows, loss[None]]))
        non_finite = np.flatnonzero(~np.isfinite(loss))
        if non_finite.size:
            raise NonFiniteLossError(int(rows[0, non_finite[0]]), learning_rate, block)
        return block


# Losses of all examples -------------------------------------------------------------------


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


# Reporter ---------------------------------------------------------------------------------


#: Evaluations of the validation split, evenly spaced over the run.
EVALUATIONS = 30
#: Seconds between two copies of losses from the device, and between two views.
BLOCK_SECONDS, VIEW_SECONDS = 0.1, 0.5
_BLOCK_STEPS = 512
_STATE_KEYS = ("_block_due", "_view_due", "_evaluate_at", "step", "now", "progress", "spent")


class Reporter:
    """Makes the events of a run; it does not affect the training.

    Args:
        sampler: The run's sampler, with last losses and draws.
        train_step: The run's training step, with model and task.
        controls: May request a report after each step.
        phase_clock: Clock of seconds per phase.
        peak_lr: The run's peak learning rate, for the message about a non-finite loss.
    """

    def __init__(
        self,
        sampler: Sampler,
        train_step: TrainStep,
        controls: Controls,
        phase_clock: PhaseClock,
        peak_lr: float,
    ) -> None:
        self._sampler, self._train_step = sampler, train_step
        self._controls, self._peak_lr = controls, peak_lr
        self._phase_clock = phase_clock
        self._block = StepBuffer()
        self._block_due = self._view_due = self._evaluate_at = 0.0
        # Step, run clock, progress and FLOPs at the end of the last step.
        self.step = 0
        self.now = self.progress = self.spent = 0.0

    def state(self) -> State:
        """Return due times and progress; call it with no unreported step."""
        return {name: getattr(self, name) for name in _STATE_KEYS}

    def restore(self, state: State) -> None:
        """Continue from a saved state."""
        for name in _STATE_KEYS:
            setattr(self, name, state[name])

    @property
    def unreported_steps(self) -> int:
        """Steps recorded and not yet reported."""
        return len(self._block.rows)

    def record_step(self, row: tuple[float, ...], loss: torch.Tensor, progress: float) -> None:
        """Record a step; its loss stays on the device.

        Args:
            row: The columns of ``STEP_COLUMNS`` without the loss.
            loss: Mean loss of the batch, 0-d.
            progress: Share of the run completed.
        """
        self.step, self.now, self.spent, self.progress = int(row[0]), row[3], row[4], progress
        self._block.rows.append(row)
        self._block.losses.append(loss)

    def is_due(self) -> bool:
        """Return whether events other than the step event are due."""
        return (
            self.now >= self._block_due
            or self.now >= self._view_due
            or self.progress >= self._evaluate_at
            or len(self._block.rows) >= _BLOCK_STEPS
            or self._controls.report_each_step
        )

    def due_events(self) -> Iterator[Event]:
        """Yield the events that are due; run time affects only which are shown."""
        full = len(self._block.rows) >= _BLOCK_STEPS
        if self.now >= self._block_due or full or self._controls.report_each_step:
            self._block_due = self.now + BLOCK_SECONDS
            yield self._flush_block()
            yield self._phase_clock.read()
        if self.now >= self._view_due:
            self._view_due = self.now + VIEW_SECONDS
            yield self.loss_histogram()
            yield self.view_event()
        yield from self.evaluation_if_due()

    def final_events(self) -> Iterator[Event]:
        """Yield the events since the last report, at the end of the run."""
        if self._block.rows:
            yield self._flush_block()
        if self._sampler.epoch_sampler.epoch_index >= 0:
            yield self.epoch_record(last=True)
        yield self.validation_event()
        yield self._phase_clock.read()
        yield self.loss_histogram()
        yield self.view_event()

    def _flush_block(self) -> StepBlock:
        return self._block.flush(self._peak_lr)

    def epoch_record(self, *, last: bool = False) -> EpochRecord:
        """Return which examples the epoch trained on, with all last losses if they are stored.

        Args:
            last: Whether it is the last epoch, whose losses are always stored.
        """
        sampler, epoch_sampler = self._sampler, self._sampler.epoch_sampler
        n, index = sampler.n, epoch_sampler.epoch_index
        loss_N = (
            losses_to_half_precision(sampler.example_state.last_loss_N)
            if last or keeps_epoch_losses(index, n)
            else None
        )
        visited = epoch_sampler.considered - index * n
        trained_bits = np.packbits(epoch_sampler.drawn_N.cpu().numpy())
        return EpochRecord(self.step, index, visited, trained_bits, loss_N, n)

    def loss_histogram(self) -> LossHistogram:
        """Return the histogram of last losses with the policy's current threshold."""
        return self.loss_histogram_at(self._sampler.decision.threshold)

    def loss_histogram_at(self, threshold: torch.Tensor | None) -> LossHistogram:
        """Return the histogram of last losses with this threshold."""
        return build_loss_histogram(self._sampler.example_state.last_loss_N, threshold, self.step)

    def view_event(self) -> ViewEvent:
        """Return the task's view of where the computation goes."""
        sampler, train_step = self._sampler, self._train_step
        drawn_N, loss_N = sampler.epoch_sampler.drawn_N, sampler.example_state.last_loss_N
        trained_N = sampler.trained_N + drawn_N
        view_inputs = ViewInputs(sampler.last_batch_B, drawn_N, trained_N, loss_N, train_step.model)
        with train_step.evaluation_mode(), torch.inference_mode():
            items = train_step.task.view(view_inputs)
        return ViewEvent(self.step, items, train_step.task.captions)

    def evaluation_if_due(self) -> Iterator[Event]:
        """Evaluate the validation split at evenly spaced points of the run."""
        if self.progress >= self._evaluate_at:
            self._evaluate_at = (int(self.progress * EVALUATIONS) + 1) / EVALUATIONS
            yield self.validation_event()

    def validation_event(self) -> EvalEvent:
        """Evaluate the validation split; its FLOPs are not counted, for any policy."""
        loss, metric = torch.stack(list(self._train_step.evaluate("validation"))).tolist()
        considered = self._sampler.epoch_sampler.considered
        return EvalEvent(self.step, considered, self.now, self.spent, loss, metric)
