"""How a batch is trained on: model, optimizer, update and intensity policies, and the plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import astuple

import torch
from torch import nn

from effcore.checkpoint import State
from effcore.events import KnobValue, RunConfig
from effcore.flops import Cost, count_forward, planned_step
from effcore.intensity.base import INTENSITIES, IntensityPolicy
from effcore.knobs import values_of, with_knob, with_own_knobs
from effcore.plan import (
    FULL,
    Anatomy,
    Moment,
    Plan,
    ResidualStage,
    anatomy_of,
    forward,
    plan_of,
    train_mode,
)
from effcore.tasks.base import Evaluation, Task, make_model
from effcore.training.optim import make_optimizer
from effcore.training.phases import EVALUATION, FORWARD, OPTIMIZER, PhaseClock
from effcore.training.state import (
    fill,
    set_generator,
    set_optimizer,
    state_of_model,
    state_of_optimizer,
)
from effcore.update.base import UPDATES, UpdatePolicy

#: Examples run through frozen stages at a time, and the most that is kept of them, bytes.
_CHUNK, _MOST_KEPT = 4096, 2**29


class Stepper:
    """The training half of a run.

    Args:
        config: From :func:`effcore.config.resolve`.
        task: What is learned.
        device: Where everything lives.
        phases: Is told what begins.
    """

    def __init__(
        self, config: RunConfig, task: Task, device: torch.device, phases: PhaseClock
    ) -> None:
        self.config, self.task, self.device = config, task, device
        self.model = make_model(task, config)
        self.optimizer = make_optimizer(config, self.model)
        self._phases = phases
        self.optimizer.register_step_pre_hook(lambda *_: self._begin_step())
        update, intensity = UPDATES.get(config.update), INTENSITIES.get(config.intensity)
        self.updater: UpdatePolicy = with_own_knobs(update(), config.knobs)
        self.intensity: IntensityPolicy = with_own_knobs(intensity(), config.knobs)
        self.anatomy = anatomy_of(self.model)
        self.plan = FULL
        self.features_NF: torch.Tensor | None = None  # what frozen stages make of all examples
        self._too_many: set[Plan] = set()  # plans whose features would fill the memory
        self._augment = torch.Generator(device=device).manual_seed(config.seed)
        self._costs: dict[tuple[Plan, bool], Cost] = {}
        self._scoring_costs: dict[tuple[Plan, bool, int], float] = {}
        self.cost = self.full_cost = self._priced()  # FLOPs of the next step, and of a whole one
        self._silence()

    def _silence(self) -> None:
        """Let residual stages that join later begin as zeros."""
        first = self.intensity.plan(FULL, Moment(0.0, 0, self.anatomy)).depth
        if first is not None:
            residual = [stage for stage in self.model if isinstance(stage, ResidualStage)]
            for stage in residual[first:]:
                stage.silence()

    def _priced(self) -> Cost:
        """Return what a step costs as now planned."""
        key = self.plan, self.features_NF is not None
        if key not in self._costs:
            self._costs[key] = self._counted()
        return self._costs[key]

    def _counted(self) -> Cost:
        idx_B = torch.arange(self.config.batch_size, device=self.device)
        generator = torch.Generator(device=self.device).manual_seed(0)
        inputs, targets = self._inputs(idx_B, generator)
        first = self._first
        with self.autocast():
            return planned_step(
                self.model,
                lambda m: self.task.losses(forward(m, inputs, self.plan, first), targets),
                self.config.optimizer,
                self.plan,
            )

    @property
    def _first(self) -> int:
        """The stage that a step begins with."""
        return 0 if self.features_NF is None else self.plan.frozen

    def state(self) -> State:
        """Return the model, what the optimizer keeps, and how steps are taken now.

        What frozen stages make of the examples is computed again rather than kept.
        """
        return {
            "model": state_of_model(self.model),
            "optimizer": state_of_optimizer(self.optimizer),
            "update": values_of(self.updater),
            "intensity": values_of(self.intensity),
            "plan": astuple(self.plan),
            "features": self.features_NF is not None,
            "too_many": [astuple(plan) for plan in self._too_many],
            "augment": self._augment.get_state(),
        }

    def restore(self, state: State) -> None:
        """Go on from a state of a run of the same configuration."""
        self.updater = with_own_knobs(self.updater, state["update"])
        self.intensity = with_own_knobs(self.intensity, state["intensity"])
        fill(state_of_model(self.model), state["model"])
        set_optimizer(self.optimizer, state["optimizer"])
        self._too_many = {plan_of(fields) for fields in state["too_many"]}
        self.adopt(plan_of(state["plan"]))
        if state["features"]:
            self.keep_features()  # billed when they were kept at first
        set_generator(self._augment, state["augment"])

    def set_knob(self, name: str, value: KnobValue) -> None:
        """Replace the policy that owns the knob."""
        if name in values_of(self.updater):
            self.updater = with_knob(self.updater, name, value)
        else:
            self.intensity = with_knob(self.intensity, name, value)

    def look_ahead(self, progress: float, step: int) -> bool:
        """Plan the next step; returns whether examples are now of another size."""
        if self.updater.steady and self.intensity.steady:
            return False
        moment = Moment(progress, step, self.anatomy)
        depth = self.intensity.plan(FULL, moment).depth
        in_use = Anatomy(self.anatomy.stages, self.anatomy.branches[:depth])
        update = self.updater.plan(Moment(progress, step, in_use))
        plan = self.intensity.plan(update, moment)
        if plan is self.plan or plan == self.plan:
            return False
        resized = plan.share != self.plan.share
        self.adopt(plan)
        return resized

    def adopt(self, plan: Plan) -> None:
        """Take steps by this plan from now on."""
        refrozen = plan.frozen != self.plan.frozen
        self.plan = plan
        self.features_NF = None  # what other stages made, or another depth of them
        if refrozen:
            train_mode(self.model, plan)
        self.cost = self._priced()

    def worth_keeping(self, examples_left: float) -> bool:
        """Whether to compute what the frozen stages make of everything, once."""
        plan = self.plan
        return (
            plan.frozen > 0
            and self.features_NF is None
            and plan not in self._too_many
            and plan.share == 1.0
            and self.updater.caches
            and not self.task.augmented
            and examples_left > self.task.n_train
        )

    def keep_features(self) -> float:
        """Compute what the frozen stages make of every example; returns the FLOPs."""
        before = self._phases.enter(FORWARD)
        n, plan = self.task.n_train, self.plan
        front = nn.Sequential(*list(self.model)[: plan.frozen])
        whole = Plan(depth=plan.depth)
        found: list[torch.Tensor] = []
        for start in range(0, n, _CHUNK):
            idx_B = torch.arange(start, min(start + _CHUNK, n), device=self.device)
            inputs, _ = self.task.batch(idx_B, self._augment)
            with torch.no_grad(), self.autocast():
                found.append(forward(front, inputs, whole))
            if found[0][0].nbytes * n > _MOST_KEPT:
                self._too_many.add(plan)
                break
        else:
            self.features_NF = torch.cat(found)
            self.cost = self._priced()
        some = inputs[: min(len(inputs), self.config.batch_size)]
        done = min(start + _CHUNK, n)
        self._phases.enter(before)
        return done / len(some) * count_forward(front, lambda m: forward(m, some, whole))

    def inputs(self, idx_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what a step computes with, augmented and of the planned size, and targets."""
        return self._inputs(idx_B, self._augment)

    def _inputs(
        self, idx_B: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets = self.task.batch(idx_B, generator)
        if self.features_NF is not None:
            return self.features_NF.index_select(0, idx_B), targets
        if self.plan.share < 1.0:
            return self.task.reduced(idx_B, inputs, targets, self.plan.share)
        return inputs, targets

    def outputs(self, inputs: torch.Tensor) -> torch.Tensor:
        """Run the model as planned."""
        with self.autocast():
            return forward(self.model, inputs, self.plan, self._first)

    def score(
        self, inputs: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return losses and outputs of a forward pass that trains nothing."""
        with self.looking(), torch.no_grad():
            outputs = forward(self.model, inputs, self.plan, self._first)
            return self.task.losses(outputs, targets), outputs

    def scoring_cost(self, count: int) -> float:
        """Return the FLOPs of scoring so many examples."""
        key = self.plan, self.features_NF is not None, count
        if key not in self._scoring_costs:
            plan, first = self.plan, self._first
            idx_M = torch.arange(count, device=self.device) % self.task.n_train
            generator = torch.Generator(device=self.device).manual_seed(0)
            inputs, _ = self._inputs(idx_M, generator)
            with self.autocast():
                cost = count_forward(self.model, lambda m: forward(m, inputs, plan, first))
            self._scoring_costs[key] = cost
        return self._scoring_costs[key]

    def update(self, loss: torch.Tensor, rate: float) -> None:
        """Descend at a rate; reads nothing back from the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.updater.update(loss, self.model, self.optimizer, self.config.clip_norm)

    def details(self, split: str) -> dict[str, float]:
        """Return what the metric does not tell of a split, by name."""
        with self.looking(), torch.inference_mode():
            return self.task.details(self.model, split)

    def _begin_step(self) -> None:
        self._phases.enter(OPTIMIZER)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the configured mixed precision; nothing at all, which is quicker, for fp32."""
        if self.config.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def evaluate(self, split: str) -> Evaluation:
        """Evaluate without gradient, in evaluation mode."""
        before = self._phases.enter(EVALUATION)
        with self.looking(), torch.inference_mode():
            found = self.task.evaluate(self.model, split)
        self._phases.enter(before)
        return found

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Put the model into evaluation mode for the duration of a block."""
        self.model.eval()
        with self.autocast():
            yield
        train_mode(self.model, self.plan)
