"""The contracts that every policy and every task must keep.

A new selection policy, update policy or task is tested by handing its class to
:func:`check_selection_policy`, :func:`check_update_policy` or :func:`check_task`; each
raises ``AssertionError`` with a sentence that says which promise was broken. Nothing here
needs a test framework.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from effcore.flops import count_step
from effcore.intensity.base import LEVELS, IntensityPolicy
from effcore.knobs import knobs_of, with_knob
from effcore.optim import parameters_sha256
from effcore.plan import Anatomy, Moment, Plan, anatomy_of, forward
from effcore.selection.base import Account, Decision, Pool, Seen, SelectionPolicy
from effcore.tasks.base import SIZES, Attention, Evaluation, Task
from effcore.tiny import TinyTask
from effcore.update.base import UpdatePolicy
from effcore.views import Scatter, ViewItem, arrays_of, head_of, rebuild

_CPU = torch.device("cpu")
_N = 97  # examples in a made-up pool; a prime, so that no period divides it
_AUGMENTATIONS = 64

# Every registered class ------------------------------------------------------------------


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
    assert all(n == 1 for n in groups.values()), f"one knob of each group is in force: {groups}"
    frozen = getattr(policy, "__dataclass_params__", None)
    assert frozen is not None, f"{policy.__name__} must be a dataclass"
    assert frozen.frozen, f"{policy.__name__} must be frozen: a knob change makes a new one"


def extremes(policy: type[Any]) -> Iterable[Any]:
    """Return the policy with defaults, and with each knob at its start and both ends."""
    yield policy()
    for spec in knobs_of(policy):
        for value in (spec.lo, spec.start, spec.hi):
            yield with_knob(policy(), spec.name, value)


# Selection -------------------------------------------------------------------------------


def example_pools(policy: SelectionPolicy, device: torch.device = _CPU) -> Iterable[Pool]:
    """Return pools of losses as they occur: unseen, mixed, equal, zero and not numbers.

    What the policy keeps is what it would have kept after two passes over those seen.
    """
    generator = torch.Generator().manual_seed(0)
    mixed = torch.rand(_N, generator=generator).pow(4) * 5
    partly = torch.where(torch.arange(_N) % 3 == 0, torch.inf, mixed)
    broken = torch.where(torch.arange(_N) % 5 == 0, torch.nan, mixed)
    unseen = torch.full((_N,), torch.inf)
    for losses in (unseen, mixed, partly, torch.ones(_N), torch.zeros(_N), broken):
        for kind in ("cross_entropy", "squared_error"):
            for pass_index in (0, 1, 7):
                yield _pool(policy, losses, pass_index, kind, device)


def _pool(
    policy: SelectionPolicy, losses: torch.Tensor, pass_index: int, kind: str, device: torch.device
) -> Pool:
    seen = (losses != torch.inf).nonzero()[:, 0].to(device)
    loss_N, index_N = losses.to(device, copy=True), torch.arange(_N, device=device)
    memory = policy.memory(_N, device)
    if policy.needs_irreducible:
        memory["irreducible_N"] = torch.zeros(_N, device=device)
    account = Account(pass_index * _N, pass_index * _N / 2, 12 * _N)
    classes = 3 if kind == "cross_entropy" else 0
    group_N = index_N % classes if classes else None
    pool = Pool(loss_N, pass_index, kind, 0.3, memory, account, group_N, classes)
    for index in range(min(pass_index, 2)):
        policy.turn(memory, pool)
        policy.observe(memory, _seen(seen, loss_N, index, kind))
    policy.turn(memory, pool)
    return pool


def _seen(idx_B: torch.Tensor, loss_N: torch.Tensor, pass_index: int, kind: str) -> Seen:
    generator = torch.Generator().manual_seed(pass_index)
    outputs = torch.randn(len(idx_B), 3, generator=generator).to(idx_B.device)
    classes = kind == "cross_entropy"
    targets = idx_B % 3 if classes else outputs.flip(0)
    return Seen(idx_B, loss_N.index_select(0, idx_B), outputs, targets, pass_index, kind)


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
    for policy in extremes(cls):
        flops = policy.decision_flops(_N)
        assert math.isfinite(flops), f"{policy}: a decision must have a cost"
        assert flops >= 0, f"{policy}: a decision must not earn FLOPs"
        for pool in example_pools(policy):
            _check_decision(policy, pool)
            _check_choice(policy, pool)
        for pool in example_pools(policy, torch.device("meta")):
            policy.inclusion(pool)  # a tensor without values: reading one to the host raises
            _choose(policy, pool)


def _check_decision(policy: SelectionPolicy, pool: Pool) -> None:
    before, state = pool.last_loss_N.clone(), torch.get_rng_state()
    decision, again = policy.inclusion(pool), policy.inclusion(pool)
    pi_N = decision.pi_N
    assert torch.equal(state, torch.get_rng_state()), f"{policy} drew from a global generator"
    assert torch.equal(pool.last_loss_N.nan_to_num(-1), before.nan_to_num(-1)), (
        f"{policy} changed the pool"
    )
    assert pi_N.shape == (_N,), f"{policy}: pi_N has shape {tuple(pi_N.shape)}, not ({_N},)"
    assert pi_N.dtype == torch.float32, f"{policy}: pi_N is {pi_N.dtype}, not float32"
    assert bool(((pi_N >= 0) & (pi_N <= 1)).all()), f"{policy}: pi_N leaves [0, 1] or is NaN"
    assert torch.equal(pi_N, again.pi_N), f"{policy} answers differently to the same pool"
    if policy.biased:
        unseen_N = pool.last_loss_N == torch.inf
        assert bool((pi_N[unseen_N] == 1).all()), f"{policy} skips examples it never saw"
    else:
        assert bool((pi_N > 0).all()), f"{policy} never draws some: declare it biased"
    threshold = decision.threshold
    assert threshold is None or threshold.dim() == 0, f"{policy}: the threshold must be 0-d"
    _check_weights(policy, decision)


def _choose(policy: SelectionPolicy, pool: Pool) -> torch.Tensor | None:
    """Return which of the first examples a policy that scores would train on."""
    count, device = 8, pool.last_loss_N.device
    candidates = policy.candidates(count)
    if candidates == count:
        return None
    idx_M = torch.arange(candidates, device=device) % _N
    losses_N = torch.linspace(0, 3, _N, device=device)
    scored = _seen(idx_M, losses_N, pool.pass_index, pool.loss_kind)
    half = torch.full((), 0.5, dtype=torch.float64, device=device)
    return policy.choose(pool, scored, count, half)


def _check_choice(policy: SelectionPolicy, pool: Pool) -> None:
    before = {name: kept.clone() for name, kept in pool.memory.items()}
    places, again = _choose(policy, pool), _choose(policy, pool)
    for name, kept in pool.memory.items():
        assert torch.equal(kept.nan_to_num(-1), before[name].nan_to_num(-1)), (
            f"{policy} changes its memory in choosing"
        )
    if places is None or again is None:
        return
    candidates = policy.candidates(8)
    assert candidates > 8, f"{policy} scores fewer than it trains on"
    assert places.shape == (8,), f"{policy} chooses {tuple(places.shape)} of 8"
    assert torch.equal(places, again), f"{policy} chooses differently each time"
    assert len(set(places.tolist())) == 8, f"{policy} chooses a candidate twice"
    assert 0 <= int(places.min()) <= int(places.max()) < candidates, f"{policy} chooses nobody"


def _check_weights(policy: SelectionPolicy, decision: Decision) -> None:
    weight_N, correction = decision.weight_N, getattr(policy, "correction", None)
    if weight_N is not None:
        assert not policy.biased, f"{policy} is biased and must not weight"
        assert weight_N.shape == (_N,), f"{policy}: weight_N has shape {tuple(weight_N.shape)}"
        assert weight_N.dtype == torch.float32, f"{policy}: weight_N is {weight_N.dtype}"
        good_N = weight_N.isfinite() & (weight_N > 0)
        assert bool(good_N.all()), f"{policy}: a weight is not a positive number"
    if correction == 1:
        full_N = torch.ones(_N) if weight_N is None else weight_N * decision.pi_N
        torch.testing.assert_close(full_N, torch.ones(_N), msg=f"{policy}: weights are not 1/pi")


# Update ----------------------------------------------------------------------------------


def check_update_policy(cls: type[UpdatePolicy]) -> None:
    """Check what every update policy promises, at every extreme of its knobs.

    Raises:
        AssertionError: It breaks one of the promises.
    """
    check_declaration(cls)
    check_knobs(cls)
    for policy in extremes(cls):
        for progress in (0.0, 0.5, 1.0):
            _check_plan(policy, progress)
            first, again = (_updated(policy, progress, 8, 0.0) for _ in range(2))
            assert first[1] == again[1], f"{policy} is not deterministic"
            assert 0 < first[0] < math.inf, f"{policy} leaves the parameters as they are"
            moved, _ = _updated(policy, progress, 1, 1e-3)
            assert moved <= 1.001e-3, f"{policy} ignores clip_norm: it moved {moved:g} at rate 1"


def _check_plan(policy: UpdatePolicy, progress: float) -> None:
    for stages, step in itertools.product((1, 2, 7), (0, 5)):
        anatomy = Anatomy(stages, (2,) * (stages - 1))
        moment = Moment(progress, step, anatomy)
        plan = policy.plan(moment)
        assert plan == policy.plan(moment), f"{policy} plans differently each time"
        assert 0 <= plan.frozen < stages, f"{policy} freezes {plan.frozen} of {stages} stages"
        assert set(plan.detached) <= set(range(2 * (stages - 1))), f"{policy} detaches too much"
        known = (plan.depth, plan.share) == (None, 1.0)
        assert known, f"{policy} meddles with what intensity policies decide"


def _updated(
    policy: UpdatePolicy, progress: float, steps: int, clip_norm: float
) -> tuple[float, str]:
    """Return how far plain descent at rate 1 came, and the fingerprint of where it ended."""
    task = TinyTask(0, _CPU)
    model = task.build_model("mlp", 0, _CPU)
    plan = policy.plan(Moment(progress, 0, anatomy_of(model)))
    start = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        inputs, targets = task.batch(torch.arange(16) + 16 * step, generator)
        loss = task.losses(forward(model, inputs, plan), targets).mean()
        policy.update(loss, model, optimizer, clip_norm)
    end = nn.utils.parameters_to_vector(model.parameters()).detach()
    return float((end - start).norm()), parameters_sha256(model)


# Intensity -------------------------------------------------------------------------------


def check_intensity_policy(cls: type[IntensityPolicy]) -> None:
    """Check what every intensity policy promises, at every extreme of its knobs.

    Raises:
        AssertionError: It breaks one of the promises.
    """
    check_declaration(cls)
    check_knobs(cls)
    anatomy = Anatomy(6, (2, 2, 1, 1))
    for policy in extremes(cls):
        before = Plan(frozen=1, detached=(0, 3))
        shares = [before]
        for step in range(21):
            moment = Moment(step / 20, step, anatomy)
            plan = policy.plan(before, moment)
            assert plan == policy.plan(before, moment), f"{policy} plans differently each time"
            kept = (plan.frozen, plan.detached) == (before.frozen, before.detached)
            assert kept, f"{policy} meddles with what update policies decide"
            assert 0 < plan.share <= 1, f"{policy} computes with a share of {plan.share}"
            assert plan.depth is None or 1 <= plan.depth < 4, f"{policy}: depth {plan.depth}"
            shares.append(plan)
        assert plan == before, f"{policy} is not at full intensity when the run ends"
        assert len(set(shares)) <= LEVELS + 1, f"{policy} has too many sizes to cost and compile"


# Tasks -----------------------------------------------------------------------------------


def check_task(cls: type[Task]) -> None:
    """Check what every task promises, on the CPU.

    Raises:
        AssertionError: It breaks one of the promises.
        UncountedOperationError: A model runs an operation nobody accounts for.
    """
    check_declaration(cls)
    task = cls(0, _CPU)
    kinds = ("cross_entropy", "squared_error")
    assert cls.loss_kind in kinds, f"loss_kind {cls.loss_kind!r} must be one of {kinds}"
    assert len(cls.models) >= 1, f"task {cls.id!r} needs a model"
    n = cls.count(cls.settings())
    assert task.n_train == n, f"task {cls.id!r} has {task.n_train} examples and counts {n}"
    check_knobs(cls.settings)
    for choice in cls.models:
        assert 1 <= choice.defaults.batch_size <= n, "the default batch must fit the data"
        for size in SIZES:
            _check_model(task, choice.id, size)
    _check_sizes(task)
    _check_batches(cls, task)
    _check_evaluation(task)
    _check_view(task)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _check_sizes(task: Task) -> None:
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
    inputs, targets = task.batch(idx_B, _generator())
    outputs = model(inputs)
    losses_B = task.losses(outputs, targets)
    assert losses_B.shape == (4,), f"losses have shape {tuple(losses_B.shape)}, not (B,)"
    assert losses_B.dtype == torch.float32, f"losses are {losses_B.dtype}, not float32"
    assert bool(losses_B.isfinite().all()), f"fresh {name!r} has a loss that is not finite"
    task.remember(idx_B, outputs)
    flops = count_step(model, lambda m: task.losses(m(inputs), targets))
    assert flops > 0, f"a step of {name!r} has no FLOPs"


def _check_batches(cls: type[Task], task: Task) -> None:
    idx_N = torch.arange(task.n_train)
    first, again = task.batch(idx_N, _generator()), cls(0, _CPU).batch(idx_N, _generator())
    for mine, twin in zip(first, again, strict=True):
        assert len(mine) == len(idx_N), f"a batch has {len(mine)} rows for {len(idx_N)} indices"
        assert torch.equal(mine, twin), f"{cls.id!r} is not determined by seed and generator"
    if not cls.is_fit and not cls.fixed_split:
        other = cls(1, _CPU).batch(idx_N, _generator())
        assert not torch.equal(first[0], other[0]), f"the split of {cls.id!r} ignores its seed"
    if not cls.is_fit:
        _check_disjoint(task)


def _check_disjoint(task: Task) -> None:
    """Compare what models are shown; augmentations must include leaving an example alone."""
    validation, test = (_rows(_shown(task, split)) for split in ("validation", "test"))
    assert not validation & test, f"{task.id!r}: validation and test share examples"
    generator, idx_N, before = _generator(), torch.arange(task.n_train), set[bytes]()
    for _ in range(_AUGMENTATIONS):
        train = _rows([task.batch(idx_N, generator)[0]])
        assert not train & (validation | test), f"{task.id!r}: training sees held-out examples"
        if train == before:
            return  # nothing is augmented
        before = train


def _shown(task: Task, split: str) -> list[torch.Tensor]:
    """Return the inputs that evaluating on a split feeds to the model."""
    model = task.build_model(task.models[0].id, 0, _CPU)
    inputs: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda module, args: inputs.append(args[0].clone()))
    with torch.no_grad():
        task.evaluate(model, split)
    return inputs


def _rows(inputs: list[torch.Tensor]) -> set[bytes]:
    return {row.contiguous().numpy().tobytes() for batch in inputs for row in batch}


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
            items = task.view(Attention(torch.arange(4), drawn_N, drawn_N.float(), losses_N, model))
        assert set(items) == set(task.captions), f"of {set(items)} some lack captions"
        for name, item in items.items():
            _check_item(name, item)
    assert parameters_sha256(model) == before, f"the view of {task.id!r} changes the model"
    for parameter in model.parameters():  # a run that broke is shown all the same
        parameter.data.fill_(math.nan)
    with torch.inference_mode():
        task.view(Attention(torch.arange(4), drawn_N, drawn_N.float(), losses_N, model))


def _check_item(name: str, item: ViewItem) -> None:
    rebuild(head_of(item), arrays_of(item))  # lengths fit
    for part, array in arrays_of(item).items():
        wanted = np.float32 if part == "xy" else np.uint8
        assert array.dtype == wanted, f"{part} of {name!r} is {array.dtype}, not {wanted.__name__}"
    if isinstance(item, np.ndarray):
        flat = item.ndim == 2 or (item.ndim == 3 and item.shape[2] == 3)
        assert flat, f"picture {name!r} has shape {item.shape}: expected (H, W) or (H, W, 3)"
    if isinstance(item, Scatter):
        inside = bool(((item.xy_N2 >= 0) & (item.xy_N2 <= 1)).all())
        assert inside, f"points of {name!r} lie outside the unit square"
