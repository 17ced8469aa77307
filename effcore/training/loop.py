"""The state of one training run; its methods are the lines of the loop in ``trainer.py``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

from effcore.checkpoint import Checkpoint, CheckpointError, State
from effcore.config import ConfigError
from effcore.events import (
    Event,
    KnobChange,
    KnobValue,
    LossHistogram,
    PassEvent,
    RunConfig,
    RunEnd,
    RunStart,
    RunStatus,
    StepEvent,
)
from effcore.flops import Cost
from effcore.knobs import Controls, values_of
from effcore.selection.base import Seen
from effcore.tasks.base import make_task
from effcore.training.chooser import chooser_of, refuse_to_idle
from effcore.training.course import Course
from effcore.training.optim import learning_rate_factor, parameters_sha256
from effcore.training.phases import BACKWARD, DATA, FORWARD, OTHER, SELECTION, phase_clock
from effcore.training.preparation import irreducible_losses
from effcore.training.reporter import Reporter
from effcore.training.state import copied
from effcore.training.stepper import Stepper

#: Examples run forward at a time to refresh the losses of those that a pass skipped.
_REFRESHED = 256
#: What of a loop makes up its state: parts that have one of their own, and plain values.
_PARTS = ("chooser", "stepper", "course", "reporter", "phases")
_STATE = ("idle_passes", "decide_again", "steps_before")


class Loop:
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
        self.chooser = chooser_of(config, self.task, device)
        self.phases = phase_clock(device, clock, controls.mark_phases)
        self.stepper = Stepper(config, self.task, device, self.phases)
        self.model = self.stepper.model
        self.course = Course(config, self.chooser, self.stepper)
        self.ledger = self.course.ledger
        self.reporter = Reporter(
            self.chooser, self.stepper, controls, self.phases, config.learning_rate
        )
        self.replay = list(config.changes)
        self.seen_version = 0  # what was asked for while the run waited is taken at once
        self.idle_passes = 0
        self.decide_again = False  # within the pass: what is drawn no longer fits
        self.steps_before = 0  # the pass under way
        self.between_steps = False
        self.resuming = checkpoint is not None
        if checkpoint is not None:
            self.restore(checkpoint.state)

    def start(self) -> RunStart:
        """Return the facts fixed before the first step."""
        per_example = self.ledger.step_flops / self.config.batch_size
        dense, end = self.course.flops_dense_end, self.course.flops_end
        parameters = sum(p.numel() for p in self.model.parameters())
        return RunStart(self.n, per_example, dense, end, parameters)

    def run(self) -> Iterator[Event]:
        """Train until the passes, the budget or the person's patience are used up."""
        if not self.resuming:
            yield from self.reporter.evaluate_if_due()
            yield from self.poll()
            yield from self.prepare()
        while not self.stopping():
            yield from self.enter_pass()
            while (batch := self.next_batch()) is not None:
                self.step(batch)
                if self.reporter.due():  # asked first: a generator costs more than a comparison
                    yield from self.reporter.report()
                self.between_steps = True
                yield StepEvent(self.ledger.steps, self.course.progress, self.reporter.waiting)
                self.between_steps = False
                if self.stopping():
                    break
                if self.wanted():
                    yield from self.heed()
            if self.stopping() or self.course.over():
                break
            self.refresh()
            yield self.reporter.pass_losses()
            self.idle_passes = 0 if self.ledger.steps > self.steps_before else self.idle_passes + 1
            refuse_to_idle(self.chooser.policy, self.idle_passes)
        yield from self.reporter.last_look()
        if self.stopping():
            yield self.end(RunStatus.STOPPED, "stopped on request")
        else:
            yield self.end(RunStatus.FINISHED, "")

    def checkpoint(self) -> Checkpoint | None:
        """Return a copy of everything; ``None`` but between two steps with none unreported."""
        if not self.between_steps or self.reporter.waiting:
            return None
        return Checkpoint(self.ledger.steps, self.clock(), copied(self.state()))

    def state(self) -> State:
        """Return what the rest of the run depends on besides its configuration."""
        parts = {name: getattr(self, name).state() for name in _PARTS}
        own = {name: getattr(self, name) for name in _STATE}
        replayed = len(self.config.changes) - len(self.replay)
        return {**parts, **own, "replayed": replayed, "task": self.task.memories()}

    def restore(self, state: State) -> None:
        """Go on from a state of a run of the same configuration.

        Raises:
            CheckpointError: It is not of such a run.
        """
        try:
            for name in _PARTS:
                getattr(self, name).restore(state[name])
            for name in _STATE:
                setattr(self, name, state[name])
            self.replay = list(self.config.changes)[state["replayed"] :]
            memories = {name: torch.from_numpy(found) for name, found in state["task"].items()}
            self.task.recall(memories)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(f"it is not of a run like this one: {error}") from error

    def stopping(self) -> bool:
        """Whether somebody asked the run to stop."""
        return self.controls.stop_requested

    def prepare(self) -> Iterator[Event]:
        """Let others train first, where the selection policy needs what they find."""
        if not self.chooser.policy.needs_irreducible:
            return
        found_N = torch.full((self.n,), torch.inf, device=self.chooser.batch_B.device)
        self.phases.enter(SELECTION)
        for cost in irreducible_losses(self.config, self.task, found_N):
            self.ledger.select(cost)
            self.phases.enter(OTHER)
            yield StepEvent(0, 0.0, 0)
            self.phases.enter(SELECTION)
            if self.stopping():
                return
            if self.course.spent_up():
                break
        self.phases.enter(OTHER)
        self.course.prepared = self.ledger.spent
        self.chooser.memory["irreducible_N"] = found_N
        if self.course.spent_up():
            raise ConfigError(
                "budget",
                f"budget={self.config.budget:g} is not enough here: policy "
                f"{self.config.selection!r} spent all of it on models of its own; choose a larger "
                "budget or another policy",
            )

    def enter_pass(self) -> Iterator[Event]:
        """Begin a pass, or go on in the one that a checkpoint was taken in."""
        if not self.resuming:
            self.steps_before = self.ledger.steps
            yield from self.begin_pass()
            return
        self.resuming = False
        if self.wanted():
            yield from self.heed()

    def wanted(self) -> bool:
        """Whether a knob or the policy may ask for something before the next step."""
        return (
            self.controls.version != self.seen_version
            or bool(self.replay)
            or self.decide_again
            or self.course.progress >= self.chooser.ask_again_at
        )

    def heed(self) -> Iterator[Event]:
        """Take knob changes and decide again; one look per step count: a replay is unambiguous."""
        yield from self.poll()
        if self.decide_again or self.course.progress >= self.chooser.ask_again_at:
            yield from self.decide()

    def begin_pass(self) -> Iterator[Event]:
        """Fix a new order and draw from it."""
        self.chooser.begin_pass(self.course.progress_now(), self.course.account())
        yield from self.decide()

    def decide(self) -> Iterator[Event]:
        """Ask the policy, bill it, and draw what of the pass is not yet visited."""
        self.decide_again = False
        cost = self.course.deciding_flops()
        if self.ledger.steps and self.course.spent_up(cost):
            return
        self.phases.enter(SELECTION)
        self.stepper.look_ahead(self.course.progress, self.ledger.steps)
        coarse_N = self.task.coarse(self.stepper.plan.share)
        progress, account = self.course.progress_now(), self.course.account()
        drawn, count = self.chooser.decide(progress, account, self.stepper.updater, coarse_N)
        self.ledger.select(Cost(analytic=cost))
        self.phases.enter(OTHER)
        yield PassEvent(self.ledger.steps, self.chooser.passes.index, drawn, count)
        yield self.reporter.histogram()

    def poll(self) -> Iterator[Event]:
        """Take knob changes that were asked for or are due in a replay."""
        wanted: dict[str, KnobValue] = {}
        while self.replay and self.replay[0].step <= self.ledger.steps:
            change = self.replay.pop(0)
            wanted.pop(change.name, None)  # the latest comes last, as Controls keeps it
            wanted[change.name] = change.value
        self.seen_version, asked = self.controls.take()
        wanted = {name: value for name, value in wanted.items() if name not in asked} | asked
        for name, value in wanted.items():
            self.set_knob(name, value)
            yield KnobChange(self.ledger.steps, name, value)

    def set_knob(self, name: str, value: KnobValue) -> None:
        """Replace the policy that owns the knob."""
        if name in values_of(self.chooser.policy):
            self.chooser.set_knob(name, value)
            self.decide_again = True
        else:
            self.stepper.set_knob(name, value)
            self.decide_again |= self.stepper.updater.skips_batches

    def preview(self) -> LossHistogram:
        """Return where the selection knobs asked for would cut the last losses."""
        own = values_of(self.chooser.policy)
        asked = {name: value for name, value in self.controls.pending().items() if name in own}
        cut = self.chooser.threshold_asked(asked, self.course.progress_now(), self.course.account())
        return self.reporter.cut_at(cut)

    def next_batch(self) -> torch.Tensor | None:
        """Return the next examples, or ``None`` where the pass or the budget ends."""
        self.phases.enter(DATA)
        stepper = self.stepper
        if stepper.look_ahead(self.course.progress, self.ledger.steps):
            self.decide_again = True
        if stepper.plan.frozen and stepper.worth_keeping(self.course.examples_left()):
            self.ledger.add(Cost(stepper.keep_features()))
        batch = None if self.course.spent_up() else self.chooser.next_batch()
        if batch is None:
            self.phases.enter(OTHER)
        return batch

    def step(self, idx_B: torch.Tensor) -> None:
        """Train on one batch; reads nothing back from the device."""
        chooser, stepper = self.chooser, self.stepper
        if len(idx_B) > self.config.batch_size:  # now, since the task is asked for a batch to count
            stepper.scoring_cost(len(idx_B))
        inputs, targets = stepper.inputs(idx_B)
        if len(idx_B) > self.config.batch_size:
            places = chooser.choose(self.scored(idx_B, inputs, targets))
            self.ledger.select(Cost(analytic=chooser.policy.choosing_flops(len(idx_B))))
            idx_B, inputs, targets = (
                part.index_select(0, places) for part in (idx_B, inputs, targets)
            )
        self.phases.enter(FORWARD)
        factor = learning_rate_factor(self.course.progress_mid_step()) * chooser.rate_factor
        rate = self.config.learning_rate * factor
        outputs = stepper.outputs(inputs)
        losses_B = self.task.losses(outputs, targets)
        weight_B = chooser.passes.weight_B
        loss = losses_B.mean() if weight_B is None else (losses_B * weight_B).mean()
        self.phases.enter(BACKWARD)
        stepper.update(loss, rate)
        self.phases.enter(SELECTION)
        plain_B = losses_B.detach()
        if chooser.observes:
            self.observe(idx_B, plain_B, outputs.detach(), targets)
        else:  # which is quicker
            chooser.remember(idx_B, plain_B)
        chooser.batch_B = idx_B
        self.task.remember(idx_B, outputs)
        # What is drawn is the plain mean, as in evaluations; weights only steer the update.
        self.phases.enter(OTHER)
        self.record(rate, loss.detach() if weight_B is None else plain_B.mean())

    def observe(
        self,
        idx_B: torch.Tensor,
        losses_B: torch.Tensor,
        outputs: torch.Tensor,
        targets: torch.Tensor,
    ) -> Seen:
        """Let the selection policy keep what a forward pass showed, and bill it for that."""
        chooser, kind = self.chooser, self.task.loss_kind
        seen = Seen(idx_B, losses_B, outputs, targets, chooser.passes.index, kind)
        chooser.observe(seen)
        self.course.observing = chooser.policy.observing_flops(outputs.numel())
        self.ledger.select(Cost(analytic=self.course.observing))
        return seen

    def scored(self, idx_M: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor) -> Seen:
        """Run candidates forward only, which is billed; reads nothing back from the device."""
        self.phases.enter(SELECTION)
        self.ledger.select(Cost(self.stepper.scoring_cost(len(idx_M))))
        losses_M, outputs = self.stepper.score(inputs, targets)
        return self.observe(idx_M, losses_M, outputs, targets)

    def refresh(self) -> None:
        """Run forward what the pass has skipped, where the policy wants to know its losses."""
        if not self.chooser.policy.refreshes:
            return
        hidden = self.chooser.hidden()
        for idx_M in torch.split(hidden, _REFRESHED) if len(hidden) else ():
            inputs, targets = self.stepper.inputs(idx_M)
            if self.course.spent_up(self.stepper.scoring_cost(len(idx_M))):
                break
            self.scored(idx_M, inputs, targets)
        self.phases.enter(OTHER)

    def record(self, rate: float, loss: torch.Tensor) -> None:
        """Note the step in the block; the loss stays on the device."""
        self.course.note_step()
        ledger = self.ledger
        trained, considered = ledger.steps * self.config.batch_size, self.course.considered
        costs = ledger.spent, ledger.selection_flops, rate
        row = (ledger.steps, considered, trained, self.clock(), *costs)
        self.reporter.note(row, loss, self.course.progress)

    def end(self, status: RunStatus, reason: str) -> RunEnd:
        """Evaluate the test split, once, and sum up."""
        metric, details = None, dict[str, float]()
        if status is not RunStatus.FAILED:
            metric = float(self.stepper.evaluate("test").metric)
            details = self.stepper.details("test")
            if not math.isfinite(metric):
                metric, status = None, RunStatus.FAILED
                reason = "the last steps broke the model: its metric is not a finite number"
        considered = self.chooser.passes.considered
        return RunEnd(
            status=status,
            reason=reason,
            metric_name=self.task.metric.name,
            metric=metric,
            passes=considered // self.n,
            examples_considered=considered,
            examples_trained=self.ledger.steps * self.config.batch_size,
            flops_spent=self.ledger.spent,
            flops_dense=self.course.flops_dense(considered),
            seconds=self.clock(),
            parameters_sha256=parameters_sha256(self.model),
            details=details,
        )
