"""The training step of a run: model, optimizer, update and intensity policies, and plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import astuple

import torch
from torch import nn

from effcore.knobs import values_of, with_knob, with_own_knobs
from effcore.policies.intensity.base import INTENSITIES, IntensityPolicy
from effcore.policies.update.base import UPDATES, UpdatePolicy
from effcore.records import KnobValue, RunConfig
from effcore.records.step_plan import (
    FULL_PLAN,
    ModelStructure,
    StepPlan,
    StepProgress,
    plan_from_fields,
)
from effcore.tasks.base import Evaluation, Task, make_model
from effcore.tasks.residual_stage import ResidualStage, structure_of
from effcore.training.checkpoint import State
from effcore.training.checkpoint_tensors import (
    copy_arrays_into,
    model_tensors,
    optimizer_state,
    restore_generator,
    restore_optimizer,
)
from effcore.training.ledger import FlopCost, count_forward_flops, planned_step_cost
from effcore.training.optimizer import make_optimizer
from effcore.training.phase_clock import EVALUATION, FORWARD, OPTIMIZER, PhaseClock
from effcore.training.planned_forward import planned_forward, set_train_mode

#: Examples run through frozen stages at a time, and the largest size of their cache, bytes.
_FEATURE_CHUNK, _MAX_FEATURE_BYTES = 4096, 2**29


class TrainStep:
    """Model, optimizer and step plan of a run.

    Args:
        config: From :func:`effcore.config.resolve`.
        task: The task with its data.
        device: Device of the model and the data.
        phase_clock: Clock that is notified when a phase begins.
    """

    def __init__(
        self, config: RunConfig, task: Task, device: torch.device, phase_clock: PhaseClock
    ) -> None:
        self.config, self.task, self.device = config, task, device
        self.model = make_model(task, config)
        self.optimizer = make_optimizer(config, self.model)
        self._phase_clock = phase_clock
        self.optimizer.register_step_pre_hook(lambda *_: self._enter_optimizer_phase())
        update, intensity = UPDATES.get(config.update), INTENSITIES.get(config.intensity)
        self.update_policy: UpdatePolicy = with_own_knobs(update(), config.knobs)
        self.intensity_policy: IntensityPolicy = with_own_knobs(intensity(), config.knobs)
        self.structure = structure_of(self.model)
        self.plan = FULL_PLAN
        #: Outputs of the frozen stages for all examples, if cached.
        self.cached_features_NF: torch.Tensor | None = None
        self._uncacheable_plans: set[StepPlan] = set()  # their features exceed _MAX_FEATURE_BYTES
        self._augmentation_generator = torch.Generator(device=device).manual_seed(config.seed)
        self._costs: dict[tuple[StepPlan, bool], FlopCost] = {}
        self._scoring_costs: dict[tuple[StepPlan, bool, int], float] = {}
        # The FLOPs of the next step, and of a full one.
        self.step_cost = self.full_step_cost = self._planned_cost()
        self._zero_later_stages()

    def _zero_later_stages(self) -> None:
        """Set the residual stages that are added later to zero output."""
        first_depth = self.intensity_policy.plan(
            FULL_PLAN, StepProgress(0.0, 0, self.structure)
        ).depth
        if first_depth is not None:
            residual = [stage for stage in self.model if isinstance(stage, ResidualStage)]
            for stage in residual[first_depth:]:
                stage.zero_branches()

    def _planned_cost(self) -> FlopCost:
        """Return the cost of a step by the current plan."""
        key = self.plan, self.cached_features_NF is not None
        if key not in self._costs:
            self._costs[key] = self._count_planned_cost()
        return self._costs[key]

    def _count_planned_cost(self) -> FlopCost:
        idx_B = torch.arange(self.config.batch_size, device=self.device)
        generator = torch.Generator(device=self.device).manual_seed(0)
        inputs, targets = self._batch_inputs(idx_B, generator)
        first = self._first_stage
        with self.autocast():
            return planned_step_cost(
                self.model,
                lambda m: self.task.losses(planned_forward(m, inputs, self.plan, first), targets),
                self.config.optimizer,
                self.plan,
            )

    @property
    def _first_stage(self) -> int:
        """The first stage that a step runs; those before it are cached."""
        return 0 if self.cached_features_NF is None else self.plan.frozen

    def state(self) -> State:
        """Return the state of model, optimizer, policies and plan.

        Cached features are not part of it; they are computed again.
        """
        return {
            "model": model_tensors(self.model),
            "optimizer": optimizer_state(self.optimizer),
            "update": values_of(self.update_policy),
            "intensity": values_of(self.intensity_policy),
            "plan": astuple(self.plan),
            "features": self.cached_features_NF is not None,
            "too_many": [astuple(plan) for plan in self._uncacheable_plans],
            "augment": self._augmentation_generator.get_state(),
        }

    def restore(self, state: State) -> None:
        """Resume from a state of a run of the same configuration."""
        self.update_policy = with_own_knobs(self.update_policy, state["update"])
        self.intensity_policy = with_own_knobs(self.intensity_policy, state["intensity"])
        copy_arrays_into(model_tensors(self.model), state["model"])
        restore_optimizer(self.optimizer, state["optimizer"])
        self._uncacheable_plans = {plan_from_fields(fields) for fields in state["too_many"]}
        self.adopt_plan(plan_from_fields(state["plan"]))
        if state["features"]:
            self.cache_features()  # its FLOPs are in the restored ledger already
        restore_generator(self._augmentation_generator, state["augment"])

    def set_knob(self, name: str, value: KnobValue) -> None:
        """Replace the policy that owns the knob."""
        if name in values_of(self.update_policy):
            self.update_policy = with_knob(self.update_policy, name, value)
        else:
            self.intensity_policy = with_knob(self.intensity_policy, name, value)

    def plan_next_step(self, progress: float, step: int) -> bool:
        """Plan the next step; returns whether the size of examples changed."""
        if self.update_policy.has_constant_plan and self.intensity_policy.has_constant_plan:
            return False
        step_progress = StepProgress(progress, step, self.structure)
        depth = self.intensity_policy.plan(FULL_PLAN, step_progress).depth
        used_structure = ModelStructure(self.structure.stages, self.structure.branches[:depth])
        update = self.update_policy.plan(StepProgress(progress, step, used_structure))
        plan = self.intensity_policy.plan(update, step_progress)
        if plan is self.plan or plan == self.plan:
            return False
        resized = plan.share != self.plan.share
        self.adopt_plan(plan)
        return resized

    def adopt_plan(self, plan: StepPlan) -> None:
        """Use this plan from now on."""
        refrozen = plan.frozen != self.plan.frozen
        self.plan = plan
        self.cached_features_NF = None  # computed by other stages or at another depth
        if refrozen:
            set_train_mode(self.model, plan)
        self.step_cost = self._planned_cost()

    def should_cache_features(self, examples_left: float) -> bool:
        """Return whether caching the outputs of the frozen stages pays off now."""
        plan = self.plan
        return (
            plan.frozen > 0
            and self.cached_features_NF is None
            and plan not in self._uncacheable_plans
            and plan.share == 1.0
            and self.update_policy.caches_features
            and not self.task.augmented
            and examples_left > self.task.n_train
        )

    def cache_features(self) -> float:
        """Cache the outputs of the frozen stages for every example; returns the FLOPs."""
        phase_before = self._phase_clock.enter(FORWARD)
        n, plan = self.task.n_train, self.plan
        frozen_stages = nn.Sequential(*list(self.model)[: plan.frozen])
        frozen_plan = StepPlan(depth=plan.depth)
        chunks: list[torch.Tensor] = []
        for start in range(0, n, _FEATURE_CHUNK):
            idx_B = torch.arange(start, min(start + _FEATURE_CHUNK, n), device=self.device)
            inputs, _ = self.task.batch(idx_B, self._augmentation_generator)
            with torch.no_grad(), self.autocast():
                chunks.append(planned_forward(frozen_stages, inputs, frozen_plan))
            if chunks[0][0].nbytes * n > _MAX_FEATURE_BYTES:
                self._uncacheable_plans.add(plan)
                break
        else:
            self.cached_features_NF = torch.cat(chunks)
            self.step_cost = self._planned_cost()
        sample = inputs[: min(len(inputs), self.config.batch_size)]
        done_examples = min(start + _FEATURE_CHUNK, n)
        self._phase_clock.enter(phase_before)
        return (
            done_examples
            / len(sample)
            * count_forward_flops(frozen_stages, lambda m: planned_forward(m, sample, frozen_plan))
        )

    def batch_inputs(self, idx_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the inputs, augmented and of the planned size, and the targets of a batch."""
        return self._batch_inputs(idx_B, self._augmentation_generator)

    def _batch_inputs(
        self, idx_B: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets = self.task.batch(idx_B, generator)
        if self.cached_features_NF is not None:
            return self.cached_features_NF.index_select(0, idx_B), targets
        if self.plan.share < 1.0:
            return self.task.reduce_batch(idx_B, inputs, targets, self.plan.share)
        return inputs, targets

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Run the model by the current plan."""
        with self.autocast():
            return planned_forward(self.model, inputs, self.plan, self._first_stage)

    def score_batch(
        self, inputs: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return losses and outputs of a scoring pass, without gradient, in evaluation mode."""
        with self.evaluation_mode(), torch.no_grad():
            outputs = planned_forward(self.model, inputs, self.plan, self._first_stage)
            return self.task.losses(outputs, targets), outputs

    def scoring_flops(self, count: int) -> float:
        """Return the FLOPs of scoring so many examples."""
        key = self.plan, self.cached_features_NF is not None, count
        if key not in self._scoring_costs:
            plan, first = self.plan, self._first_stage
            idx_M = torch.arange(count, device=self.device) % self.task.n_train
            generator = torch.Generator(device=self.device).manual_seed(0)
            inputs, _ = self._batch_inputs(idx_M, generator)
            with self.autocast():
                cost = count_forward_flops(
                    self.model, lambda m: planned_forward(m, inputs, plan, first)
                )
            self._scoring_costs[key] = cost
        return self._scoring_costs[key]

    def update(self, loss: torch.Tensor, lr: float) -> None:
        """Update the parameters at learning rate ``lr``; reads nothing back from the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.update_policy.update(loss, self.model, self.optimizer, self.config.clip_norm)

    def extra_metrics(self, split: str) -> dict[str, float]:
        """Return the task's additional metrics on a split, by name."""
        with self.evaluation_mode(), torch.inference_mode():
            return self.task.extra_metrics(self.model, split)

    def _enter_optimizer_phase(self) -> None:
        self._phase_clock.enter(OPTIMIZER)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the autocast context; for fp32 a null context, which is quicker."""
        if self.config.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def evaluate(self, split: str) -> Evaluation:
        """Evaluate without gradient, in evaluation mode."""
        phase_before = self._phase_clock.enter(EVALUATION)
        with self.evaluation_mode(), torch.inference_mode():
            evaluation = self.task.evaluate(self.model, split)
        self._phase_clock.enter(phase_before)
        return evaluation

    @contextmanager
    def evaluation_mode(self) -> Iterator[None]:
        """Put the model into evaluation mode for the duration of a block."""
        self.model.eval()
        with self.autocast():
            yield
        set_train_mode(self.model, self.plan)
