"""What every update policy and every intensity policy promises."""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn

from effcore.policies.intensity.base import GROWTH_LEVELS, IntensityPolicy
from effcore.policies.update.base import UpdatePolicy
from effcore.records.step_plan import FULL_PLAN, ModelStructure, StepPlan, StepProgress
from effcore.tasks.residual_stage import structure_of
from effcore.testing.declaration_contract import check_declaration, check_knobs, knob_extremes
from effcore.testing.tiny_task import TinyTask
from effcore.training.optimizer import parameters_sha256
from effcore.training.planned_forward import planned_forward

_CPU = torch.device("cpu")


def check_update_policy(cls: type[UpdatePolicy]) -> None:
    """Check what every update policy promises, at every extreme of its knobs.

    Raises:
        AssertionError: It breaks one of the promises.
    """
    check_declaration(cls)
    check_knobs(cls)
    for policy in knob_extremes(cls):
        for progress in (0.0, 0.5, 1.0):
            _check_plan(policy, progress)
            first, again = (_descend_plainly(policy, progress, 8, 0.0) for _ in range(2))
            assert first[1] == again[1], f"{policy} is not deterministic"
            assert 0 < first[0] < math.inf, f"{policy} leaves the parameters as they are"
            moved, _ = _descend_plainly(policy, progress, 1, 1e-3)
            assert moved <= 1.001e-3, f"{policy} ignores clip_norm: it moved {moved:g} at rate 1"


def _check_plan(policy: UpdatePolicy, progress: float) -> None:
    for stages, step in itertools.product((1, 2, 7), (0, 5)):
        anatomy = ModelStructure(stages, (2,) * (stages - 1))
        moment = StepProgress(progress, step, anatomy)
        plan = policy.plan(moment)
        assert plan == policy.plan(moment), f"{policy} plans differently each time"
        assert not policy.has_constant_plan or plan == FULL_PLAN, (
            f"{policy} is steady, yet plans {plan}"
        )
        assert 0 <= plan.frozen < stages, f"{policy} freezes {plan.frozen} of {stages} stages"
        assert set(plan.detached) <= set(range(2 * (stages - 1))), f"{policy} detaches too much"
        known = (plan.depth, plan.share) == (None, 1.0)
        assert known, f"{policy} meddles with what intensity policies decide"


def _descend_plainly(
    policy: UpdatePolicy, progress: float, steps: int, clip_norm: float
) -> tuple[float, str]:
    """Return how far plain descent at rate 1 came, and the fingerprint of where it ended."""
    task = TinyTask(0, _CPU)
    model = task.build_model("mlp", 0, _CPU)
    plan = policy.plan(StepProgress(progress, 0, structure_of(model)))
    start = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        inputs, targets = task.batch(torch.arange(16) + 16 * step, generator)
        loss = task.losses(planned_forward(model, inputs, plan), targets).mean()
        policy.update(loss, model, optimizer, clip_norm)
    end = nn.utils.parameters_to_vector(model.parameters()).detach()
    return float((end - start).norm()), parameters_sha256(model)


def check_intensity_policy(cls: type[IntensityPolicy]) -> None:
    """Check what every intensity policy promises, at every extreme of its knobs.

    Raises:
        AssertionError: It breaks one of the promises.
    """
    check_declaration(cls)
    check_knobs(cls)
    anatomy = ModelStructure(6, (2, 2, 1, 1))
    for policy in knob_extremes(cls):
        before = StepPlan(frozen=1, detached=(0, 3))
        shares = [before]
        for step in range(21):
            moment = StepProgress(min(step / 20, 0.999), step, anatomy)
            plan = policy.plan(before, moment)
            assert plan == policy.plan(before, moment), f"{policy} plans differently each time"
            kept = (plan.frozen, plan.detached) == (before.frozen, before.detached)
            assert kept, f"{policy} meddles with what update policies decide"
            assert 0 < plan.share <= 1, f"{policy} computes with a share of {plan.share}"
            assert plan.depth is None or 1 <= plan.depth < 4, f"{policy}: depth {plan.depth}"
            assert not policy.has_constant_plan or plan == before, (
                f"{policy} is steady, yet plans {plan}"
            )
            shares.append(plan)
        assert plan == before, f"{policy} is not at full intensity when the run ends"
        assert len(set(shares)) <= GROWTH_LEVELS + 1, (
            f"{policy} has too many sizes to cost and compile"
        )
