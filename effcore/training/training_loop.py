"""State and methods of the training loop that ``trainer.py`` outlines, and a run's progress."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict

import torch

from effcore.config import ConfigError
from effcore.knobs import Controls, values_of
from effcore.policies.selection.base import BatchOutputs, BudgetState
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
from effcore.training.ledger import FlopCost, FlopLedger
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
from effcore.training.sampler import Sampler, make_sampler, stop_after_empty_epochs
from effcore.training.train_step import TrainStep

# Progress ---------------------------------------------------------------------------------


#: Key in a checkpoint -> attribute.
_PROGRESS_VALUES = {
    "progress": "progress",
    "considered": "considered",
    "observing": "batch_end_flops",
    "prepared": "preparation_flops",
}


class RunProgress:
    """Progress of one run: in examples, in FLOPs, and as a share of the run.

    Args:
        config: From :func:`effcore.config.resolve`.
        sampler: Counts the examples considered.
        train_step: Gives the cost of a step.

    Attributes:
        ledger: FLOPs spent so far.
        flops_end: FLOPs the run may spend; ``None`` without a budget.
        progress: Share of the run completed at the end of the last step, 0 to 1.
        considered: Examples considered at the end of the last step.
        batch_end_flops: FLOPs of the selection policy's update after the last step.
        preparation_flops: FLOPs spent before the first epoch.
    """

    def __init__(self, config: RunConfig, sampler: Sampler, train_step: TrainStep) -> None:
        self._config, self._sampler, self._train_step = config, sampler, train_step
        self._n = sampler.n
        self.ledger = FlopLedger(train_step.full_step_cost.total)
        self.flops_end = self._budget_flops()
        self.progress = self.batch_end_flops = self.preparation_flops = 0.0
        self.considered = 0

    def state(self) -> State:
        """Return the FLOPs spent and the progress."""
        own = {key: getattr(self, name) for key, name in _PROGRESS_VALUES.items()}
        return own | {"ledger": asdict(self.ledger)}

    def restore(self, state: State) -> None:
        """Resume from a state of a run of the same configuration."""
        for key, name in _PROGRESS_VALUES.items():
            setattr(self, name, state[key])
        for name, value in state["ledger"].items():
            setattr(self.ledger, name, value)

    @property
    def dense_run_flops(self) -> float:
        """FLOPs of dense training for all epochs; a last batch that is not full is left out."""
        return self.dense_flops(self._config.epochs * self._n)

    def dense_flops(self, considered: int) -> float:
        """Return the FLOPs of dense training over ``considered`` examples."""
        return considered // self._config.batch_size * self.ledger.step_flops

    def _budget_flops(self) -> float | None:
        """Return the FLOPs the run may spend, or ``None`` without a budget."""
        budget, dense = self._config.budget, self.dense_run_flops
        if budget is None:
            return None
        least = self.ledger.step_flops + self.decision_flops()
        if self._sampler.scoring_batch_size > self._config.batch_size:
            least += self._train_step.scoring_flops(self._sampler.scoring_batch_size)
        if budget * dense < least:
            raise ConfigError(
                "budget",
                f"budget={budget:g} is not allowed here: one batch costs more than that; with "
                f"this batch size and these epochs choose at least {least / dense:.2g}",
            )
        return budget * dense

    def progress_at(self, considered: float, spent: float) -> float:
        """Return the share of the run completed at this count of examples and of FLOPs."""
        if self.flops_end is not None:
            budget = self.flops_end - self.preparation_flops
            return min(1.0, max(0.0, (spent - self.preparation_flops) / budget))
        return considered / (self._config.epochs * self._n)

    def progress_now(self) -> float:
        """Return the share of the run completed, the current epoch's visited part included."""
        return self.progress_at(self._sampler.epoch_sampler.considered, self.ledger.spent)

    def progress_at_next_step_middle(self) -> float:
        """Return the progress in the middle of the next step.

        The middle rather than an end, so that neither the first nor the last learning rate is 0.
        """
        middle = (self.considered + self._sampler.epoch_sampler.considered) / 2
        return self.progress_at(middle, self.ledger.spent + self._train_step.step_cost.total / 2)

    def budget_state(self) -> BudgetState:
        """Return examples considered, compute spent, and the end of the run, in examples."""
        per_example = self.ledger.step_flops / self._config.batch_size
        total = self._config.epochs * self._n if self.flops_end is None else None
        budget = None if self.flops_end is None else self.flops_end / per_example
        considered = self._sampler.epoch_sampler.considered
        return BudgetState(considered, self.ledger.spent / per_example, total, budget)

    def record_step(self) -> None:
        """Add the cost of the step to the ledger and update the progress."""
        self.ledger.add_step(self._train_step.step_cost)
        self.considered = self._sampler.epoch_sampler.considered
        self.progress = self.progress_at(self.considered, self.ledger.spent)

    def decision_flops(self) -> float:
        """Return the analytic cost of a decision, the mean losses of skipped batches included."""
        means = self._n if self._train_step.update_policy.skips_batches else 0
        return self._sampler.policy.decision_flops(self._n) + means

    def examples_left(self) -> float:
        """Return an estimate of the examples that the rest of the run trains on."""
        trained = self.ledger.steps * self._config.batch_size
        return trained * (1.0 - self.progress) / max(self.progress, 1e-9)

    def is_over(self) -> bool:
        """Return whether the run has used up its budget or, without one, its epochs."""
        if self.flops_end is not None:
            return self.budget_exhausted(self.decision_flops())
        return self._sampler.epoch_sampler.epoch_index + 1 >= self._config.epochs

    def budget_exhausted(self, extra_flops: float = 0.0) -> bool:
        """Return whether the budget does not allow another step; ``False`` without a budget.

        Args:
            extra_flops: FLOPs to spend before that step.
        """
        if self.flops_end is None:
            return False
        remaining = self.flops_end * (1 + 1e-12) - self.ledger.spent
        return (
            remaining < extra_flops + self._train_step.step_cost.total + self._next_scoring_flops()
        )

    def _next_scoring_flops(self) -> float:
        """Return the scoring and selection FLOPs of the next step."""
        count, policy = self._sampler.scoring_batch_size, self._sampler.policy
        if count == self._config.batch_size:
            return self.batch_end_flops
        scoring = self._train_step.scoring_flops(count)
        return scoring + policy.choosing_flops(count) + self.batch_end_flops


# The loop ---------------------------------------------------------------------------------


#: Examples per forward pass when the losses of skipped examples are updated.
_REFRESH_CHUNK = 256
#: Parts of the loop with a state of their own: key in a checkpoint -> attribute.
_STATE_PARTS = {
    "chooser": "sampler",
    "stepper": "train_step",
    "course": "run_progress",
    "reporter": "reporter",
    "phases": "phase_clock",
}
#: Plain values of the loop's own state: key in a checkpoint -> attribute.
_STATE_VALUES = {
    "idle_passes": "empty_epochs",
    "decide_again": "decide_again",
    "steps_before": "steps_before_epoch",
}


class TrainingLoop:
    """The loop of one run, with its sampler, training step, FLOP ledger and reporter.

    Args:
        config: From :func:`effcore.config.resolve`.
        controls: Live knob changes and stop requests.
        clock: Seconds since the run began.
        checkpoint: A checkpoint of a run of the same configuration, to resume from.

    Raises:
        CheckpointError: The checkpoint does not fit the configuration.
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
        self.applied_version = 0  # requests made while the run was queued are applied at once
        self.empty_epochs = 0  # epochs in a row without a step
        self.decide_again = False  # the draw of the current epoch is out of date
        self.steps_before_epoch = 0
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
        """Train until the epochs or the budget are used up, or a stop is requested."""
        if not self.resuming:
            yield from self.reporter.evaluation_if_due()
            yield from self.take_changes()
            yield from self.prepare_policy()
        while not self.stop_requested():
            yield from self.begin_or_resume_epoch()
            while (batch := self.next_batch()) is not None:
                self.train_on_batch(batch)
                if self.reporter.is_due():  # a generator costs more than this comparison
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
            trained = self.ledger.steps > self.steps_before_epoch
            self.empty_epochs = 0 if trained else self.empty_epochs + 1
            stop_after_empty_epochs(self.sampler.policy, self.empty_epochs)
        yield from self.reporter.final_events()
        if self.stop_requested():
            yield self.finish(RunStatus.STOPPED, "stopped on request")
        else:
            yield self.finish(RunStatus.FINISHED, "")

    def checkpoint(self) -> Checkpoint | None:
        """Return a copy of the whole state; ``None`` unless between two steps, all reported."""
        if not self.between_steps or self.reporter.unreported_steps:
            return None
        return Checkpoint(self.ledger.steps, self.clock(), copy_state_to_host(self.state()))

    def state(self) -> State:
        """Return the state that the rest of the run depends on, besides its configuration."""
        parts = {key: getattr(self, name).state() for key, name in _STATE_PARTS.items()}
        own = {key: getattr(self, name) for key, name in _STATE_VALUES.items()}
        replayed = len(self.config.changes) - len(self.replay_changes)
        return {**parts, **own, "replayed": replayed, "task": self.task.view_state()}

    def restore(self, state: State) -> None:
        """Resume from a state of a run of the same configuration.

        Raises:
            CheckpointError: The state is of another kind of run.
        """
        try:
            for key, name in _STATE_PARTS.items():
                getattr(self, name).restore(state[key])
            for key, name in _STATE_VALUES.items():
                setattr(self, name, state[key])
            self.replay_changes = list(self.config.changes)[state["replayed"] :]
            view_state = {name: torch.from_numpy(array) for name, array in state["task"].items()}
            self.task.restore_view_state(view_state)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(f"it belongs to a run of another kind: {error}") from error

    def stop_requested(self) -> bool:
        """Return whether a stop was requested."""
        return self.controls.stop_requested

    def prepare_policy(self) -> Iterator[Event]:
        """Compute irreducible losses, if the selection policy needs them."""
        if not self.sampler.policy.needs_irreducible:
            return
        irreducible_N = torch.full((self.n,), torch.inf, device=self.sampler.last_batch_B.device)
        self.phase_clock.enter(SELECTION)
        for cost in compute_irreducible_losses(self.config, self.task, irreducible_N):
            self.ledger.add_selection(cost)
            self.phase_clock.enter(OUTSIDE_PHASES)
            yield StepEvent(0, 0.0, 0)
            self.phase_clock.enter(SELECTION)
            if self.stop_requested():
                return
            if self.run_progress.budget_exhausted():
                break
        self.phase_clock.enter(OUTSIDE_PHASES)
        self.run_progress.preparation_flops = self.ledger.spent
        self.sampler.memory["irreducible_N"] = irreducible_N
        if self.run_progress.budget_exhausted():
            raise ConfigError(
                "budget",
                f"budget={self.config.budget:g} is not enough here: policy "
                f"{self.config.selection!r} spent all of it on training its own models; choose a "
                "larger budget or another policy",
            )

    def begin_or_resume_epoch(self) -> Iterator[Event]:
        """Begin an epoch, or continue the one that the checkpoint was taken in."""
        if not self.resuming:
            self.steps_before_epoch = self.ledger.steps
            yield from self.begin_epoch()
            return
        self.resuming = False
        if self.has_changes():
            yield from self.apply_changes()

    def has_changes(self) -> bool:
        """Return whether knob changes or a new decision may be due before the next step."""
        return (
            self.controls.version != self.applied_version
            or bool(self.replay_changes)
            or self.decide_again
            or self.run_progress.progress >= self.sampler.redecide_progress
        )

    def apply_changes(self) -> Iterator[Event]:
        """Apply knob changes and decide again if needed.

        Called at most once per step count, so that a replay by step is unambiguous.
        """
        yield from self.take_changes()
        if self.decide_again or self.run_progress.progress >= self.sampler.redecide_progress:
            yield from self.decide_epoch()

    def begin_epoch(self) -> Iterator[Event]:
        """Fix the order of a new epoch and draw from it."""
        self.sampler.begin_epoch(self.run_progress.progress_now(), self.run_progress.budget_state())
        yield from self.decide_epoch()

    def decide_epoch(self) -> Iterator[Event]:
        """Decide the part of the epoch not yet visited, and count the cost of the decision."""
        self.decide_again = False
        cost = self.run_progress.decision_flops()
        if self.ledger.steps and self.run_progress.budget_exhausted(cost):
            return
        self.phase_clock.enter(SELECTION)
        self.train_step.plan_next_step(self.run_progress.progress, self.ledger.steps)
        active_mask_N = self.task.active_mask(self.train_step.plan.share)
        progress, budget_state = self.run_progress.progress_now(), self.run_progress.budget_state()
        drawn, count = self.sampler.decide_epoch(
            progress, budget_state, self.train_step.update_policy, active_mask_N
        )
        self.ledger.add_selection(FlopCost(analytic=cost))
        self.phase_clock.enter(OUTSIDE_PHASES)
        yield EpochDrawEvent(
            self.ledger.steps, self.sampler.epoch_sampler.epoch_index, drawn, count
        )
        yield self.reporter.loss_histogram()

    def take_changes(self) -> Iterator[Event]:
        """Apply the knob changes that were requested or are due in a replay."""
        changes: dict[str, KnobValue] = {}
        while self.replay_changes and self.replay_changes[0].step <= self.ledger.steps:
            change = self.replay_changes.pop(0)
            changes.pop(change.name, None)  # the latest change comes last, as in Controls
            changes[change.name] = change.value
        self.applied_version, requested = self.controls.take_requests()
        changes = {
            name: value for name, value in changes.items() if name not in requested
        } | requested
        for name, value in changes.items():
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
        """Return the loss histogram with the threshold of the requested selection knobs."""
        selection_knobs = values_of(self.sampler.policy)
        requested = {
            name: value
            for name, value in self.controls.pending_requests().items()
            if name in selection_knobs
        }
        threshold = self.sampler.preview_threshold(
            requested, self.run_progress.progress_now(), self.run_progress.budget_state()
        )
        return self.reporter.loss_histogram_at(threshold)

    def next_batch(self) -> torch.Tensor | None:
        """Return the next indices, int64, or ``None`` at the end of the epoch or the budget."""
        self.phase_clock.enter(DATA)
        train_step = self.train_step
        if train_step.plan_next_step(self.run_progress.progress, self.ledger.steps):
            self.decide_again = True
        if train_step.plan.frozen and train_step.should_cache_features(
            self.run_progress.examples_left()
        ):
            self.ledger.add_cost(FlopCost(train_step.cache_features()))
        batch = None if self.run_progress.budget_exhausted() else self.sampler.next_batch()
        if batch is None:
            self.phase_clock.enter(OUTSIDE_PHASES)
        return batch

    def train_on_batch(self, idx_B: torch.Tensor) -> None:
        """Train on one batch; reads nothing back from the device."""
        sampler, train_step = self.sampler, self.train_step
        if len(idx_B) > self.config.batch_size:
            train_step.scoring_flops(len(idx_B))  # first, since counting makes a batch of its own
        inputs, targets = train_step.batch_inputs(idx_B)
        if len(idx_B) > self.config.batch_size:
            positions = sampler.choose_batch(self.score_batch(idx_B, inputs, targets))
            self.ledger.add_selection(FlopCost(analytic=sampler.policy.choosing_flops(len(idx_B))))
            idx_B, inputs, targets = (
                tensor.index_select(0, positions) for tensor in (idx_B, inputs, targets)
            )
        self.phase_clock.enter(FORWARD)
        progress = self.run_progress.progress_at_next_step_middle()
        factor = learning_rate_factor(progress) * sampler.lr_multiplier
        lr = self.config.learning_rate * factor
        outputs = train_step.forward(inputs)
        losses_B = self.task.losses(outputs, targets)
        weight_B = sampler.epoch_sampler.weight_B
        loss = losses_B.mean() if weight_B is None else (losses_B * weight_B).mean()
        self.phase_clock.enter(BACKWARD)
        train_step.update(loss, lr)
        self.phase_clock.enter(SELECTION)
        detached_losses_B = losses_B.detach()
        if sampler.needs_batch_outputs:
            self.record_batch_outputs(idx_B, detached_losses_B, outputs.detach(), targets)
        else:  # quicker
            sampler.record_losses(idx_B, detached_losses_B)
        sampler.last_batch_B = idx_B
        self.task.record_outputs(idx_B, outputs)
        # Charts show the unweighted mean, as evaluations do; weights only affect the update.
        self.phase_clock.enter(OUTSIDE_PHASES)
        self.record_step(lr, loss.detach() if weight_B is None else detached_losses_B.mean())

    def record_batch_outputs(
        self,
        idx_B: torch.Tensor,
        losses_B: torch.Tensor,
        outputs: torch.Tensor,
        targets: torch.Tensor,
    ) -> BatchOutputs:
        """Pass the outputs of a forward pass to the selection policy, and count its FLOPs."""
        sampler, kind = self.sampler, self.task.loss_kind
        batch_outputs = BatchOutputs(
            idx_B, losses_B, outputs, targets, sampler.epoch_sampler.epoch_index, kind
        )
        sampler.record_batch_outputs(batch_outputs)
        self.run_progress.batch_end_flops = sampler.policy.batch_end_flops(outputs.numel())
        self.ledger.add_selection(FlopCost(analytic=self.run_progress.batch_end_flops))
        return batch_outputs

    def score_batch(
        self, idx_M: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor
    ) -> BatchOutputs:
        """Run candidates forward and count the FLOPs; reads nothing back from the device."""
        self.phase_clock.enter(SELECTION)
        self.ledger.add_selection(FlopCost(self.train_step.scoring_flops(len(idx_M))))
        losses_M, outputs = self.train_step.score_batch(inputs, targets)
        return self.record_batch_outputs(idx_M, losses_M, outputs, targets)

    def refresh_skipped_losses(self) -> None:
        """Run the examples that the epoch skipped forward, if the policy needs their losses."""
        if not self.sampler.policy.refreshes_skipped_losses:
            return
        skipped = self.sampler.skipped_indices()
        for idx_M in torch.split(skipped, _REFRESH_CHUNK) if len(skipped) else ():
            inputs, targets = self.train_step.batch_inputs(idx_M)
            if self.run_progress.budget_exhausted(self.train_step.scoring_flops(len(idx_M))):
                break
            self.score_batch(idx_M, inputs, targets)
        self.phase_clock.enter(OUTSIDE_PHASES)

    def record_step(self, lr: float, loss: torch.Tensor) -> None:
        """Add the step to the ledger and the reporter; the loss stays on the device."""
        self.run_progress.record_step()
        ledger = self.ledger
        trained, considered = ledger.steps * self.config.batch_size, self.run_progress.considered
        spent, selection = ledger.spent, ledger.selection_flops
        row = (ledger.steps, considered, trained, self.clock(), spent, selection, lr)
        self.reporter.record_step(row, loss, self.run_progress.progress)

    def finish(self, status: RunStatus, reason: str) -> RunEnd:
        """Evaluate the test split and return the end record of the run."""
        metric, details = None, dict[str, float]()
        if status is not RunStatus.FAILED:
            metric = float(self.train_step.evaluate("test").metric)
            details = self.train_step.extra_metrics("test")
            if not math.isfinite(metric):
                metric, status = None, RunStatus.FAILED
                reason = "the model diverged in the last steps: its metric is not a finite number"
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
