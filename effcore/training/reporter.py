"""What a run says of itself while it trains: steps, losses, pictures, evaluations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from effcore.checkpoint import State
from effcore.events import EvalEvent, Event, LossHistogram, StepBlock, ViewEvent
from effcore.knobs import Controls
from effcore.passlosses import PassLosses, are_kept
from effcore.tasks.base import Attention
from effcore.training.block import Block
from effcore.training.chooser import Chooser
from effcore.training.histogram import count_losses, half
from effcore.training.phases import PhaseClock
from effcore.training.stepper import Stepper

#: Evaluations of the validation split, evenly spaced over the run.
EVALUATIONS = 30
#: How often losses are copied from the device, and how often pictures are drawn.
BLOCK_SECONDS, VIEW_SECONDS = 0.1, 0.5
_BLOCK_STEPS = 512
_STATE = ("_block_due", "_view_due", "_evaluate_at", "step", "now", "progress", "spent")


class Reporter:
    """The speaking part of a run; what it says changes nothing of the training.

    Args:
        chooser: Knows who is trained on.
        stepper: Knows the model.
        controls: May ask for a report after each step.
        phases: Where the time has gone.
        peak_rate: The run's peak learning rate, for the message of a loss that broke.
    """

    def __init__(
        self,
        chooser: Chooser,
        stepper: Stepper,
        controls: Controls,
        phases: PhaseClock,
        peak_rate: float,
    ) -> None:
        self._chooser, self._stepper = chooser, stepper
        self._controls, self._peak_rate = controls, peak_rate
        self._phases = phases
        self._block = Block()
        self._block_due = self._view_due = self._evaluate_at = 0.0
        # Where the run stands, by the end of its last step.
        self.step = 0
        self.now = self.progress = self.spent = 0.0

    def state(self) -> State:
        """Return what is due when, and where the run stands; with no step waiting."""
        return {name: getattr(self, name) for name in _STATE}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        for name in _STATE:
            setattr(self, name, state[name])

    @property
    def waiting(self) -> int:
        """Steps noted and not yet reported."""
        return len(self._block.rows)

    def note(self, row: tuple[float, ...], loss: torch.Tensor, progress: float) -> None:
        """Note a step; its loss stays on the device.

        Args:
            row: The step's columns but for the loss, as in ``STEP_COLUMNS``.
            loss: 0-d.
            progress: Share of the run behind us.
        """
        self.step, self.now, self.spent, self.progress = int(row[0]), row[3], row[4], progress
        self._block.rows.append(row)
        self._block.losses.append(loss)

    def due(self) -> bool:
        """Whether there is more to say than that a step was taken."""
        return (
            self.now >= self._block_due
            or self.now >= self._view_due
            or self.progress >= self._evaluate_at
            or len(self._block.rows) >= _BLOCK_STEPS
            or self._controls.report_each_step
        )

    def report(self) -> Iterator[Event]:
        """Yield whatever is due; time decides only what is shown."""
        full = len(self._block.rows) >= _BLOCK_STEPS
        if self.now >= self._block_due or full or self._controls.report_each_step:
            self._block_due = self.now + BLOCK_SECONDS
            yield self._take_block()
            yield self._phases.read()
        if self.now >= self._view_due:
            self._view_due = self.now + VIEW_SECONDS
            yield self.histogram()
            yield self.view()
        yield from self.evaluate_if_due()

    def last_look(self) -> Iterator[Event]:
        """Yield what came after the last report."""
        if self._block.rows:
            yield self._take_block()
        if self._chooser.passes.index >= 0:
            yield self.pass_losses(last=True)
        yield self.validation()
        yield self._phases.read()
        yield self.histogram()
        yield self.view()

    def _take_block(self) -> StepBlock:
        """Copy the losses of the block to the host."""
        return self._block.take(self._peak_rate)

    def pass_losses(self, *, last: bool = False) -> PassLosses:
        """Copy to the host who the pass trained on, and everyone's last loss where it is kept.

        Args:
            last: The run ends with it, so that its losses are kept.
        """
        chooser, passes = self._chooser, self._chooser.passes
        n, index = chooser.n, passes.index
        loss_N = half(chooser.pool.last_loss_N) if last or are_kept(index, n) else None
        visited = passes.considered - index * n
        bits = np.packbits(passes.drawn_N.cpu().numpy())
        return PassLosses(self.step, index, visited, bits, loss_N, n)

    def histogram(self) -> LossHistogram:
        """Count the last losses and say where the policy has cut them."""
        return self.cut_at(self._chooser.decision.threshold)

    def cut_at(self, threshold: torch.Tensor | None) -> LossHistogram:
        """Count the last losses and say where they would be cut."""
        return count_losses(self._chooser.pool.last_loss_N, threshold, self.step)

    def view(self) -> ViewEvent:
        """Draw the task's pictures of where the computation goes."""
        chooser, stepper = self._chooser, self._stepper
        drawn_N, loss_N = chooser.passes.drawn_N, chooser.pool.last_loss_N
        trained_N = chooser.trained_N + drawn_N
        look = Attention(chooser.batch_B, drawn_N, trained_N, loss_N, stepper.model)
        with stepper.looking(), torch.inference_mode():
            items = stepper.task.view(look)
        return ViewEvent(self.step, items, stepper.task.captions)

    def evaluate_if_due(self) -> Iterator[Event]:
        """Evaluate the validation split at evenly spaced points of the run."""
        if self.progress >= self._evaluate_at:
            self._evaluate_at = (int(self.progress * EVALUATIONS) + 1) / EVALUATIONS
            yield self.validation()

    def validation(self) -> EvalEvent:
        """Evaluate the validation split; not billed, and the same for every policy."""
        loss, metric = torch.stack(list(self._stepper.evaluate("validation"))).tolist()
        considered = self._chooser.passes.considered
        return EvalEvent(self.step, considered, self.now, self.spent, loss, metric)
