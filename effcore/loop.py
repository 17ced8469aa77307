"""The state of one training run; its methods are the lines of the loop in ``trainer.py``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import numpy as np
import torch

from effcore.block import Block
from effcore.config import ConfigError
from effcore.events import (
    EvalEvent,
    Event,
    KnobChange,
    KnobValue,
    LossHistogram,
    PassEvent,
    RunConfig,
    RunEnd,
    RunStart,
    RunStatus,
    StepBlock,
    StepEvent,
    ViewEvent,
)
from effcore.flops import Ledger, planned_step
from effcore.histogram import count_losses
from effcore.knobs import Controls, knobs_of, values_of, with_knob, with_knobs
from effcore.optim import learning_rate_factor, make_optimizer, parameters_sha256
from effcore.passes import Passes
from effcore.selection.base import SELECTIONS, Decision, Pool, SelectionPolicy
from effcore.tasks.base import Attention, Evaluation, make_model, make_task
from effcore.update.base import (
    FULL,
    UPDATES,
    Plan,
    UpdatePolicy,
    forward,
    train_mode,
)

#: Evaluations of the validation split, evenly spaced over the run.
EVALUATIONS = 30
#: How often losses are copied from the device, and how often pictures are drawn.
BLOCK_SECONDS, VIEW_SECONDS = 0.1, 0.5
_BLOCK_STEPS = 512
#: Passes without a single step after which a run is given up.
IDLE_PASSES = 1000

P = TypeVar("P", bound=SelectionPolicy | UpdatePolicy)


class Loop:
    """One run under way: data, model, optimizer, policies, passes and what was spent.

    Args:
        config: From :func:`effcore.config.resolve`.
        controls: Live knob changes and the wish to stop.
        clock: Seconds since the run began.
    """

    def __init__(self, config: RunConfig, controls: Controls, clock: Callable[[], float]) -> None:
        self.config, self.controls, self.clock = config, controls, clock
        torch.set_num_threads(config.threads)  # OpenMP keeps this per thread
        self.device = torch.device(config.device)
        self.task = make_task(config)
        self.n = self.task.n_train
        self.model = make_model(self.task, config)
        self.optimizer = make_optimizer(config, self.model)
        self.selection = _policy(SELECTIONS.get(config.selection)(), config)
        self.updater = _policy(UPDATES.get(config.update)(), config)
        self.augment = torch.Generator(device=self.device).manual_seed(config.seed)
        self.passes = Passes(self.n, config.batch_size, config.seed, self.device)
        infinite = torch.full((self.n,), torch.inf, device=self.device)
        self.pool = Pool(infinite, 0, self.task.loss_kind)
        self.decision = Decision(torch.ones_like(infinite))
        self.trained_N = torch.zeros_like(infinite)
        self.batch_B = torch.arange(config.batch_size, device=self.device)
        self.plan = FULL
        self.step_costs = {FULL: self._cost_of(FULL)}
        self.ledger = Ledger(self.step_costs[FULL])
        self.flops_end = self._flops_end()
        self.block = Block()
        self.replay = list(config.changes)
        self.seen_version = 0  # what was asked for while the run waited is taken at once
        self.now = self.block_due = self.view_due = 0.0
        self.progress = self.evaluate_at = 0.0  # the share of the run that is behind us
        self.considered = self.idle_passes = 0  # by the end of the last step
        self.ask_again_at = math.inf  # the progress at which to decide within a pass

    def _cost_of(self, plan: Plan) -> float:
        return planned_step(self.task, self.model, self.config, self.batch_B, plan)

    @property
    def flops_dense_end(self) -> float:
        """Cost of the dense run of all epochs: what does not fill a batch is not trained on."""
        return self.flops_dense(self.config.epochs * self.n)

    def flops_dense(self, considered: int) -> float:
        """Cost of dense training over ``considered`` examples."""
        return considered // self.config.batch_size * self.ledger.step_flops

    def _flops_end(self) -> float | None:
        """Return what the run may spend, where a budget is set."""
        budget, dense = self.config.budget, self.flops_dense_end
        if budget is None:
            return None
        least = self.ledger.step_flops + self.selection.decision_flops(self.n)
        if budget * dense < least:
            raise ConfigError(
                "budget",
                f"budget={budget:g} is not allowed here: it would not pay for one batch; with "
                f"this batch size and these epochs choose at least {least / dense:.2g}",
            )
        return budget * dense

    def progress_at(self, considered: float, spent: float) -> float:
        """Return the share of the run behind us at a count of examples or of FLOPs."""
        if self.flops_end is not None:
            return min(1.0, spent / self.flops_end)
        return considered / (self.config.epochs * self.n)

    def start(self) -> RunStart:
        """Return the facts fixed before the first step."""
        per_example = self.ledger.step_flops / self.config.batch_size
        dense, end = self.flops_dense_end, self.flops_end
        parameters = sum(p.numel() for p in self.model.parameters())
        return RunStart(self.n, per_example, dense, end, parameters)

    def run(self) -> Iterator[Event]:
        """Train until the passes, the budget or the person's patience are used up."""
        yield from self.evaluate_if_due()
        yield from self.poll()
        while True:
            steps = self.ledger.steps
            yield from self.begin_pass()
            while (batch := self.next_batch()) is not None:
                self.step(batch)
                if self.report_due():  # asked first: a generator costs more than a comparison
                    yield from self.report()
                yield StepEvent(self.ledger.steps, self.progress, len(self.block.rows))
                if self.controls.stop_requested:
                    yield from self.last_look()
                    yield self.end(RunStatus.STOPPED, "stopped on request")
                    return
                # Exactly one look per step count, so that a replay is unambiguous.
                if self.controls.version != self.seen_version or self.replay:
                    yield from self.poll()
                if self.progress >= self.ask_again_at and not self.spent_up():
                    yield from self.decide()
            if self.over():
                break
            self.refuse_to_idle(self.ledger.steps - steps)
        yield from self.last_look()
        yield self.end(RunStatus.FINISHED, "")

    def refuse_to_idle(self, steps: int) -> None:
        """Give up on a policy that draws nothing, pass after pass.

        Raises:
            RuntimeError: No step was taken in ``IDLE_PASSES`` passes.
        """
        self.idle_passes = 0 if steps else self.idle_passes + 1
        if self.idle_passes >= IDLE_PASSES:
            raise RuntimeError(
                f"policy {self.config.selection!r} drew less than one batch in {IDLE_PASSES} "
                "passes: let it skip less, or revisit sooner"
            )

    def begin_pass(self) -> Iterator[Event]:
        """Fix a new order and draw from it."""
        self.trained_N += self.passes.drawn_N
        self.passes.begin()
        yield from self.decide()

    def decide(self) -> Iterator[Event]:
        """Ask the policy, bill it, and draw what of the pass is not yet visited."""
        self.pool = self.known()
        self.decision = self.selection.inclusion(self.pool)
        later = (m for m in self.selection.moments() if m > self.pool.progress)
        self.ask_again_at = min(later, default=math.inf)
        self.ledger.selection_flops += self.selection.decision_flops(self.n)
        self.passes.decide(self.decision)
        drawn = self.passes.drawn_N.cpu().numpy()
        step, index = self.ledger.steps, self.passes.index
        yield PassEvent(step, index, np.packbits(drawn), int(drawn.sum()))
        yield self.histogram()

    def known(self) -> Pool:
        """Return what is known of the examples now."""
        progress = self.progress_at(self.passes.considered, self.ledger.spent)
        index = max(self.passes.index, 0)
        return Pool(self.pool.last_loss_N, index, self.task.loss_kind, progress)

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
        own = wanted.keys() & values_of(self.selection)
        if own and self.passes.index >= 0 and not self.spent_up():
            yield from self.decide()

    def preview(self) -> LossHistogram:
        """Return where the selection knobs asked for would cut the last losses."""
        own = values_of(self.selection)
        asked = {name: value for name, value in self.controls.pending().items() if name in own}
        decision = with_knobs(self.selection, asked).inclusion(self.known())
        return count_losses(self.pool.last_loss_N, decision.threshold, self.ledger.steps)

    def set_knob(self, name: str, value: KnobValue) -> None:
        """Replace the policy that owns the knob."""
        if name in values_of(self.selection):
            self.selection = with_knob(self.selection, name, value)
        else:
            self.updater = with_knob(self.updater, name, value)

    def next_batch(self) -> torch.Tensor | None:
        """Return the next batch, or ``None`` where the pass or the budget ends."""
        plan = self.updater.plan(self.progress, len(self.model))
        if plan is not self.plan:
            self.adopt(plan)
        return None if self.spent_up() else self.passes.next_batch()

    def adopt(self, plan: Plan) -> None:
        """Take steps by this plan from now on."""
        if plan not in self.step_costs:
            self.step_costs[plan] = self._cost_of(plan)
        if plan != self.plan:
            self.plan = plan
            train_mode(self.model, plan)

    def over(self) -> bool:
        """Whether the run has used up its budget, or its passes where it has none."""
        if self.flops_end is not None:
            return self.spent_up()
        return self.passes.index + 1 >= self.config.epochs

    def spent_up(self) -> bool:
        """Whether the budget, if there is one, has no room for one more step."""
        if self.flops_end is None:
            return False
        room = self.flops_end * (1 + 1e-12) - self.ledger.spent
        return room < self.step_costs[self.plan]

    def step(self, idx_B: torch.Tensor) -> None:
        """Train on one batch; reads nothing back from the device."""
        rate = self.config.learning_rate * learning_rate_factor(self.progress_mid_step())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        inputs, targets = self.task.batch(idx_B, self.augment)
        with self.autocast():
            outputs = forward(self.model, inputs, self.plan)
        losses_B = self.task.losses(outputs, targets)
        weight_B = self.passes.weight_B
        loss = losses_B.mean() if weight_B is None else (losses_B * weight_B).mean()
        self.updater.update(loss, self.model, self.optimizer, self.config.clip_norm)
        self.pool.last_loss_N.index_copy_(0, idx_B, losses_B.detach())
        self.task.remember(idx_B, outputs)
        self.batch_B = idx_B
        # What is drawn is the plain mean, as in evaluations; weights only steer the update.
        self.record(rate, loss.detach() if weight_B is None else losses_B.detach().mean())

    def progress_mid_step(self) -> float:
        """Return the progress in the middle of the step about to be taken.

        Neither end of it, so that the first rate is not zero and the last one is not.
        """
        middle = (self.considered + self.passes.considered) / 2
        return self.progress_at(middle, self.ledger.spent + self.step_costs[self.plan] / 2)

    def record(self, rate: float, loss: torch.Tensor) -> None:
        """Note the step in the block; the loss stays on the device."""
        ledger = self.ledger
        ledger.charge(self.step_costs[self.plan])
        steps, spent = ledger.steps, ledger.spent
        self.considered, self.now = self.passes.considered, self.clock()
        self.progress = self.progress_at(self.considered, spent)
        trained, selecting = steps * self.config.batch_size, ledger.selection_flops
        row = (steps, self.considered, trained, self.now, spent, selecting, rate)
        self.block.rows.append(row)
        self.block.losses.append(loss)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the configured mixed precision; nothing at all, which is quicker, for fp32."""
        if self.config.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def report_due(self) -> bool:
        """Whether there is more to say than that a step was taken."""
        return (
            self.now >= self.block_due
            or self.now >= self.view_due
            or self.progress >= self.evaluate_at
            or len(self.block.rows) >= _BLOCK_STEPS
            or self.controls.report_each_step
        )

    def report(self) -> Iterator[Event]:
        """Yield whatever is due; time decides only what is shown."""
        full = len(self.block.rows) >= _BLOCK_STEPS
        if self.now >= self.block_due or full or self.controls.report_each_step:
            self.block_due = self.now + BLOCK_SECONDS
            yield self.take_block()
        if self.now >= self.view_due:
            self.view_due = self.now + VIEW_SECONDS
            yield self.histogram()
            yield self.view()
        yield from self.evaluate_if_due()

    def take_block(self) -> StepBlock:
        """Copy the losses of the block to the host."""
        return self.block.take(self.config.learning_rate)

    def histogram(self) -> LossHistogram:
        """Count the last losses and say where the policy cuts them."""
        return count_losses(self.pool.last_loss_N, self.decision.threshold, self.ledger.steps)

    def view(self) -> ViewEvent:
        """Draw the task's pictures of where the computation goes."""
        drawn_N, loss_N = self.passes.drawn_N, self.pool.last_loss_N
        trained_N = self.trained_N + drawn_N
        with self.looking():
            items = self.task.view(Attention(self.batch_B, drawn_N, trained_N, loss_N, self.model))
        return ViewEvent(self.ledger.steps, items, self.task.captions)

    def evaluate_if_due(self) -> Iterator[Event]:
        """Evaluate the validation split at evenly spaced points of the run."""
        if self.progress >= self.evaluate_at:
            self.evaluate_at = (int(self.progress * EVALUATIONS) + 1) / EVALUATIONS
            yield self.validation()

    def validation(self) -> EvalEvent:
        """Evaluate the validation split; not billed, and the same for every policy."""
        loss, metric = torch.stack(list(self.evaluate("validation"))).tolist()
        where = (self.ledger.steps, self.passes.considered, self.clock())
        return EvalEvent(*where, self.ledger.spent, loss, metric)

    def evaluate(self, split: str) -> Evaluation:
        """Evaluate without gradient, in evaluation mode."""
        with self.looking():
            return self.task.evaluate(self.model, split)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Put the model into evaluation mode, without gradient, for the duration of a block."""
        self.model.eval()
        with torch.inference_mode(), self.autocast():
            yield
        train_mode(self.model, self.plan)

    def last_look(self) -> Iterator[Event]:
        """Yield what came after the last report."""
        if self.block.rows:
            yield self.take_block()
        yield self.validation()
        yield self.histogram()
        yield self.view()

    def end(self, status: RunStatus, reason: str) -> RunEnd:
        """Evaluate the test split, once, and sum up."""
        metric = None
        if status is not RunStatus.FAILED:
            metric = float(self.evaluate("test").metric)
            if not math.isfinite(metric):
                metric, status = None, RunStatus.FAILED
                reason = "the last steps broke the model: its metric is not a finite number"
        considered = self.passes.considered
        return RunEnd(
            status=status,
            reason=reason,
            metric_name=self.task.metric.name,
            metric=metric,
            passes=considered // self.n,
            examples_considered=considered,
            examples_trained=self.ledger.steps * self.config.batch_size,
            flops_spent=self.ledger.spent,
            flops_dense=self.flops_dense(considered),
            seconds=self.clock(),
            parameters_sha256=parameters_sha256(self.model),
        )


def _policy(policy: P, config: RunConfig) -> P:
    """Return the policy with the configuration's knobs that it has."""
    own = {spec.name for spec in knobs_of(policy)}
    return with_knobs(policy, {n: v for n, v in config.knobs.items() if n in own})
