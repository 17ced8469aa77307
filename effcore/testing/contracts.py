"""What everything registered promises: policies, tasks, and the checkpoints of every run."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from effcore.knobs import Controls, knobs_of, with_knob, with_knobs
from effcore.policies.intensity.base import GROWTH_LEVELS, IntensityPolicy
from effcore.policies.selection.base import (
    LOSS_KINDS,
    BatchOutputs,
    BudgetState,
    Decision,
    ExampleState,
    SelectionPolicy,
)
from effcore.policies.update.base import UpdatePolicy
from effcore.records import Event, RunConfig, StepBlock, StepEvent
from effcore.records.deprecation import with_old_keywords
from effcore.records.step_plan import FULL_PLAN, ModelStructure, StepPlan, StepProgress
from effcore.records.views import Scatter, ViewItem, view_arrays, view_from_parts, view_header
from effcore.tasks.base import SIZES, Evaluation, Task, ViewInputs
from effcore.tasks.residual_stage import structure_of
from effcore.testing.tiny_task import TinyTask
from effcore.training.checkpoint import Checkpoint, pack_state, unpack_state
from effcore.training.ledger import count_step_flops
from effcore.training.optimizer import parameters_sha256
from effcore.training.planned_forward import planned_forward
from effcore.training.trainer import Training, train

# Declarations -----------------------------------------------------------------------------


def check_declaration(cls: Any) -> None:
    """Check that a class says what it is, in words and by an id fit for every surface.

    Raises:
        AssertionError: Something is missing or malformed.
    """
    for name in ("id", "title", "summary"):
        text = getattr(cls, name, None)
        assert isinstance(text, str), f"{cls.__name__}.{name} must be text, not {text!r}"
        assert text.strip() == text != "", f"{cls.__name__}.{name} must not be empty or padded"
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", cls.id), (
        f"id {cls.id!r} must be lower-case words joined by hyphens"
    )
    assert cls.summary.endswith("."), f"summary of {cls.id!r} must be a sentence"


def check_knobs(policy: type[Any]) -> None:
    """Check a policy's knobs, and that the policy itself cannot be changed.

    Raises:
        AssertionError: A knob is out of its own range, undocumented, or the policy mutable.
    """
    groups: dict[str, int] = {}
    for spec in knobs_of(policy):
        assert spec.label, f"knob {spec.name!r} needs a label"
        assert spec.help.endswith("."), f"the help of knob {spec.name!r} must be a sentence"
        assert spec.lo < spec.hi, f"knob {spec.name!r} has an empty range"
        assert spec.step > 0, f"knob {spec.name!r} needs a step above 0"
        spec.validate(spec.start)
        if spec.default is not None:
            spec.validate(spec.default)
        assert spec.group or spec.default is not None, f"knob {spec.name!r} needs a default"
        if spec.group:
            groups[spec.group] = groups.get(spec.group, 0) + (spec.default is not None)
    assert all(n == 1 for n in groups.values()), f"one knob of each group has a default: {groups}"
    names = {spec.name for spec in knobs_of(policy)}
    for place, settings in enumerate(getattr(policy, "tuning_grid", ({},))):
        assert bool(settings) == bool(place), "the first of tuning_grid is {}, the defaults"
        assert set(settings) <= names, f"tuning_grid sets what is no knob: {settings}"
        with_knobs(policy(), settings)
    frozen = getattr(policy, "__dataclass_params__", None)
    assert frozen is not None, f"{policy.__name__} must be a dataclass"
    assert frozen.frozen, f"{policy.__name__} must be frozen: a knob change makes a new one"


def knob_extremes(policy: type[Any]) -> Iterable[Any]:
    """Return the policy with defaults, and with each knob at its start and both ends."""
    found = [policy()]
    for spec in knobs_of(policy):
        found += [with_knob(policy(), spec.name, v) for v in (spec.lo, spec.start, spec.hi)]
    return list(dict.fromkeys(found))  # a knob starts, as a rule, where it stands by default


# Selection policies -----------------------------------------------------------------------


_CPU = torch.device("cpu")
_EXAMPLE_COUNT = 97  # examples in a made-up pool; a prime, so that no period divides it
_REMEMBERED_EPOCHS = 6  # passes; as many as any policy looks back, and one more


def example_states(policy: SelectionPolicy) -> Iterable[ExampleState]:
    """Return pools of losses as they occur: unseen, mixed, equal, zero and not numbers.

    What the policy keeps is what it would have kept after some passes over those seen, in
    which the losses of every other example changed from one to the next.
    """
    generator = torch.Generator().manual_seed(0)
    mixed = torch.rand(_EXAMPLE_COUNT, generator=generator).pow(4) * 5
    partly = torch.where(torch.arange(_EXAMPLE_COUNT) % 3 == 0, torch.inf, mixed)
    broken = torch.where(torch.arange(_EXAMPLE_COUNT) % 5 == 0, torch.nan, mixed)
    unseen = torch.full((_EXAMPLE_COUNT,), torch.inf)
    begun = [
        (partly, (7,)),
        (torch.ones(_EXAMPLE_COUNT), (7,)),
        (torch.zeros(_EXAMPLE_COUNT), (7,)),
        (broken, (7,)),
    ]
    for losses, passes in [(unseen, (0,)), (mixed, (0, 1, 7)), *begun]:
        for kind in LOSS_KINDS:
            for pass_index in passes:
                yield _example_state(policy, losses, pass_index, kind)


def _example_state(
    policy: SelectionPolicy,
    losses: torch.Tensor,
    epoch_index: int,
    kind: str,
    device: torch.device = _CPU,
    remembered_epochs: int = _REMEMBERED_EPOCHS,
) -> ExampleState:
    seen = (losses != torch.inf).nonzero()[:, 0].to(device)
    loss_N, index_N = losses.to(device, copy=True), torch.arange(_EXAMPLE_COUNT, device=device)
    memory = policy.initial_memory(_EXAMPLE_COUNT, device)
    if policy.needs_irreducible:
        memory["irreducible_N"] = torch.zeros(_EXAMPLE_COUNT, device=device)
    account = BudgetState(
        epoch_index * _EXAMPLE_COUNT, epoch_index * _EXAMPLE_COUNT / 2, 12 * _EXAMPLE_COUNT
    )
    classes = 3 if kind == "cross_entropy" else 0
    group_N = index_N % classes if classes else None
    pool = ExampleState(loss_N, epoch_index, kind, 0.3, memory, account, group_N, classes)
    passes = min(epoch_index, remembered_epochs)
    for index in range(passes):
        policy.on_epoch_start(memory, pool)
        change_N = 1.0 + 0.2 * ((passes - 1 - index) % 2) * (index_N % 2)
        policy.on_batch_end(memory, _batch_outputs(seen, loss_N * change_N, index, kind))
    policy.on_epoch_start(memory, pool)
    return pool


def _batch_outputs(
    idx_B: torch.Tensor, loss_N: torch.Tensor, epoch_index: int, kind: str
) -> BatchOutputs:
    generator = torch.Generator().manual_seed(epoch_index)
    outputs = torch.randn(len(idx_B), 3, generator=generator).to(idx_B.device)
    classes = kind == "cross_entropy"
    targets = idx_B % 3 if classes else outputs.flip(0)
    return BatchOutputs(idx_B, loss_N.index_select(0, idx_B), outputs, targets, epoch_index, kind)


def check_selection_policy(cls: type[SelectionPolicy]) -> None:
    """Check what every selection policy promises, at every extreme of its knobs.

    Raises:
        AssertionError: It breaks one of the promises.
    """
    check_declaration(cls)
    check_knobs(cls)
    names = {spec.name for spec in knobs_of(cls)}
    assert not (cls.biased and "correction" in names), (
        f"{cls.id!r} is biased, which no correction makes up for: drop the knob or the claim"
    )
    for place, policy in enumerate(knob_extremes(cls)):
        flops = policy.decision_flops(_EXAMPLE_COUNT)
        assert math.isfinite(flops), f"{policy}: a decision must have a cost"
        assert flops >= 0, f"{policy}: a decision must not earn FLOPs"
        for pool in example_states(policy):
            _check_decision(policy, pool)
            _check_choice(policy, pool)
        _check_no_host_reads(policy, (7,) if place else (0, 1, 7))


def _check_no_host_reads(policy: SelectionPolicy, epoch_indices: Sequence[int]) -> None:
    """Decide over tensors without values: reading one to the host raises.

    They take a hundred times as long as others, so the first passes are tried once.
    """
    losses, meta = torch.ones(_EXAMPLE_COUNT), torch.device("meta")
    for kind, pass_index in itertools.product(LOSS_KINDS, epoch_indices):
        pool = _example_state(policy, losses, pass_index, kind, meta, remembered_epochs=1)
        policy.inclusion_probabilities(pool)
        _choose_batch(policy, pool)


def _check_decision(policy: SelectionPolicy, examples: ExampleState) -> None:
    before, state = examples.last_loss_N.clone(), torch.get_rng_state()
    decision, again = (
        policy.inclusion_probabilities(examples),
        policy.inclusion_probabilities(examples),
    )
    pi_N = decision.pi_N
    assert torch.equal(state, torch.get_rng_state()), f"{policy} drew from a global generator"
    assert torch.equal(examples.last_loss_N.nan_to_num(-1), before.nan_to_num(-1)), (
        f"{policy} changed the pool"
    )
    assert pi_N.shape == (_EXAMPLE_COUNT,), (
        f"{policy}: pi_N has shape {tuple(pi_N.shape)}, not ({_EXAMPLE_COUNT},)"
    )
    assert pi_N.dtype == torch.float32, f"{policy}: pi_N is {pi_N.dtype}, not float32"
    assert bool(((pi_N >= 0) & (pi_N <= 1)).all()), f"{policy}: pi_N leaves [0, 1] or is NaN"
    assert torch.equal(pi_N, again.pi_N), f"{policy} answers differently to the same pool"
    if policy.biased:
        unseen_N = examples.last_loss_N == torch.inf
        assert bool((pi_N[unseen_N] == 1).all()), f"{policy} skips examples it never saw"
    else:
        assert bool((pi_N > 0).all()), f"{policy} never draws some: declare it biased"
    threshold = decision.threshold
    assert threshold is None or threshold.dim() == 0, f"{policy}: the threshold must be 0-d"
    _check_weights(policy, decision)


def _choose_batch(policy: SelectionPolicy, examples: ExampleState) -> torch.Tensor | None:
    """Return which of the first examples a policy that scores would train on."""
    count, device = 8, examples.last_loss_N.device
    candidates = policy.scoring_batch_size(count)
    if candidates == count:
        return None
    idx_M = torch.arange(candidates, device=device) % _EXAMPLE_COUNT
    losses_N = torch.linspace(0, 3, _EXAMPLE_COUNT, device=device)
    scored = _batch_outputs(idx_M, losses_N, examples.epoch_index, examples.loss_kind)
    half = torch.full((), 0.5, dtype=torch.float64, device=device)
    return policy.choose_batch(examples, scored, count, half)


def _check_choice(policy: SelectionPolicy, examples: ExampleState) -> None:
    before = {name: kept.clone() for name, kept in examples.memory.items()}
    places, again = _choose_batch(policy, examples), _choose_batch(policy, examples)
    for name, kept in examples.memory.items():
        assert torch.equal(kept.nan_to_num(-1), before[name].nan_to_num(-1)), (
            f"{policy} changes its memory in choosing"
        )
    if places is None or again is None:
        return
    candidates = policy.scoring_batch_size(8)
    assert candidates > 8, f"{policy} scores fewer than it trains on"
    assert places.shape == (8,), f"{policy} chooses {tuple(places.shape)} of 8"
    assert torch.equal(places, again), f"{policy} chooses differently each time"
    assert len(set(places.tolist())) == 8, f"{policy} chooses a candidate twice"
    assert 0 <= int(places.min()) <= int(places.max()) < candidates, f"{policy} chooses nobody"


def _check_weights(policy: SelectionPolicy, decision: Decision) -> None:
    weight_N, correction = decision.weight_N, getattr(policy, "correction", None)
    if weight_N is not None:
        assert not policy.biased, f"{policy} is biased and must not weight"
        assert weight_N.shape == (_EXAMPLE_COUNT,), (
            f"{policy}: weight_N has shape {tuple(weight_N.shape)}"
        )
        assert weight_N.dtype == torch.float32, f"{policy}: weight_N is {weight_N.dtype}"
        good_N = weight_N.isfinite() & (weight_N > 0)
        assert bool(good_N.all()), f"{policy}: a weight is not a positive number"
    if correction == 1:
        full_N = torch.ones(_EXAMPLE_COUNT) if weight_N is None else weight_N * decision.pi_N
        flat_N = full_N.mean().expand(_EXAMPLE_COUNT)
        torch.testing.assert_close(full_N, flat_N, msg=f"{policy}: weights are not as 1/pi")


# Update and intensity policies ------------------------------------------------------------


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


# Tasks ------------------------------------------------------------------------------------


_AUGMENTATION_TRIES = 64


def check_task(cls: type[Task]) -> None:
    """Check what every task promises, on the CPU.

    Raises:
        AssertionError: It breaks one of the promises.
        UncountedOperationError: A model runs an operation nobody accounts for.
    """
    check_declaration(cls)
    task = cls(0, _CPU)
    assert cls.loss_kind in LOSS_KINDS, f"loss_kind {cls.loss_kind!r}: expected {LOSS_KINDS}"
    assert len(cls.models) >= 1, f"task {cls.id!r} needs a model"
    n = cls.count_examples(cls.settings())
    assert task.n_train == n, f"task {cls.id!r} has {task.n_train} examples and counts {n}"
    check_knobs(cls.settings)
    for choice in cls.models:
        assert 1 <= choice.defaults.batch_size <= n, "the default batch must fit the data"
        for size in SIZES:
            _check_model(task, choice.id, size)
    _check_model_sizes(task)
    _check_batches(cls, task)
    _check_evaluation(task)
    _check_view(task)
    _check_example_displays(task)


def _seeded_generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _check_model_sizes(task: Task) -> None:
    for choice in task.models:
        models = [task.build_model(choice.id, 0, _CPU, size) for size in SIZES]
        counts = [sum(p.numel() for p in model.parameters()) for model in models]
        assert counts == sorted(set(counts)), f"sizes of {choice.id!r} do not grow: {counts}"


def _check_model(task: Task, name: str, size: str) -> None:
    state = torch.get_rng_state()
    model, again, other = (task.build_model(name, seed, _CPU, size) for seed in (1, 1, 2))
    assert isinstance(model, nn.Sequential), f"model {name!r} is no sequence of stages"
    assert len(model) >= 2, f"model {name!r} needs two stages, so that one can be frozen"
    full = [any(True for _ in stage.parameters()) for stage in model]
    assert all(full), f"model {name!r} has a stage without parameters: freezing it saves nothing"
    assert torch.equal(state, torch.get_rng_state()), f"model {name!r} left a global generator"
    assert parameters_sha256(model) == parameters_sha256(again), f"{name!r} ignores its seed"
    assert parameters_sha256(model) != parameters_sha256(other), f"{name!r} ignores its seed"
    idx_B = torch.arange(4)
    inputs, targets = task.batch(idx_B, _seeded_generator())
    outputs = model(inputs)
    losses_B = task.losses(outputs, targets)
    assert losses_B.shape == (4,), f"losses have shape {tuple(losses_B.shape)}, not (B,)"
    assert losses_B.dtype == torch.float32, f"losses are {losses_B.dtype}, not float32"
    assert bool(losses_B.isfinite().all()), f"fresh {name!r} has a loss that is not finite"
    task.record_outputs(idx_B, outputs)
    if task.model_choice(name).reducible:
        less, goal = task.reduce_batch(idx_B, inputs, targets, 0.5)
        smaller_B = task.losses(model(less), goal)
        assert smaller_B.shape == (4,), f"model {name!r} does not take examples of half the size"
    flops = count_step_flops(model, lambda m: task.losses(m(inputs), targets))
    assert flops > 0, f"a step of {name!r} has no FLOPs"


def _check_batches(cls: type[Task], task: Task) -> None:
    idx_N = torch.arange(task.n_train)
    first, again = (
        task.batch(idx_N, _seeded_generator()),
        cls(0, _CPU).batch(idx_N, _seeded_generator()),
    )
    for mine, twin in zip(first, again, strict=True):
        assert len(mine) == len(idx_N), f"a batch has {len(mine)} rows for {len(idx_N)} indices"
        assert torch.equal(mine, twin), f"{cls.id!r} is not determined by seed and generator"
    if not cls.is_fit and not cls.fixed_split:
        other = cls(1, _CPU).batch(idx_N, _seeded_generator())
        assert not torch.equal(first[0], other[0]), f"the split of {cls.id!r} ignores its seed"
    if not cls.is_fit:
        _check_disjoint(task)


def _check_disjoint(task: Task) -> None:
    """Compare what models are shown; augmentations must include leaving an example alone."""
    validation, test = (
        _row_bytes(_evaluated_inputs(task, split)) for split in ("validation", "test")
    )
    assert not validation & test, f"{task.id!r}: validation and test share examples"
    generator, idx_N, before = _seeded_generator(), torch.arange(task.n_train), set[bytes]()
    for _ in range(_AUGMENTATION_TRIES):
        train = _row_bytes([task.batch(idx_N, generator)[0]])
        assert not train & (validation | test), f"{task.id!r}: training sees held-out examples"
        if train == before:
            return  # nothing is augmented
        before = train


def _evaluated_inputs(task: Task, split: str) -> list[torch.Tensor]:
    """Return the inputs that evaluating on a split feeds to the model."""
    model = task.build_model(task.models[0].id, 0, _CPU)
    inputs: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda module, args: inputs.append(args[0].clone()))
    with torch.no_grad():
        task.evaluate(model, split)
    return inputs


def _row_bytes(inputs: list[torch.Tensor]) -> set[bytes]:
    found = set[bytes]()
    for batch in inputs:
        flat = batch.reshape(len(batch), -1).contiguous().numpy()
        found.update(flat.view(f"V{flat[0].nbytes}")[:, 0].tolist())
    return found


def _check_evaluation(task: Task) -> None:
    model = task.build_model(task.models[0].id, 0, _CPU).eval()
    for split in ("validation", "test"):
        with torch.inference_mode():
            first, again = task.evaluate(model, split), task.evaluate(model, split)
        for name, value, twin in zip(Evaluation._fields, first, again, strict=True):
            assert value.dim() == 0, f"{split} {name} must be 0-d, not {tuple(value.shape)}"
            assert bool(value.isfinite()), f"{split} {name} of a fresh model is not finite"
            assert torch.equal(value, twin), f"{split} {name} differs between two looks"


def _check_view(task: Task) -> None:
    n, model = task.n_train, task.build_model(task.models[0].id, 0, _CPU).eval()
    before = parameters_sha256(model)
    for drawn_N in (torch.ones(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)):
        losses_N = torch.full((n,), torch.inf)
        with torch.inference_mode():
            items = task.view(
                ViewInputs(torch.arange(4), drawn_N, drawn_N.float(), losses_N, model)
            )
        assert set(items) == set(task.captions), f"of {set(items)} some lack captions"
        for name, item in items.items():
            _check_view_item(name, item)
    assert parameters_sha256(model) == before, f"the view of {task.id!r} changes the model"
    for parameter in model.parameters():  # a run that broke is shown all the same
        parameter.data.fill_(math.nan)
    with torch.inference_mode():
        task.view(ViewInputs(torch.arange(4), drawn_N, drawn_N.float(), losses_N, model))


def _check_view_item(name: str, item: ViewItem) -> None:
    view_from_parts(view_header(item), view_arrays(item))  # lengths fit
    for part, array in view_arrays(item).items():
        wanted = np.float32 if part == "xy" else np.uint8
        assert array.dtype == wanted, f"{part} of {name!r} is {array.dtype}, not {wanted.__name__}"
    if isinstance(item, np.ndarray):
        flat = item.ndim == 2 or (item.ndim == 3 and item.shape[2] == 3)
        assert flat, f"picture {name!r} has shape {item.shape}: expected (H, W) or (H, W, 3)"
    if isinstance(item, Scatter):
        inside = bool(((item.xy_N2 >= 0) & (item.xy_N2 <= 1)).all())
        assert inside, f"points of {name!r} lie outside the unit square"


def _check_example_displays(task: Task) -> None:
    group_N = task.group_N
    for index in (0, task.n_train - 1):
        item, given, spot = task.display_example(index)
        if isinstance(item, str):
            assert item.strip(), f"example {index} is an empty text"
        elif isinstance(item, np.ndarray):
            _check_view_item(f"example {index}", item)
        else:
            assert item, f"example {index} is a row without columns"
            assert all(map(math.isfinite, item.values())), f"example {index} has no number"
        assert isinstance(given, str), f"what is learned of example {index} is no text"
        assert spot is None or min(spot) >= 0, f"example {index} lies outside its picture"
        if group_N is not None:
            named = task.groups[int(group_N[index])]
            assert given == named, f"example {index} is of {named!r} and said to be {given!r}"


# Checkpoints ------------------------------------------------------------------------------


#: Where a run is left where no step is named: a third of its way.
_DEFAULT_LEAVE_SHARE = 1 / 3


class TrainingTrace(NamedTuple):
    """A training that was followed: what it told, and its state where it was looked at."""

    events: list[Event]
    checkpoint: Checkpoint | None


@with_old_keywords
def check_resumes(config: RunConfig, leave_after: int = 0, until: int = 0) -> None:
    """Check that a run taken up from a checkpoint goes on, to the bit, as one never left.

    Args:
        config: The run, on the CPU.
        leave_after: Steps after which it is left; after a third of the way where 0.
        until: Steps after which the two are compared and given up, state by state; at the
            end of both where 0.

    Raises:
        AssertionError: They differ.
    """
    whole = _start_training(config)
    before = _train_until(whole, leave_after, 0 if leave_after else _DEFAULT_LEAVE_SHARE)
    saved = before.checkpoint
    assert saved is not None, f"{config.selection!r} is over before it could be left"
    state = unpack_state(b"".join(bytes(part) for part in pack_state(saved.state)))
    again = _start_training(config, Checkpoint(saved.step, saved.seconds, state))
    never_left, resumed = _train_until(whole, until), _train_until(again, until)
    _check_events_equal(
        config, never_left.events, resumed.events[1:]
    )  # after the facts it starts with
    if never_left.checkpoint is not None or resumed.checkpoint is not None:
        assert never_left.checkpoint is not None, "only one of the two got so far"
        assert resumed.checkpoint is not None, "only one of the two got so far"
        _check_states_equal("run", never_left.checkpoint.state, resumed.checkpoint.state)


def _start_training(config: RunConfig, checkpoint: Checkpoint | None = None) -> Training:
    controls = Controls()
    controls.report_each_step = True  # so that a checkpoint can be taken after each
    return train(config, controls, lambda: 0.0, checkpoint)


def _train_until(training: Training, until: int, share: float = 0.0) -> TrainingTrace:
    """Train to a step or a share of the run and return the state there, else to the end."""
    events: list[Event] = []
    for event in training:
        events.append(event)
        if not isinstance(event, StepEvent) or event.step == 0:
            continue
        if (until and event.step >= until) or (share and event.progress >= share):
            return TrainingTrace(events, training.checkpoint())
    return TrainingTrace(events, None)


def _check_events_equal(config: RunConfig, never_left: list[Event], resumed: list[Event]) -> None:
    """Compare the rest of two runs, event by event; how long things took is left out."""
    one, other = list(_comparable_events(never_left)), list(_comparable_events(resumed))
    for mine, twin in zip(one, other, strict=False):
        assert repr(mine) == repr(twin), (
            f"{config.selection}+{config.update}+{config.intensity}: a resumed run tells {twin}, "
            f"and one never left {mine}"
        )
    assert len(one) == len(other), f"a resumed run tells {len(other)} things, not {len(one)}"


def _comparable_events(events: list[Event]) -> Iterator[Any]:
    for event in events:
        name = type(event).__name__
        if isinstance(event, StepBlock):
            yield name, event.rows.tolist()
        elif name not in ("PhaseEvent", "ViewEvent"):
            yield event


def _check_states_equal(place: str, mine: Any, twin: Any) -> None:
    """Compare two states, down to the bits."""
    if place == "run.phases":  # how long things took
        return
    if isinstance(mine, dict) and isinstance(twin, dict):
        assert mine.keys() == twin.keys(), f"{place} has other parts: {mine.keys() ^ twin.keys()}"
        for name in mine:
            _check_states_equal(f"{place}.{name}", mine[name], twin[name])
    elif isinstance(mine, np.ndarray) and isinstance(twin, np.ndarray):
        same = mine.dtype == twin.dtype and mine.shape == twin.shape
        assert same, f"{place} is {twin.dtype}{twin.shape}, not {mine.dtype}{mine.shape}"
        assert mine.tobytes() == twin.tobytes(), f"{place} is not the same in a resumed run"
    else:
        assert mine == twin, f"{place} is {twin} in a resumed run, and not {mine}"
