"""The state of one training run; its methods are the lines of the loop in ``trainer.py``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

from effcore.config import ConfigError
from effcore.knobs import Controls, values_of
from effcore.policies.selection.base import BatchOutputs
from effcore.records import (
    EpochDrawEvent,
    Event,
    KnobChange,
    KnobValue,
    LossHistogram,
    RunConfig,
    RunEnd,
    RunStart,
    RunStatus,
    StepEvent,
)
from effcore.tasks.base import make_task
from effcore.training.checkpoint import Checkpoint, CheckpointError, State
from effcore.training.checkpoint_tensors import copy_state_to_host
from effcore.training.irreducible_loss import compute_irreducible_losses
from effcore.training.ledger import FlopCost
from effcore.training.optimizer import learning_rate_factor, parameters_sha256
from effcore.training.phase_clock import (
    BACKWARD,
    DATA,
    FORWARD,
    OUTSIDE_PHASES,
    SELECTION,
    make_phase_clock,
)
from effcore.training.reporter import Reporter
from effcore.training.run_progress import RunProgress
from effcore.training.sampler import make_sampler, stop_after_empty_epochs
from effcore.training.train_step import TrainStep

#: Examples run forward at a time to refresh the losses of those that a pass skipped.
_REFRESH_CHUNK = 256
#: The parts of a loop that have a state of their own: key in a checkpoint, attribute.
_STATE_PARTS = {
    "chooser": "sampler",
    "stepper": "train_step",
    "course": "run_progress",
    "reporter": "reporter",
    "phases": "phase_clock",
}
_STATE_KEYS = ("idle_passes", "decide_again", "steps_before")


class TrainingLoop:
    """One run under way: who is trained on, how, what was spent, and what is reported.

    Args:
        config: From :func:`effcore.config.resolve`.
        controls: Live knob changes and the wish to stop.
        clock: Seconds since the run began.
        checkpoint: Of a run of the same configuration, to go on from.

    Raises:
        CheckpointError: It does not fit.
    """

    def __init__(
        self,
        config: RunConfig,
        controls: Controls,
        clock: Callable[[], float],
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.config, self.controls, self.clock = config, controls, clock
        torch.set_num_threads(config.threads)  # OpenMP keeps this per thread
        device = torch.device(config.device)
        self.task = make_task(config)
        self.n = self.task.n_train
        self.sampler = make_sampler(config, self.task, device)
        self.phase_clock = make_phase_clock(device, clock, controls.record_phase_starts)
        self.train_step = TrainStep(config, self.task, device, self.phase_clock)
        self.model = self.train_step.model
        self.run_progress = RunProgress(config, self.sampler, self.train_step)
        self.ledger = self.run_progress.ledger
        self.reporter = Reporter(
            self.sampler, self.train_step, controls, self.phase_clock, config.learning_rate
        )
        self.replay_changes = list(config.changes)
        self.applied_version = 0  # what was asked for while the run waited is taken at once
        self.idle_passes = 0
        self.decide_again = False  # within the pass: what is drawn no longer fits
        self.steps_before = 0  # the pass under way
        self.between_steps = False
        self.resuming = checkpoint is not None
        if checkpoint is not None:
            self.restore(checkpoint.state)

    def run_start(self) -> RunStart:
        """Return the facts fixed before the first step."""
        per_example = self.ledger.step_flops / self.config.batch_size
        dense, end = self.run_progress.dense_run_flops, self.run_progress.flops_end
        parameters = sum(p.numel() for p in self.model.parameters())
        return RunStart(self.n, per_example, dense, end, parameters)

    def run(self) -> Iterator[Event]:
        """Train until the passes, the budget or the person's patience are used up."""
        if not self.resuming:
            yield from self.reporter.evaluation_if_due()
            yield from self.take_changes()
            yield from self.prepare_policy()
        while not self.stop_requested():
            yield from self.begin_or_resume_epoch()
            while (batch := self.next_batch()) is not None:
                self.train_on_batch(batch)
                if self.reporter.is_due():  # asked first: a generator costs more than a comparison
                    yield from self.reporter.due_events()
                self.between_steps = True
                yield StepEvent(
                    self.ledger.steps, self.run_progress.progress, self.reporter.unreported_steps
                )
                self.between_steps = False
                if self.stop_requested():
                    break
                if self.has_changes():
                    yield from self.apply_changes()
            if self.stop_requested() or self.run_progress.is_over():
                break
            self.refresh_skipped_losses()
            yield self.reporter.epoch_record()
            self.idle_passes = 0 if self.ledger.steps > self.steps_before else self.idle_passes + 1
            stop_after_empty_epochs(self.sampler.policy, self.idle_passes)
        yield from self.reporter.final_events()
        if self.stop_requested():
            yield self.finish(RunStatus.STOPPED, "stopped on request")
        else:
            yield self.finish(RunStatus.FINISHED, "")

    def checkpoint(self) -> Checkpoint | None:
        """Return a copy of everything; ``None`` but between two steps with none unreported."""
        if not self.between_steps or self.reporter.unreported_steps:
            return None
        return Checkpoint(self.ledger.steps, self.clock(), copy_state_to_host(self.state()))

    def state(self) -> State:
        """Return what the rest of the run depends on besides its configuration."""
        parts = {key: getattr(self, name).state() for key, name in _STATE_PARTS.items()}
        own = {name: getattr(self, name) for name in _STATE_KEYS}
        replayed = len(self.config.changes) - len(self.replay_changes)
        return {**parts, **own, "replayed": replayed, "task": self.task.view_state()}

    def restore(self, state: State) -> None:
        """Go on from a state of a run of the same configuration.

        Raises:
            CheckpointError: It is not of such a run.
        """
        try:
            for key, name in _STATE_PARTS.items():
                getattr(self, name).restore(state[key])
            for name in _STATE_KEYS:
                setattr(self, name, state[name])
            self.replay_changes = list(self.config.changes)[state["replayed"] :]
            memories = {name: torch.from_numpy(found) for name, found in state["task"].items()}
            self.task.restore_view_state(memories)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(f"it is not of a run like this one: {error}") from error

    def stop_requested(self) -> bool:
        """Whether somebody asked the run to stop."""
        return self.controls.stop_requested

    def prepare_policy(self) -> Iterator[Event]:
        """Let others train first, where the selection policy needs what they find."""
        if not self.sampler.policy.needs_irreducible:
            return
        found_N = torch.full((self.n,), torch.inf, device=self.sampler.last_batch_B.device)
        self.phase_clock.enter(SELECTION)
        for cost in compute_irreducible_losses(self.config, self.task, found_N):
            self.ledger.add_selection(cost)
            self.phase_clock.enter(OUTSIDE_PHASES)
            yield StepEvent(0, 0.0, 0)
            self.phase_clock.enter(SELECTION)
            if self.stop_requested():
                return
            if self.run_progress.budget_exhausted():
                break
        self.phase_clock.enter(OUTSIDE_PHASES)
        self.run_progress.prepared = self.ledger.spent
        self.sampler.memory["irreducible_N"] = found_N
        if self.run_progress.budget_exhausted():
            raise ConfigError(
                "budget",
                f"budget={self.config.budget:g} is not enough here: policy "
                f"{self.config.selection!r} spent all of it on models of its own; choose a larger "
                "budget or another policy",
            )

    def begin_or_resume_epoch(self) -> Iterator[Event]:
        """Begin a pass, or go on in the one that a checkpoint was taken in."""
        if not self.resuming:
            self.steps_before = self.ledger.steps
            yield from self.begin_epoch()
            return
        self.resuming = False
        if self.has_changes():
            yield from self.apply_changes()

    def has_changes(self) -> bool:
        """Whether a knob or the policy may ask for something before the next step."""
        return (
            self.controls.version != self.applied_version
            or bool(self.replay_changes)
            or self.decide_again
            or self.run_progress.progress >= self.sampler.redecide_progress
        )

    def apply_changes(self) -> Iterator[Event]:
        """Take knob changes and decide again; one look per step count: a replay is unambiguous."""
        yield from self.take_changes()
        if self.decide_again or self.run_progress.progress >= self.sampler.redecide_progress:
            yield from self.decide_epoch()

    def begin_epoch(self) -> Iterator[Event]:
        """Fix a new order and draw from it."""
        self.sampler.begin_epoch(self.run_progress.progress_now(), self.run_progress.budget_state())
        yield from self.decide_epoch()

    def decide_epoch(self) -> Iterator[Event]:
        """Ask the policy, bill it, and draw what of the pass is not yet visited."""
        self.decide_again = False
        cost = self.run_progress.decision_flops()
        if self.ledger.steps and self.run_progress.budget_exhausted(cost):
            return
        self.phase_clock.enter(SELECTION)
        self.train_step.replan(self.run_progress.progress, self.ledger.steps)
        coarse_N = self.task.active_mask(self.train_step.plan.share)
        progress, account = self.run_progress.progress_now(), self.run_progress.budget_state()
        drawn, count = self.sampler.decide_epoch(
            progress, account, self.train_step.update_policy, coarse_N
        )
        self.ledger.add_selection(FlopCost(analytic=cost))
        self.phase_clock.enter(OUTSIDE_PHASES)
        yield EpochDrawEvent(
            self.ledger.steps, self.sampler.epoch_sampler.epoch_index, drawn, count
        )
        yield self.reporter.loss_histogram()

    def take_changes(self) -> Iterator[Event]:
        """Take knob changes that were asked for or are due in a replay."""
        wanted: dict[str, KnobValue] = {}
        while self.replay_changes and self.replay_changes[0].step <= self.ledger.steps:
            change = self.replay_changes.pop(0)
            wanted.pop(change.name, None)  # the latest comes last, as Controls keeps it
            wanted[change.name] = change.value
        self.applied_version, asked = self.controls.take_requests()
        wanted = {name: value for name, value in wanted.items() if name not in asked} | asked
        for name, value in wanted.items():
            self.set_knob(name, value)
            yield KnobChange(self.ledger.steps, name, value)

    def set_knob(self, name: str, value: KnobValue) -> None:
        """Replace the policy that owns the knob."""
        if name in values_of(self.sampler.policy):
            self.sampler.set_knob(name, value)
            self.decide_again = True
        else:
            self.train_step.set_knob(name, value)
            self.decide_again |= self.train_step.update_policy.skips_batches

    def preview_histogram(self) -> LossHistogram:
        """Return where the selection knobs asked for would cut the last losses."""
        own = values_of(self.sampler.policy)
        asked = {
            name: value for name, value in self.controls.pending_requests().items() if name in own
        }
        cut = self.sampler.preview_threshold(
            asked, self.run_progress.progress_now(), self.run_progress.budget_state()
        )
        return self.reporter.loss_histogram_at(cut)

    def next_batch(self) -> torch.Tensor | None:
        """Return the next examples, or ``None`` where the pass or the budget ends."""
        self.phase_clock.enter(DATA)
        stepper = self.train_step
        if stepper.replan(self.run_progress.progress, self.ledger.steps):
            self.decide_again = True
        if stepper.plan.frozen and stepper.should_cache_features(self.run_progress.examples_left()):
            self.ledger.add_cost(FlopCost(stepper.cache_features()))
        batch = None if self.run_progress.budget_exhausted() else self.sampler.next_batch()
        if batch is None:
            self.phase_clock.enter(OUTSIDE_PHASES)
        return batch

    def train_on_batch(self, idx_B: torch.Tensor) -> None:
        """Train on one batch; reads nothing back from the device."""
        chooser, stepper = self.sampler, self.train_step
        if len(idx_B) > self.config.batch_size:  # now, since the task is asked for a batch to count
            stepper.scoring_flops(len(idx_B))
        inputs, targets = stepper.batch_inputs(idx_B)
        if len(idx_B) > self.config.batch_size:
            places = chooser.choose_batch(self.score_batch(idx_B, inputs, targets))
            self.ledger.add_selection(FlopCost(analytic=chooser.policy.choosing_flops(len(idx_B))))
            idx_B, inputs, targets = (
                part.index_select(0, places) for part in (idx_B, inputs, targets)
            )
        self.phase_clock.enter(FORWARD)
        factor = learning_rate_factor(self.run_progress.progress_mid_step()) * chooser.lr_multiplier
        rate = self.config.learning_rate * factor
        outputs = stepper.forward(inputs)
        losses_B = self.task.losses(outputs, targets)
        weight_B = chooser.epoch_sampler.weight_B
        loss = losses_B.mean() if weight_B is None else (losses_B * weight_B).mean()
        self.phase_clock.enter(BACKWARD)
        stepper.update(loss, rate)
        self.phase_clock.enter(SELECTION)
        plain_B = losses_B.detach()
        if chooser.needs_batch_outputs:
            self.record_batch_outputs(idx_B, plain_B, outputs.detach(), targets)
        else:  # which is quicker
            chooser.record_losses(idx_B, plain_B)
        chooser.last_batch_B = idx_B
        self.task.record_outputs(idx_B, outputs)
        # What is drawn is the plain mean, as in evaluations; weights only steer the update.
        self.phase_clock.enter(OUTSIDE_PHASES)
        self.record_step(rate, loss.detach() if weight_B is None else plain_B.mean())

    def record_batch_outputs(
        self,
        idx_B: torch.Tensor,
        losses_B: torch.Tensor,
        outputs: torch.Tensor,
        targets: torch.Tensor,
    ) -> BatchOutputs:
        """Let the selection policy keep what a forward pass showed, and bill it for that."""
        chooser, kind = self.sampler, self.task.loss_kind
        seen = BatchOutputs(
            idx_B, losses_B, outputs, targets, chooser.epoch_sampler.epoch_index, kind
        )
        chooser.record_batch_outputs(seen)
        self.run_progress.observing = chooser.policy.batch_end_flops(outputs.numel())
        self.ledger.add_selection(FlopCost(analytic=self.run_progress.observing))
        return seen

    def score_batch(
        self, idx_M: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor
    ) -> BatchOutputs:
        """Run candidates forward only, which is billed; reads nothing back from the device."""
        self.phase_clock.enter(SELECTION)
        self.ledger.add_selection(FlopCost(self.train_step.scoring_flops(len(idx_M))))
        losses_M, outputs = self.train_step.score_batch(inputs, targets)
        return self.record_batch_outputs(idx_M, losses_M, outputs, targets)

    def refresh_skipped_losses(self) -> None:
        """Run forward what the pass has skipped, where the policy wants to know its losses."""
        if not self.sampler.policy.refreshes_skipped_losses:
            return
        hidden = self.sampler.skipped_indices()
        for idx_M in torch.split(hidden, _REFRESH_CHUNK) if len(hidden) else ():
            inputs, targets = self.train_step.batch_inputs(idx_M)
            if self.run_progress.budget_exhausted(self.train_step.scoring_flops(len(idx_M))):
                break
            self.score_batch(idx_M, inputs, targets)
        self.phase_clock.enter(OUTSIDE_PHASES)

    def record_step(self, lr: float, loss: torch.Tensor) -> None:
        """Note the step in the block; the loss stays on the device."""
        self.run_progress.record_step()
        ledger = self.ledger
        trained, considered = ledger.steps * self.config.batch_size, self.run_progress.considered
        costs = ledger.spent, ledger.selection_flops, lr
        row = (ledger.steps, considered, trained, self.clock(), *costs)
        self.reporter.record_step(row, loss, self.run_progress.progress)

    def finish(self, status: RunStatus, reason: str) -> RunEnd:
        """Evaluate the test split, once, and sum up."""
        metric, details = None, dict[str, float]()
        if status is not RunStatus.FAILED:
            metric = float(self.train_step.evaluate("test").metric)
            details = self.train_step.extra_metrics("test")
            if not math.isfinite(metric):
                metric, status = None, RunStatus.FAILED
                reason = "the last steps broke the model: its metric is not a finite number"
        considered = self.sampler.epoch_sampler.considered
        return RunEnd(
            status=status,
            reason=reason,
            metric_name=self.task.metric.name,
            metric=metric,
            passes=considered // self.n,
            examples_considered=considered,
            examples_trained=self.ledger.steps * self.config.batch_size,
            flops_spent=self.ledger.spent,
            flops_dense=self.run_progress.dense_flops(considered),
            flops_full=self.run_progress.dense_run_flops,
            seconds=self.clock(),
            parameters_sha256=parameters_sha256(self.model),
            details=details,
        )
