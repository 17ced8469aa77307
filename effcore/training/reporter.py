"""What a run says of itself while it trains: steps, losses, pictures, evaluations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from effcore.knobs import Controls
from effcore.records import EvalEvent, Event, LossHistogram, StepBlock, ViewEvent
from effcore.records.epoch_record import EpochRecord, keeps_epoch_losses
from effcore.tasks.base import ViewInputs
from effcore.training.checkpoint import State
from effcore.training.loss_transfer import build_loss_histogram, losses_to_half_precision
from effcore.training.phase_clock import PhaseClock
from effcore.training.sampler import Sampler
from effcore.training.step_buffer import StepBuffer
from effcore.training.train_step import TrainStep

#: Evaluations of the validation split, evenly spaced over the run.
EVALUATIONS = 30
#: How often losses are copied from the device, and how often pictures are drawn.
BLOCK_SECONDS, VIEW_SECONDS = 0.1, 0.5
_BLOCK_STEPS = 512
_STATE_KEYS = ("_block_due", "_view_due", "_evaluate_at", "step", "now", "progress", "spent")


class Reporter:
    """The speaking part of a run; what it says changes nothing of the training.

    Args:
        sampler: Knows who is trained on.
        train_step: Knows the model.
        controls: May ask for a report after each step.
        phase_clock: Where the time has gone.
        peak_lr: The run's peak learning rate, for the message of a loss that broke.
    """

    def __init__(
        self,
        sampler: Sampler,
        train_step: TrainStep,
        controls: Controls,
        phase_clock: PhaseClock,
        peak_lr: float,
    ) -> None:
        self._chooser, self._stepper = sampler, train_step
        self._controls, self._peak_rate = controls, peak_lr
        self._phases = phase_clock
        self._block = StepBuffer()
        self._block_due = self._view_due = self._evaluate_at = 0.0
        # Where the run stands, by the end of its last step.
        self.step = 0
        self.now = self.progress = self.spent = 0.0

    def state(self) -> State:
        """Return what is due when, and where the run stands; with no step waiting."""
        return {name: getattr(self, name) for name in _STATE_KEYS}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        for name in _STATE_KEYS:
            setattr(self, name, state[name])

    @property
    def unreported_steps(self) -> int:
        """Steps noted and not yet reported."""
        return len(self._block.rows)

    def record_step(self, row: tuple[float, ...], loss: torch.Tensor, progress: float) -> None:
        """Note a step; its loss stays on the device.

        Args:
            row: The step's columns but for the loss, as in ``STEP_COLUMNS``.
            loss: 0-d.
            progress: Share of the run behind us.
        """
        self.step, self.now, self.spent, self.progress = int(row[0]), row[3], row[4], progress
        self._block.rows.append(row)
        self._block.losses.append(loss)

    def is_due(self) -> bool:
        """Whether there is more to say than that a step was taken."""
        return (
            self.now >= self._block_due
            or self.now >= self._view_due
            or self.progress >= self._evaluate_at
            or len(self._block.rows) >= _BLOCK_STEPS
            or self._controls.report_each_step
        )

    def due_events(self) -> Iterator[Event]:
        """Yield whatever is due; time decides only what is shown."""
        full = len(self._block.rows) >= _BLOCK_STEPS
        if self.now >= self._block_due or full or self._controls.report_each_step:
            self._block_due = self.now + BLOCK_SECONDS
            yield self._flush_block()
            yield self._phases.read()
        if self.now >= self._view_due:
            self._view_due = self.now + VIEW_SECONDS
            yield self.loss_histogram()
            yield self.view_event()
        yield from self.evaluation_if_due()

    def final_events(self) -> Iterator[Event]:
        """Yield what came after the last report."""
        if self._block.rows:
            yield self._flush_block()
        if self._chooser.epoch_sampler.epoch_index >= 0:
            yield self.epoch_record(last=True)
        yield self.validation_event()
        yield self._phases.read()
        yield self.loss_histogram()
        yield self.view_event()

    def _flush_block(self) -> StepBlock:
        """Copy the losses of the block to the host."""
        return self._block.flush(self._peak_rate)

    def epoch_record(self, *, last: bool = False) -> EpochRecord:
        """Copy to the host who the pass trained on, and everyone's last loss where it is kept.

        Args:
            last: The run ends with it, so that its losses are kept.
        """
        chooser, passes = self._chooser, self._chooser.epoch_sampler
        n, index = chooser.n, passes.epoch_index
        loss_N = (
            losses_to_half_precision(chooser.example_state.last_loss_N)
            if last or keeps_epoch_losses(index, n)
            else None
        )
        visited = passes.considered - index * n
        bits = np.packbits(passes.drawn_N.cpu().numpy())
        return EpochRecord(self.step, index, visited, bits, loss_N, n)

    def loss_histogram(self) -> LossHistogram:
        """Count the last losses and say where the policy has cut them."""
        return self.loss_histogram_at(self._chooser.decision.threshold)

    def loss_histogram_at(self, threshold: torch.Tensor | None) -> LossHistogram:
        """Count the last losses and say where they would be cut."""
        return build_loss_histogram(self._chooser.example_state.last_loss_N, threshold, self.step)

    def view_event(self) -> ViewEvent:
        """Draw the task's pictures of where the computation goes."""
        chooser, stepper = self._chooser, self._stepper
        drawn_N, loss_N = chooser.epoch_sampler.drawn_N, chooser.example_state.last_loss_N
        trained_N = chooser.trained_N + drawn_N
        look = ViewInputs(chooser.last_batch_B, drawn_N, trained_N, loss_N, stepper.model)
        with stepper.evaluation_mode(), torch.inference_mode():
            items = stepper.task.view(look)
        return ViewEvent(self.step, items, stepper.task.captions)

    def evaluation_if_due(self) -> Iterator[Event]:
        """Evaluate the validation split at evenly spaced points of the run."""
        if self.progress >= self._evaluate_at:
            self._evaluate_at = (int(self.progress * EVALUATIONS) + 1) / EVALUATIONS
            yield self.validation_event()

    def validation_event(self) -> EvalEvent:
        """Evaluate the validation split; not billed, and the same for every policy."""
        loss, metric = torch.stack(list(self._stepper.evaluate("validation"))).tolist()
        considered = self._chooser.epoch_sampler.considered
        return EvalEvent(self.step, considered, self.now, self.spent, loss, metric)
